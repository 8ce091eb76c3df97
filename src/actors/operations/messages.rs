//! What a bulk operation is asked to do, and what its actor is told.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    domain::JobId,
    store::{
        ops::{JobPatch, Requester},
        read::JobFilter,
    },
};

/// What is done to each job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BulkAction {
    /// Cancel it.
    Cancel,
    /// Run it again now.
    Retry,
    /// Forget it.
    Delete,
    /// Change it.
    Update,
}

impl BulkAction {
    /// As it is stored and shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Retry => "retry",
            Self::Delete => "delete",
            Self::Update => "update",
        }
    }

    /// The audit log's word for it.
    #[must_use]
    pub fn audited(self) -> &'static str {
        match self {
            Self::Cancel => "jobs.bulk_canceled",
            Self::Retry => "jobs.bulk_retried",
            Self::Delete => "jobs.bulk_deleted",
            Self::Update => "jobs.bulk_updated",
        }
    }
}

/// Which jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Selection {
    /// Those that match.
    Filter(JobFilter),
    /// These.
    Jobs(Vec<JobId>),
}

/// A bulk operation, as it is asked and stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// What is done.
    pub action: BulkAction,
    /// To which jobs.
    pub selection: Selection,
    /// How they are changed.
    pub patch: Option<JobPatch>,
    /// Who asks.
    pub by: Requester,
}

/// A message to the operations' actor.
#[derive(Debug)]
pub enum OperationsMessage {
    /// Private: time to look for what is not finished.
    Tick,
    /// Private: somebody began an operation.
    Look,
    /// Private: what is not finished, or nothing when the store could not say.
    Found(Vec<crate::store::operations::OperationRow>),
    /// Private: a runner has ended.
    Ended(Uuid),
}
