//! One queue: which jobs wait, in which order, who runs them, and when their leases end.
//!
//! Owns the hot state of its jobs (window, deferred, leases, counts). Does not own rows: a commit decides,
//! and all of this can be read anew. Tells sessions, lease actors, the journal and the console; asks
//! nobody. A panic drops its memory, not its shard's epoch: the next incarnation lets a barrier pass
//! through every journal lane, so that all it had under way is answered, and loads from the store.

/// What a queue decides.
pub mod core;
/// The face of a queue.
pub mod handle;
/// The active jobs and their wheel.
pub mod leases;
/// What a queue is told.
pub mod messages;
/// What it did within the last hour.
pub mod stats;
/// The ready jobs of one priority.
pub mod window;

mod actor;
mod effects;
mod expiry;
mod leasing;
mod load;
mod recount;

pub use actor::{LEASE_SUPERVISORS, LeaseActors, QueueActor, QueueArgs};
