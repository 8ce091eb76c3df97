//! What is read about submissions: the jobs that repeats are answered with, and those past their time to start.

use async_trait::async_trait;

use super::{StoreError, read::IdempotencyRecord};
use crate::domain::{JobId, JobView, ShardId, Timestamp};

/// A job that has not started and is past its `expiresAt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpiredRow {
    /// Its shard.
    pub shard: ShardId,
    /// Its queue.
    pub queue: String,
    /// The job.
    pub job: JobId,
    /// When it was to have started.
    pub expires_at: Timestamp,
}

/// Reads about submissions.
#[async_trait]
pub trait SubmissionReads: Send + Sync {
    /// Jobs by id, with the record behind the key of each that has one that names it. Those that are gone are
    /// left out; the order is free.
    async fn submitted(&self, ids: &[JobId])
    -> Result<Vec<(JobView, Option<IdempotencyRecord>)>, StoreError>;

    /// Live jobs that have never been leased and whose `expires_at` is over by the store's clock, in the order of
    /// `(expires_at, id)` behind `after`, whatever keeps them from starting.
    async fn expired(
        &self,
        after: Option<(Timestamp, JobId)>,
        limit: i64,
    ) -> Result<Vec<ExpiredRow>, StoreError>;
}
