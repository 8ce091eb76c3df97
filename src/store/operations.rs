//! Bulk operations: what is kept of them, so that they go on where they were after a restart.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{error::StoreError, ops::AuditOp};
use crate::domain::{JobId, Timestamp};

/// How far a bulk operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OperationState {
    /// Under way, or waiting for its turn.
    Running,
    /// Through.
    Completed,
    /// Given up; `reason` says why.
    Failed,
    /// Stopped by an operator.
    Aborted,
}

impl OperationState {
    /// As it is stored and shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        [Self::Running, Self::Completed, Self::Failed, Self::Aborted]
            .into_iter()
            .find(|state| state.name() == name)
    }
}

/// The most operations that have not ended: each keeps what was asked, up to half a megabyte.
pub const OPERATIONS_WAITING_MAX: i64 = 1_000;

/// A bulk operation that begins.
#[derive(Debug, Clone)]
pub struct NewOperation {
    /// Its id, a UUIDv7.
    pub id: Uuid,
    /// What is done to each job.
    pub action: &'static str,
    /// What was asked, as its runner understands it.
    pub request: String,
    /// Who asked.
    pub actor: String,
}

/// How many jobs an operation has dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Jobs that exist and match.
    pub matched: i64,
    /// Jobs that were changed.
    pub changed: i64,
    /// Jobs that were left as they are, and ids without a job.
    pub skipped: i64,
}

/// A bulk operation.
#[derive(Debug, Clone, PartialEq)]
pub struct OperationRow {
    /// Its id.
    pub id: Uuid,
    /// What is done to each job.
    pub action: String,
    /// How far it is.
    pub state: OperationState,
    /// What was asked.
    pub request: String,
    /// Who asked.
    pub actor: String,
    /// The newest job when it began: what came later is not its business.
    pub bound: JobId,
    /// It has dealt with everything down to here; it goes from the newest to the oldest.
    pub cursor: Option<JobId>,
    /// How many it has dealt with.
    pub tally: Tally,
    /// When it began, on the store's clock.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Why it ended, or what went wrong on the way.
    pub reason: Option<String>,
}

/// What bulk operations need of a store.
#[async_trait]
pub trait OperationStore: Send + Sync {
    /// Keeps an operation, with its row in the audit log. One of this id that is kept already stays as it is.
    /// `false` when [`OPERATIONS_WAITING_MAX`] have not ended: nothing was written.
    async fn begin_operation(&self, operation: &NewOperation, audit: &AuditOp) -> Result<bool, StoreError>;

    /// Keeps how far an operation is: `cursor` and counts together. Returns whether it is still under way; the
    /// counts of one that was stopped meanwhile are kept all the same.
    async fn save_operation(&self, id: Uuid, cursor: JobId, tally: Tally) -> Result<bool, StoreError>;

    /// Ends an operation; `false` when it has ended already, or does not exist.
    async fn finish_operation(
        &self,
        id: Uuid,
        state: OperationState,
        reason: Option<&str>,
    ) -> Result<bool, StoreError>;

    /// An operation.
    async fn operation(&self, id: Uuid) -> Result<Option<OperationRow>, StoreError>;

    /// Operations, newest first, with ids below `cursor`; `request` is left empty.
    async fn operations(&self, cursor: Option<Uuid>, limit: i64) -> Result<Vec<OperationRow>, StoreError>;

    /// Those that have not ended, the oldest first.
    async fn unfinished_operations(&self, limit: i64) -> Result<Vec<OperationRow>, StoreError>;
}
