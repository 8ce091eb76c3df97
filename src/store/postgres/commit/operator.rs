//! Cancels and retries, asked by operators.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{
    super::{error::store_error, reads, rows::clean},
    batch::{Batch, Placed, Results},
    effects::{Attempt, Event},
    held::{self, Held},
    keys,
};
use crate::{
    domain::{EventKind, JobEvent, JobId, JobState, ShardId},
    store::{
        StoreError,
        assemble::{JobParts, OutcomeRow},
        ops::{CancelOp, Canceled, LiveEntry, OpResult, Retried, RetryOp},
        steered,
    },
};

/// Ends jobs that wait.
const CANCEL_WAITING: &str = "with gone as (
    delete from job_live l
    using unnest($1::uuid[], $2::bigint[], $3::text[]) as w (id, seq, reason)
    where l.id = any(array[w.id])
    returning l.*, w.seq, w.reason
)
insert into outcome (job_id, finished_at, started_at, run_at, fence, event_seq, attempt, deaths, replay_count,
       last_replayed_at, shard, priority, state, end_kind, queue, kind, tenant, worker, reason, error_message,
       execution_ms)
select id, $4, last_started_at, run_at, fence, seq, attempt, deaths, replay_count,
       last_replayed_at, shard, priority, 8, 11, queue, kind, tenant, last_worker, reason, last_error,
       execution_ms
from gone";

/// Ends failed jobs another way. Their former end is written out already.
const CANCEL_FAILED: &str = "update outcome o
   set state = 8, end_kind = 11, finished_at = $4, event_seq = w.seq, reason = w.reason, started_seq = null,
       due_at = null, attempt_status = null, error_type = null, stack_trace = null,
       execution_ms = greatest(0, floor(extract(epoch from o.finished_at - o.started_at) * 1000))::bigint
from unnest($1::uuid[], $2::bigint[], $3::text[]) as w (id, seq, reason)
where o.job_id = any(array[w.id]) and o.state = 7";

/// Makes failed jobs live again; attempts and deaths anew, the fence goes on.
const RETRY_FAILED: &str = "with gone as (
    delete from outcome o
    using unnest($1::uuid[], $2::bigint[]) as w (id, seq)
    where o.job_id = any(array[w.id]) and o.state = 7
    returning o.*, w.seq
)
insert into job_live (id, run_at, updated_at, last_started_at, last_replayed_at, fence, event_seq, execution_ms,
       replay_count, shard, priority, state, queue, kind, tenant, last_error, last_worker)
select job_id, $3, $3, started_at, last_replayed_at, fence, seq,
       greatest(0, coalesce(floor(extract(epoch from finished_at - started_at) * 1000), 0))::bigint,
       replay_count, shard, priority, 0, queue, kind, tenant, error_message, worker
from gone";

pub(super) const UNBURY: &str = "delete from dead_letter where job_id = any($1)";

pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("operator cancel waiting", CANCEL_WAITING),
    ("operator cancel failed", CANCEL_FAILED),
    ("operator retry failed", RETRY_FAILED),
    ("operator unbury", UNBURY),
];

/// Jobs and the `seq` and reason of what happens to them.
type Writes = Vec<(Uuid, i64, String)>;

/// What is to be written.
#[derive(Default)]
struct Plan {
    canceled: Writes,
    canceled_failed: Writes,
    retried_failed: Writes,
    changed: Vec<Held>,
    asked: Vec<Held>,
}

/// The jobs of the operations, as they are behind their locks.
pub(super) struct Found {
    live: BTreeMap<JobId, Held>,
    finished: BTreeMap<JobId, (JobParts, i64)>,
}

pub(super) async fn run(
    batch: &mut Batch<'_>,
    cancels: &Placed<'_, CancelOp>,
    retries: &Placed<'_, RetryOp>,
    results: &mut Results,
) -> Result<(), StoreError> {
    if cancels.is_empty() && retries.is_empty() {
        return Ok(());
    }
    let named = cancels.iter().map(|(_, op)| op.job).chain(retries.iter().map(|(_, op)| op.job));
    let mut found = find(batch, named.map(|job| job.0).collect()).await?;
    let mut plan = Plan::default();
    for (place, op) in cancels {
        let answer = cancel(batch, &mut plan, &mut found, op);
        let audit = match &answer {
            Canceled::Done { from, .. } => steered::canceled(op, *from),
            Canceled::Requested => steered::asked_to_stop(op),
            _ => None,
        };
        audit.into_iter().for_each(|row| batch.effects.audit(row));
        if matches!(answer, Canceled::Done { .. }) {
            batch.effects.told.push((op.job, Some(JobState::Canceled), *place));
        }
        results.set(*place, OpResult::Canceled(answer));
    }
    for (place, op) in retries {
        let answer = retry(batch, &mut plan, &mut found, op);
        if let Retried::Done { from, .. } = &answer {
            steered::retried(op, *from).into_iter().for_each(|row| batch.effects.audit(row));
        }
        if matches!(answer, Retried::Done { from: JobState::Failed, .. }) {
            batch.effects.told.push((op.job, None, *place));
        }
        results.set(*place, OpResult::Retried(answer));
    }
    write(batch, plan).await
}

pub(super) async fn find(batch: &mut Batch<'_>, jobs: BTreeSet<Uuid>) -> Result<Found, StoreError> {
    let live = held::load(batch, jobs.iter().copied().collect()).await?;
    let ends = keys::finished(batch, jobs.iter().filter(|job| !live.contains_key(&JobId(**job)))).await?;
    let ids: Vec<Uuid> = ends.keys().map(|job| job.0).collect();
    let mut finished = BTreeMap::new();
    if !ids.is_empty() {
        for (_, parts) in reads::parts::load(batch.connection, &ids).await? {
            if let Some((_, seq)) = ends.get(&parts.job.id) {
                finished.insert(parts.job.id, (parts, *seq));
            }
        }
    }
    Ok(Found { live, finished })
}

fn cancel(batch: &mut Batch<'_>, plan: &mut Plan, found: &mut Found, op: &CancelOp) -> Canceled {
    let shard = op.owner.shard;
    if let Some(mut row) = take_live(found, op.job, shard) {
        let told = serde_json::json!({ "reason": clean(&op.reason) }).to_string();
        if op.unstarted_only && (row.lease.is_some() || row.fence.0 > 0) {
            let due = row.state.is_deferred() && row.gate.is_none() && row.run_at <= batch.now;
            let waits = if due { JobState::Queued } else { row.state };
            return Canceled::Conflict(if row.lease.is_some() { JobState::Active } else { waits });
        }
        if let Some(lease) = &mut row.lease {
            if lease.cancel_requested {
                return Canceled::AlreadyRequested;
            }
            lease.event_seq += 1;
            lease.cancel_requested = true;
            batch.effects.event(Event {
                job: op.job,
                seq: lease.event_seq,
                at: batch.now,
                kind: EventKind::CancelRequested,
                state: JobState::Active,
                who: Some((lease.attempt, lease.fence, lease.worker.clone())),
                metadata: Some(told),
            });
            plan.asked.push(row);
            return Canceled::Requested;
        }
        row.materialise(batch.now, &mut batch.effects);
        let from = row.state;
        batch.effects.moved(shard, &row.queue, from, JobState::Canceled);
        plan.canceled.push((op.job.0, row.event_seq + 1, clean(&op.reason)));
        return Canceled::Done { from, wakes: Vec::new() };
    }
    let Some((parts, outcome, seq)) = take_finished(found, op.job, shard) else {
        return Canceled::NotFound;
    };
    if op.unstarted_only || outcome.state.next(JobEvent::Canceled).is_err() {
        return Canceled::Conflict(outcome.state);
    }
    write_out(batch, &parts, &outcome);
    batch.effects.moved(shard, &outcome.queue, outcome.state, JobState::Canceled);
    plan.canceled_failed.push((op.job.0, seq + 1, clean(&op.reason)));
    Canceled::Done { from: outcome.state, wakes: Vec::new() }
}

fn retry(batch: &mut Batch<'_>, plan: &mut Plan, found: &mut Found, op: &RetryOp) -> Retried {
    let (shard, now) = (op.owner.shard, batch.now);
    if let Some(mut row) = take_live(found, op.job, shard) {
        if row.lease.is_some() {
            return Retried::Conflict(JobState::Active);
        }
        let due = row.state.is_deferred() && row.gate.is_none() && row.run_at <= now;
        if row.state == JobState::Queued || due {
            return Retried::AlreadyQueued;
        }
        let from = row.state;
        let Ok(state) = from.next(JobEvent::Retried) else {
            return Retried::Conflict(from);
        };
        row.run_at = now;
        row.gate = None;
        row.event(EventKind::Retried, state, now, None, None, &mut batch.effects);
        row.enter(state, &mut batch.effects);
        let entry = row.entry();
        plan.changed.push(row);
        return Retried::Done { entry, from, wakes: Vec::new() };
    }
    let Some((parts, outcome, seq)) = take_finished(found, op.job, shard) else {
        return Retried::NotFound;
    };
    let Ok(state) = outcome.state.next(JobEvent::Retried) else {
        return Retried::Conflict(outcome.state);
    };
    write_out(batch, &parts, &outcome);
    batch.effects.moved(shard, &outcome.queue, outcome.state, state);
    batch.effects.event(Event {
        job: op.job,
        seq: seq + 1,
        at: now,
        kind: EventKind::Retried,
        state,
        who: None,
        metadata: None,
    });
    plan.retried_failed.push((op.job.0, seq + 1, String::new()));
    let (queue, priority, from) = (outcome.queue, outcome.priority, outcome.state);
    let kind = parts.job.kind;
    let entry = LiveEntry { job: op.job, queue, kind, state, priority, run_at: now };
    Retried::Done { entry, from, wakes: Vec::new() }
}

pub(super) fn take_live(found: &mut Found, job: JobId, shard: ShardId) -> Option<Held> {
    if found.live.get(&job)?.shard != shard {
        return None;
    }
    found.live.remove(&job)
}

pub(super) fn take_finished(
    found: &mut Found,
    job: JobId,
    shard: ShardId,
) -> Option<(JobParts, OutcomeRow, i64)> {
    let (parts, seq) = found.finished.remove(&job)?;
    let outcome = parts.outcome.clone().filter(|outcome| outcome.shard == shard)?;
    Some((parts, outcome, seq))
}

/// Writes the rows and the attempt that an outcome stands for.
pub(super) fn write_out(batch: &mut Batch<'_>, parts: &JobParts, outcome: &OutcomeRow) {
    for row in parts.end_rows(outcome) {
        batch.effects.timeline_row(row);
    }
    if let Some(attempt) = parts.packed_attempt(outcome) {
        batch.effects.attempt(Attempt {
            job: attempt.job_id,
            fence: attempt.fence,
            started_at: attempt.started_at,
            finished_at: attempt.finished_at.unwrap_or(outcome.finished_at),
            attempt: attempt.attempt,
            status: attempt.status,
            worker: attempt.worker_id,
            error: attempt
                .error_type
                .map(|kind| (kind, attempt.error_message.unwrap_or_default(), attempt.stack_trace)),
        });
    }
}

async fn write(batch: &mut Batch<'_>, plan: Plan) -> Result<(), StoreError> {
    let unburied: Vec<Uuid> =
        plan.canceled_failed.iter().chain(&plan.retried_failed).map(|(job, ..)| *job).collect();
    end(batch, CANCEL_WAITING, &plan.canceled).await?;
    end(batch, CANCEL_FAILED, &plan.canceled_failed).await?;
    if !plan.retried_failed.is_empty() {
        sqlx::query(RETRY_FAILED)
            .bind(plan.retried_failed.iter().map(|(job, ..)| *job).collect::<Vec<Uuid>>())
            .bind(plan.retried_failed.iter().map(|(_, seq, _)| *seq).collect::<Vec<i64>>())
            .bind(batch.now.to_datetime())
            .execute(&mut *batch.connection)
            .await
            .map_err(store_error)?;
    }
    if !unburied.is_empty() {
        sqlx::query(UNBURY).bind(unburied).execute(&mut *batch.connection).await.map_err(store_error)?;
    }
    held::save(batch, &plan.changed).await?;
    held::save_leases(batch, &plan.asked).await
}

async fn end(batch: &mut Batch<'_>, statement: &'static str, writes: &Writes) -> Result<(), StoreError> {
    if writes.is_empty() {
        return Ok(());
    }
    sqlx::query(statement)
        .bind(writes.iter().map(|(job, ..)| *job).collect::<Vec<Uuid>>())
        .bind(writes.iter().map(|(_, seq, _)| *seq).collect::<Vec<i64>>())
        .bind(writes.iter().map(|(_, _, reason)| reason.as_str()).collect::<Vec<&str>>())
        .bind(batch.now.to_datetime())
        .execute(&mut *batch.connection)
        .await
        .map_err(store_error)?;
    Ok(())
}
