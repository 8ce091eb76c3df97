//! What a shard is told: wake-ups, which coalesce, so they go through the mailbox.

use crate::actors::journal::Outcome;

/// A message to a shard.
#[derive(Debug)]
pub enum ShardMessage {
    /// Something may be in the inbox.
    Wake,
    /// Private: the inbox was read, or not.
    Taken(Outcome),
}
