//! How a job is shown to whom.

use crate::{
    domain::{JobView, NewJob, ShardId, Timestamp},
    http::{access::Principal, state::HttpState},
    store::{
        assemble::{JobParts, JobRow, LiveRow},
        ops::LiveEntry,
    },
};

/// Drops what `principal` may not see.
pub(in crate::http) fn shown(principal: Principal, mut job: JobView) -> JobView {
    if !principal.sees_lease_tokens() {
        job.lease_token = None;
    }
    job
}

/// The same, with what it waits for as its queue's memory has it.
pub(super) fn live(state: &HttpState, principal: Principal, mut job: JobView) -> JobView {
    job.waiting_for = state.platform.waits().of(&job);
    shown(principal, job)
}

/// A job as it was just made, without reading it back: put together by the same code as a read.
pub(super) fn made(job: NewJob, entry: &LiveEntry, at: Timestamp, blocked_reason: Option<String>) -> JobView {
    let options = job.options.to_stored();
    let row = JobRow {
        id: job.id,
        kind: job.kind,
        queue: job.queue,
        tenant: job.tenant,
        payload: job.payload.text().to_owned(),
        priority: job.priority,
        birth_state: entry.state,
        run_at: entry.run_at,
        created_at: at,
        max_attempts: job.max_attempts,
        timeout_seconds: job.timeout_seconds,
        schema_version: job.schema_version,
        idempotency_key: job.idempotency.map(|idempotency| idempotency.key),
        workflow_id: job.workflow_id.map(|workflow| workflow.0),
        dependency_policy: (!job.dependencies.is_empty()).then_some(job.dependency_policy),
        options,
    };
    let live = LiveRow {
        shard: ShardId::of_queue(&entry.queue),
        queue: entry.queue.clone(),
        priority: entry.priority,
        run_at: entry.run_at,
        state: entry.state,
        gate: None,
        attempt: 0,
        fence: crate::domain::Fence(0),
        event_seq: 1,
        blocked_reason,
        last_error: None,
        last_worker: None,
        last_started_at: None,
        execution_ms: 0,
        updated_at: at,
    };
    JobParts { job: row, live: Some(live), lease: None, outcome: None }.view(at)
}
