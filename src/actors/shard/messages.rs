//! What a shard is told: wake-ups, which coalesce, so they go through the mailbox.

/// A message to a shard.
#[derive(Debug)]
pub enum ShardMessage {
    /// Something may be in the inbox.
    Wake,
    /// Private: what a read took is handed out, or nothing was taken.
    Taken {
        /// The inbox may hold more.
        is_more: bool,
    },
}
