//! The supervised actors, and the one face they show to the layers above.

/// What every actor stands on.
pub mod runtime;

/// The console hub: every event of the node, in order.
pub mod console;
/// The lanes through which everything is written.
pub mod journal;
/// One actor for each active job.
pub mod lease;
/// Bulk operations.
pub mod operations;
/// The face of the actors.
pub mod platform;
/// One queue.
pub mod queue;
/// A shard and its queues.
pub mod shard;
/// The store's upkeep.
pub mod upkeep;
/// The in-process worker's session.
pub mod worker;
