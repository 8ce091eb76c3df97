//! Counters against the rows they count.
//!
//! A batch changes rows and counters in one transaction, so in every snapshot of the store the sum of a queue's counters
//! equals its rows, whatever is under way. What they differ by in one snapshot is therefore an error that stays the
//! same while batches come and go, and adding it to the counters heals them without stopping anybody: no lock is
//! taken that a batch waits for. Only two healings of the same error must not both be added, so they go one after the
//! other, each with a snapshot of its own.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{JobState, JobView, ShardEpoch, ShardId};

/// A counter that was wrong, and was put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healed {
    /// The queue's shard.
    pub shard: ShardId,
    /// The queue.
    pub queue: String,
    /// Which of its counters.
    pub state: JobState,
    /// What was added to it.
    pub by: i64,
}

/// Compares counters with the truth, and reads what a dashboard lists.
#[async_trait]
pub trait Reconcile {
    /// Counts the unfinished jobs of a queue and puts its counters of them right, under the epoch of its shard (another
    /// owner's queue is left alone). Costs as much as the queue has unfinished jobs.
    async fn reconcile_live(&self, owner: ShardEpoch, queue: &str) -> Result<Vec<Healed>, StoreError>;

    /// Counts the finished jobs of all queues of these shards and puts their counters right. Reads all of
    /// `outcome`: fails, and changes nothing, when that takes longer than the engine lets a reader read.
    async fn reconcile_ended(&self, owners: &[ShardEpoch]) -> Result<Vec<Healed>, StoreError>;

    /// The newest jobs that are shown as blocked, or as throttled (other states give none), newest first. Among
    /// the [`WAITING_LOOKED_AT`] newest that are stored so.
    async fn newest_waiting(&self, state: JobState, limit: i64) -> Result<Vec<JobView>, StoreError>;
}

/// How many are looked at: a throttled job whose time has come is shown as queued, and there may be many such.
pub const WAITING_LOOKED_AT: i64 = 1_000;
