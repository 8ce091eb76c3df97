//! A shard and its queues: starts them, and brings them what other shards left in its inbox.
//!
//! Owns which queues of the shard run. Does not own what they know. The inbox is rows; a wake-up that is
//! lost delays them until upkeep's sweep, at most a second. A read under way is the node's: it outlives the
//! actor, since what it took is nowhere else. Restart policy: permanent, with all queues of
//! the shard below the same supervisor; a restarted shard starts its queues again.

/// The face of the shards.
pub mod handle;
/// What a shard is told.
pub mod messages;

mod actor;
mod core;
mod state;

pub use actor::{ShardActor, ShardArgs};
pub use handle::{ShardWaker, Shards};
pub use messages::ShardMessage;
pub use state::QueueParts;
