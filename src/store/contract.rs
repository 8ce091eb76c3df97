//! What a store engine promises. `sqlite` and `postgres` keep it; one suite checks both.

use async_trait::async_trait;

use super::{
    audit::AuditReads,
    dead_letters::DeadLetters,
    error::{CommitError, StoreError, UnknownCommit},
    logs::JobLogs,
    operations::OperationStore,
    ops::{Op, OpResult},
    queues::QueueReads,
    read::{FinishedFilter, FinishedRow, Graph, Inspection, LeaseRow, QueueRow, ReadyKey, ReadyRow},
    reconcile::Reconcile,
    search::JobSearch,
    submissions::SubmissionReads,
};
use crate::domain::{
    AttemptRow, BootId, Epoch, JobId, JobState, JobView, ShardEpoch, ShardId, TimelineRow, Timestamp,
};

/// What became of a commit whose answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It happened: the results hold.
    Committed,
    /// It did not, and never will: the batch may be repeated.
    RolledBack,
}

/// A durable store.
///
/// Every call ends within the engine's statement deadline. All times are the store's.
#[async_trait]
pub trait Store:
    AuditReads
    + DeadLetters
    + JobLogs
    + JobSearch
    + OperationStore
    + QueueReads
    + Reconcile
    + SubmissionReads
    + Send
    + Sync
    + std::fmt::Debug
    + 'static
{
    /// `sqlite` or `postgres`.
    fn engine(&self) -> &'static str;

    /// How many batches may be committed side by side: 1 on SQLite, 2 to 4 on PostgreSQL.
    fn lanes(&self) -> u16;

    /// Brings the schema up to date, or says that it is not when `apply` is false.
    async fn migrate(&self, apply: bool) -> Result<(), StoreError>;

    /// Checks that the store answers, is writable, and has room on its disk.
    async fn ping(&self) -> Result<(), StoreError>;

    /// The store's clock.
    async fn now(&self) -> Result<Timestamp, StoreError>;

    /// Takes every shard for `boot`: seals, then raises each epoch by one (by
    /// [`RESTORE_STEP`](crate::domain::fence::RESTORE_STEP) when the store was restored from a backup,
    /// which the engine recognises, or `restored` says). Refused with `Refused` while another live
    /// node owns the store (SQLite: its lock file; PostgreSQL: its advisory lock with an advancing
    /// heartbeat), and when an epoch would reach its maximum.
    async fn acquire_all(
        &self,
        boot: BootId,
        address: &str,
        restored: bool,
    ) -> Result<Vec<ShardEpoch>, StoreError>;

    /// Raises one shard's epoch from `seen`; `None` when somebody else did.
    async fn raise_epoch(
        &self,
        shard: ShardId,
        seen: Epoch,
        boot: BootId,
    ) -> Result<Option<Epoch>, StoreError>;

    /// Records that `boot` lives. Called each second.
    async fn heartbeat(&self, boot: BootId) -> Result<(), StoreError>;

    /// Makes partitions ahead of time, drops idempotency keys that no longer hold, and other upkeep.
    async fn maintain(&self) -> Result<(), StoreError>;

    /// Commits a batch as one transaction on `lane`; results are in the order of `ops`.
    ///
    /// Dependents are found in a statement after the one that deleted the parent's live row; parents
    /// are locked (`for key share`, in id order) in a statement before the one that reads their
    /// outcomes. Queue counters change in the same transaction, in a row of their own per lane.
    async fn commit(&self, lane: u16, ops: &[Op]) -> Result<Vec<OpResult>, CommitError>;

    /// Finds out what became of a lost commit. An error means: not yet known, ask again.
    async fn settle(&self, unknown: &UnknownCommit) -> Result<Settled, StoreError>;

    /// The queues that have or had jobs in, or settings for, the shard.
    async fn queues(&self, shard: ShardId) -> Result<Vec<QueueRow>, StoreError>;

    /// The queues of all shards at once, for the start.
    async fn all_queues(&self) -> Result<Vec<QueueRow>, StoreError>;

    /// The next ready jobs of one priority in `(run_at, id)` order behind `after`: live, not blocked, no
    /// gate, no lease, `run_at` at or before `now`.
    async fn ready(
        &self,
        shard: ShardId,
        queue: &str,
        priority: i16,
        after: Option<ReadyKey>,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<ReadyRow>, StoreError>;

    /// The jobs of one priority that become ready after `after` and at or before `until`, in order.
    async fn deferred(
        &self,
        shard: ShardId,
        queue: &str,
        priority: i16,
        after: Timestamp,
        until: Timestamp,
        limit: i64,
    ) -> Result<Vec<ReadyRow>, StoreError>;

    /// How many deferred jobs of a queue are due at `now`, by their stored state's code.
    async fn due_counts(&self, shard: ShardId, queue: &str, now: Timestamp) -> Result<[i64; 9], StoreError>;

    /// The leases of a queue.
    async fn leases(&self, shard: ShardId, queue: &str) -> Result<Vec<LeaseRow>, StoreError>;

    /// The gates that hold jobs of a queue, with how many each holds.
    async fn gates(&self, shard: ShardId, queue: &str) -> Result<Vec<(String, i64)>, StoreError>;

    /// Shards whose inbox has rows.
    async fn inbox_shards(&self) -> Result<Vec<ShardId>, StoreError>;

    /// A job.
    async fn job(&self, id: JobId) -> Result<Option<JobView>, StoreError>;

    /// A job's timeline with `seq` over `after`, oldest first; `None` for an unknown job.
    async fn events(&self, id: JobId, after: i64, limit: i64)
    -> Result<Option<Vec<TimelineRow>>, StoreError>;

    /// A job's attempts, oldest first (by fence); `None` for an unknown job.
    async fn attempts(&self, id: JobId) -> Result<Option<Vec<AttemptRow>>, StoreError>;

    /// The dependency graph around a job; `None` for an unknown job.
    async fn graph(&self, id: JobId) -> Result<Option<Graph>, StoreError>;

    /// All of a job; `None` for an unknown one.
    async fn inspect(&self, id: JobId) -> Result<Option<Inspection>, StoreError>;

    /// The queue and shard of a job; `None` for an unknown one.
    async fn locate(&self, id: JobId) -> Result<Option<(ShardId, String)>, StoreError>;

    /// Finished jobs in the order they were made, behind `after`.
    async fn finished(
        &self,
        filter: &FinishedFilter,
        after: Option<JobId>,
        limit: i64,
    ) -> Result<Vec<FinishedRow>, StoreError>;

    /// Removes up to `limit` jobs that ended in one of `states` before `before` (of `queue` and `tenant`, if given),
    /// with all that belongs to them, `outcome` first; only those of shards owned under `owners`. A job
    /// that an unfinished one depends on stays. Returns how many went.
    async fn remove_finished(
        &self,
        owners: &[ShardEpoch],
        before: Timestamp,
        states: &[JobState],
        queue: Option<&str>,
        tenant: Option<&str>,
        limit: i64,
    ) -> Result<i64, StoreError>;

    /// Releases locks and closes connections; later calls fail.
    async fn close(&self);
}
