//! The audit log, as it is read. Its rows are written with the changes that they tell of.

use async_trait::async_trait;
use serde::Serialize;
use uuid::Uuid;

use super::error::StoreError;
use crate::domain::{RawJson, Timestamp};

/// Which rows are listed. All that are given must match.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Who did it.
    pub actor: Option<String>,
    /// What was done: `job.updated`, `queue.paused` …
    pub action: Option<String>,
    /// To what kind of thing.
    pub object_type: Option<String>,
    /// To which.
    pub object_id: Option<String>,
    /// At or after.
    pub created_after: Option<Timestamp>,
    /// Before.
    pub created_before: Option<Timestamp>,
}

/// A row of the audit log.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditRow {
    /// Its id; they grow.
    pub id: Uuid,
    /// When, on the store's clock.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who did it.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// To what kind of thing.
    pub object_type: String,
    /// To which.
    pub object_id: String,
    /// What it was before, as far as it was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<RawJson>,
    /// What it is since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<RawJson>,
    /// Why, if it was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The request's `X-Request-Id`.
    pub request_id: String,
}

/// Reads of the audit log.
#[async_trait]
pub trait AuditReads: Send + Sync {
    /// Rows, newest first, with ids below `cursor`.
    async fn audit(
        &self,
        filter: &AuditFilter,
        cursor: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<AuditRow>, StoreError>;
}
