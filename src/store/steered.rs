//! What the audit log says when an operator cancels or retries one job. Shared by the engines.

use serde_json::{Value, json};

use super::ops::{AuditOp, CancelOp, Requester, RetryOp};
use crate::domain::{JobId, JobState, RawJson};

/// The row of a job that was canceled.
pub(super) fn canceled(op: &CancelOp, from: JobState) -> Option<AuditOp> {
    let after = json!({ "state": JobState::Canceled });
    row("job.canceled", op.job, op.by.as_ref(), from, &after)
}

/// The row of a running job that was asked to stop.
pub(super) fn asked_to_stop(op: &CancelOp) -> Option<AuditOp> {
    let after = json!({ "state": JobState::Active, "cancelRequested": true });
    row("job.cancel_requested", op.job, op.by.as_ref(), JobState::Active, &after)
}

/// The row of a job that runs again.
pub(super) fn retried(op: &RetryOp, from: JobState) -> Option<AuditOp> {
    row("job.retried", op.job, op.by.as_ref(), from, &json!({ "state": JobState::Queued }))
}

/// Nothing, when nobody asked.
fn row(
    action: &'static str,
    job: JobId,
    by: Option<&Requester>,
    from: JobState,
    after: &Value,
) -> Option<AuditOp> {
    Some(AuditOp {
        action,
        object_type: "job",
        object_id: job.to_string(),
        by: by?.clone(),
        before: Some(RawJson::trusted(json!({ "state": from }).to_string())),
        after: Some(RawJson::trusted(after.to_string())),
    })
}
