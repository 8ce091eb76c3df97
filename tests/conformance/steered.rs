//! What the audit log says of jobs that an operator cancels or retries.

use ganger::{
    domain::{JobId, JobState},
    store::{
        Op, OpResult,
        audit::{AuditFilter, AuditRow},
        ops::{CancelOp, Canceled, Requester, Retried, RetryOp},
    },
};
use serde_json::{Value, json};

use super::kit::{Kit, failed, job};

const Q: &str = "mail";

fn by() -> Option<Requester> {
    Some(Requester { actor: "operator".into(), request_id: "req-1".into(), reason: Some("a test".into()) })
}

/// A job that waits.
async fn born(kit: &Kit) -> JobId {
    let new = job(Q);
    kit.submit(&new).await;
    new.id
}

async fn cancel(kit: &Kit, job: JobId, by: Option<Requester>) -> Canceled {
    let op = CancelOp { owner: kit.owner(Q), job, reason: "asked".into(), unstarted_only: false, by };
    match kit.one(Op::Cancel(op)).await {
        OpResult::Canceled(done) => done,
        other => panic!("no cancel: {other:?}"),
    }
}

async fn retry(kit: &Kit, job: JobId) -> Retried {
    match kit.one(Op::Retry(RetryOp { owner: kit.owner(Q), job, by: by() })).await {
        OpResult::Retried(done) => done,
        other => panic!("no retry: {other:?}"),
    }
}

async fn audit(kit: &Kit, job: JobId) -> Vec<AuditRow> {
    let filter = AuditFilter { object_id: Some(job.to_string()), ..AuditFilter::default() };
    kit.store.audit(&filter, None, 100).await.expect("reads")
}

/// What the newest row says: the action, the values before and after it.
async fn newest(kit: &Kit, job: JobId) -> (String, Value, Value) {
    let row = audit(kit, job).await.remove(0);
    assert_eq!((row.actor.as_str(), row.object_type.as_str()), ("operator", "job"));
    assert_eq!((row.request_id.as_str(), row.reason.as_deref()), ("req-1", Some("a test")));
    let value = |json: Option<ganger::domain::RawJson>| {
        serde_json::from_str(json.expect("is there").text()).expect("JSON")
    };
    (row.action, value(row.before), value(row.after))
}

/// A cancel is a row of its own, whatever state the job was in; one that changes nothing is none, nor is one of the
/// node itself.
pub(crate) async fn an_operators_cancel_is_a_row_of_the_audit_log(kit: Kit) {
    let waiting = born(&kit).await;
    assert!(matches!(cancel(&kit, waiting, by()).await, Canceled::Done { .. }));
    let told = ("job.canceled".to_owned(), json!({"state": "queued"}), json!({"state": "canceled"}));
    assert_eq!(newest(&kit, waiting).await, told);
    assert_eq!(cancel(&kit, waiting, by()).await, Canceled::Conflict(JobState::Canceled));
    assert_eq!(audit(&kit, waiting).await.len(), 1);

    let running = born(&kit).await;
    kit.grant(Q, running).await;
    assert_eq!(cancel(&kit, running, by()).await, Canceled::Requested);
    let (action, _, after) = newest(&kit, running).await;
    assert_eq!(action, "job.cancel_requested");
    assert_eq!(after, json!({"state": "active", "cancelRequested": true}));
    assert_eq!(cancel(&kit, running, by()).await, Canceled::AlreadyRequested);
    assert_eq!(audit(&kit, running).await.len(), 1);

    let expired = born(&kit).await;
    assert!(matches!(cancel(&kit, expired, None).await, Canceled::Done { .. }));
    assert!(audit(&kit, expired).await.is_empty());
}

/// So is a retry.
pub(crate) async fn an_operators_retry_is_a_row_of_the_audit_log(kit: Kit) {
    let dead = born(&kit).await;
    kit.run(Q, dead, failed()).await;
    assert!(matches!(retry(&kit, dead).await, Retried::Done { .. }));
    let told = ("job.retried".to_owned(), json!({"state": "failed"}), json!({"state": "queued"}));
    assert_eq!(newest(&kit, dead).await, told);
    assert_eq!(retry(&kit, dead).await, Retried::AlreadyQueued);
    assert_eq!(audit(&kit, dead).await.len(), 1);
}
