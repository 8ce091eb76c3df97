//! Log lines of jobs, as they are read.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{error::StoreError, ops::LogLevel};
use crate::domain::{Fence, JobId, RawJson, Timestamp};

/// A line that a running job said, as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogRow {
    /// The job.
    pub job_id: JobId,
    /// Its place among all lines of the job, from 1, without gaps.
    pub seq: i64,
    /// When it was said.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The attempt that said it.
    pub attempt: i32,
    /// The fence of that attempt's lease.
    pub fence: Fence,
    /// How loud.
    pub level: LogLevel,
    /// What.
    pub message: String,
    /// More, as a JSON object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fields: Option<RawJson>,
}

/// Which lines are read.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogFilter {
    /// Of this attempt.
    pub attempt: Option<i32>,
    /// At least this loud.
    pub level: Option<LogLevel>,
}

/// Reads of log lines.
#[async_trait]
pub trait JobLogs {
    /// Lines of a job with `seq` over `after`, oldest first; `None` for an unknown job.
    async fn logs(
        &self,
        job: JobId,
        filter: LogFilter,
        after: i64,
        limit: i64,
    ) -> Result<Option<Vec<LogRow>>, StoreError>;

    /// The `seq` of the newest line of a job; 0 without one.
    async fn newest_log(&self, job: JobId) -> Result<i64, StoreError>;
}
