//! The console hub.
