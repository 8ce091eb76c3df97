//! What a worker process does, through its public face: attempts, the outbound guard, the built-in processors.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

mod attempt;
mod files;
mod messages;
mod outbound;
mod reports;
mod support;
