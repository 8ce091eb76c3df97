//! What processors may see and remove of jobs that ended; `system` implements it over the store.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;
use uuid::Uuid;

use super::JobError;

/// Which finished jobs to look at; a missing part matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HistoryFilter {
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Of this queue.
    pub queue: Option<String>,
    /// Of this job type.
    pub job_type: Option<String>,
    /// In this terminal state.
    pub state: Option<String>,
    /// Finished at or after this.
    pub since: Option<DateTime<Utc>>,
    /// Finished before this.
    pub until: Option<DateTime<Utc>>,
}

/// A job that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FinishedJob {
    /// The job.
    pub id: Uuid,
    /// Its type.
    #[serde(rename = "type")]
    pub job_type: String,
    /// Its queue.
    pub queue: String,
    /// Its tenant.
    pub tenant: String,
    /// `completed`, `failed` or `canceled`.
    pub state: String,
    /// How many attempts it took.
    pub attempts: u32,
    /// When it was submitted.
    pub created_at: DateTime<Utc>,
    /// When its last attempt started, if it ever did.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: DateTime<Utc>,
    /// How long its last attempt ran.
    pub execution_ms: Option<u64>,
    /// The last failure's words.
    pub last_error: Option<String>,
}

/// Some finished jobs, newest first.
#[derive(Debug, Clone, Default)]
pub struct HistoryPage {
    /// The jobs.
    pub rows: Vec<FinishedJob>,
    /// Where the next page starts; none after the last.
    pub next: Option<String>,
}

/// Which finished jobs to forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovalScope {
    /// Finished before this.
    pub older_than: DateTime<Utc>,
    /// In one of these terminal states.
    pub states: Vec<String>,
    /// Of this queue, or of all.
    pub queue: Option<String>,
    /// Of this tenant: a cleanup job reaches no further than the tenant it belongs to.
    pub tenant: String,
}

/// The store could not answer; another attempt may help.
#[derive(Debug, thiserror::Error)]
#[error("the job history is unavailable")]
pub struct HistoryError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

impl HistoryError {
    pub(crate) fn into_job_error(self) -> JobError {
        JobError::caused_by("history_unavailable", &self)
    }
}

/// The jobs that ended.
#[async_trait]
pub trait History: Send + Sync + 'static {
    /// The finished jobs that match, from `after` on (a page's `next`), at most `limit`.
    async fn finished_jobs(
        &self,
        filter: &HistoryFilter,
        after: Option<String>,
        limit: u32,
    ) -> Result<HistoryPage, HistoryError>;

    /// Forgets at most `limit` jobs of `scope`, oldest first; answers how many. Fewer than `limit` means that
    /// none are left.
    async fn remove_finished(&self, scope: &RemovalScope, limit: u32) -> Result<u64, HistoryError>;
}
