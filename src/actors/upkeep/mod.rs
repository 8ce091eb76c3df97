//! The store's upkeep: heartbeat, clock, inbox sweep, expiry, partitions, and what readiness says of the store.
//!
//! Owns the cadence, nothing else. A lost tick delays each of these by a second. Its reads and writes are
//! in one task at a time, never in a handler. Restart policy: permanent.

/// The face of upkeep.
pub mod handle;
/// What upkeep is told.
pub mod messages;

mod actor;
mod expiry;
mod reconcile;
mod state;

pub use actor::{UpkeepActor, UpkeepArgs};
pub use handle::StoreHealth;
pub use state::Round;
