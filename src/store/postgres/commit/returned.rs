//! Leases ended with the job living on: retried, released, snoozed, recovered.

use std::collections::HashSet;

use uuid::Uuid;

use super::{
    super::{
        error::store_error,
        rows::{Columns, clean},
    },
    batch::{Batch, Placed, Results},
    effects::Effects,
    end,
    held::{self, Held, HeldLease},
};
use crate::{
    domain::{EventKind, Fence, JobId, JobState, Timestamp},
    store::{
        StoreError,
        ops::{AttemptError, EndKind, EndOp, Ended, OpResult},
    },
};

/// Ends leases whose fence holds.
const RELEASE: &str = "delete from lease e
using unnest($1::uuid[], $2::smallint[], $3::bigint[]) as w (id, shard, fence)
where e.job_id = any(array[w.id]) and e.shard = w.shard and e.fence = w.fence
returning e.job_id";

pub(super) const STATEMENTS: &[(&str, &str)] = &[("returned release", RELEASE)];

pub(super) async fn run(
    batch: &mut Batch<'_>,
    ops: &Placed<'_, EndOp>,
    results: &mut Results,
) -> Result<(), StoreError> {
    if ops.is_empty() {
        return Ok(());
    }
    let mut rows = held::load(batch, ops.iter().map(|(_, op)| op.job.0).collect()).await?;
    let released = release(batch, ops).await?;
    let now = batch.now;
    let (mut stale, mut changed) = (Placed::new(), Vec::new());
    for (place, op) in ops {
        let held = released.contains(&op.job).then(|| rows.remove(&op.job)).flatten();
        let Some((mut row, lease)) = held.and_then(|mut row| row.lease.take().map(|lease| (row, lease)))
        else {
            stale.push((*place, *op));
            continue;
        };
        back(&mut row, &lease, &op.kind, now, &mut batch.effects);
        let (state, seq, entry) = (row.state, row.event_seq, Some(row.entry()));
        results.set(*place, OpResult::Ended(Ended { state, at: now, seq, entry, wakes: Vec::new() }));
        changed.push(row);
    }
    held::save(batch, &changed).await?;
    end::answer_stale(batch, &stale, results).await
}

async fn release(batch: &mut Batch<'_>, ops: &Placed<'_, EndOp>) -> Result<HashSet<JobId>, StoreError> {
    let rows = sqlx::query(RELEASE)
        .bind(ops.iter().map(|(_, op)| op.job.0).collect::<Vec<Uuid>>())
        .bind(ops.iter().map(|(_, op)| op.owner.shard.0).collect::<Vec<i16>>())
        .bind(ops.iter().map(|(_, op)| op.fence.0).collect::<Vec<i64>>())
        .fetch_all(&mut *batch.connection)
        .await
        .map_err(store_error)?;
    rows.iter().map(|row| Columns::of(row).job()).collect()
}

/// The row of a job whose lease ended, with its timeline and attempt.
fn back(row: &mut Held, lease: &HeldLease, kind: &EndKind, now: Timestamp, effects: &mut Effects) {
    row.write_out(lease, effects);
    let who: Option<(i32, Fence, String)> = Some((lease.attempt, lease.fence, lease.worker.clone()));
    let mut attempt = row.attempt(lease, now);
    attempt.status = kind.attempt_status();
    row.event_seq = lease.event_seq;
    row.fence = lease.fence;
    row.last_worker = Some(lease.worker.clone());
    row.last_started_at = Some(lease.granted_at);
    row.execution_ms = now.millis_since(lease.granted_at).max(0);
    if kind.uses_attempt() {
        row.attempt = lease.attempt;
    }
    effects.moved(row.shard, &row.queue, JobState::Active, kind.state());
    row.state = kind.state();
    let mut failed = |row: &mut Held, error: &AttemptError| {
        let (error_type, message) = (clean(&error.error_type), clean(&error.message));
        row.last_error = Some(message.clone());
        let told = serde_json::json!({ "errorType": error_type, "error": message }).to_string();
        attempt.error = Some((error_type, message, error.stack_trace.as_deref().map(clean)));
        Some(told)
    };
    match kind {
        EndKind::Retry { delay_ms, error } => {
            let told = failed(row, error);
            row.run_at = now.plus_millis((*delay_ms).max(0));
            row.event(EventKind::Retrying, JobState::Retrying, now, who, told, effects);
        }
        EndKind::Recovered { error } => {
            let told = failed(row, error);
            row.deaths += 1;
            row.event(EventKind::Recovered, JobState::Retrying, now, who, told, effects);
            row.event(EventKind::Enqueued, JobState::Queued, now, None, None, effects);
            row.run_at = row.run_at.min(now);
        }
        EndKind::Released { reason } => {
            let told = serde_json::json!({ "reason": clean(reason) }).to_string();
            row.event(EventKind::Enqueued, JobState::Queued, now, who, Some(told), effects);
            row.run_at = row.run_at.min(now);
        }
        EndKind::Snoozed { delay_ms } => {
            row.run_at = now.plus_millis((*delay_ms).max(0));
            row.event(EventKind::Scheduled, JobState::Scheduled, now, who, None, effects);
        }
        // Ends for good; they are written by `end`.
        EndKind::Completed { .. }
        | EndKind::Failed { .. }
        | EndKind::RecoveredFailed { .. }
        | EndKind::Canceled { .. } => {}
    }
    effects.attempt(attempt);
}
