//! Leases ended for good: completed, failed, canceled.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::{
    super::{
        error::store_error,
        rows::{Columns, clean},
    },
    batch::{Batch, Placed, Results},
};
use crate::{
    domain::{AttemptStatus, EventKind, Fence, JobId, JobState, Timestamp, fingerprint},
    store::{
        StoreError,
        ops::{AttemptError, EndKind, EndOp, Ended, OpResult},
    },
};

/// Ends leases whose fence holds: live row and lease go, the outcome packs the last attempt. Both rows are
/// locked first, the live row before the lease as everywhere: a repeat of the submission that changed the
/// lease meanwhile is seen, because a lock gives the newest row, and the end is at the time behind the locks, so that
/// it is not before that. Look-ups and deletes name the ids only, so
/// that no plan made while the tables were nearly empty looks at other rows.
#[cfg(not(ganger_broken = "no_fence_check"))]
const END: &str = "with ending as materialized (
    select w.id, w.shard, w.state, w.end_kind, w.attempt_status, w.result, w.reason, w.error_type, w.error_message,
           w.stack_trace, l.last_error, l.deaths + w.deaths as deaths, l.queue, l.kind, l.tenant, l.priority, l.run_at,
           l.replay_count, l.last_replayed_at, e.fence, e.event_seq, e.attempt, e.worker, e.granted_at, e.due_at,
           e.started_seq, greatest($13, clock_timestamp()) as at
    from unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::smallint[], $5::smallint[], $6::smallint[],
                $7::integer[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[])
      as w (id, shard, fence, state, end_kind, attempt_status, deaths, result, reason, error_type, error_message,
            stack_trace)
    cross join lateral (select * from job_live l where l.id = w.id limit 1 for update) l
    cross join lateral (select * from lease e where e.job_id = w.id limit 1 for update) e
    where l.shard = w.shard and e.fence = w.fence
), gone as (
    delete from job_live where id = any(array(select id from ending))
), ended as (
    delete from lease where job_id = any(array(select id from ending))
)
insert into outcome (job_id, finished_at, started_at, due_at, run_at, fence, event_seq, started_seq, attempt, deaths,
       replay_count, last_replayed_at, shard, priority, state, end_kind, attempt_status, queue, kind, tenant, worker,
       reason, error_type, error_message, stack_trace, result)
select id, at, granted_at, due_at, run_at, fence, event_seq + 1, started_seq, attempt, deaths,
       replay_count, last_replayed_at, shard, priority, state, end_kind, attempt_status, queue, kind, tenant, worker,
       reason, error_type, coalesce(error_message, case state when 8 then last_error end), stack_trace, result::json
from ending
returning job_id, event_seq, finished_at, shard, queue";

/// The statement without its fence: a test that passes with it proves nothing (`--cfg ganger_broken`).
#[cfg(ganger_broken = "no_fence_check")]
const END: &str = "with ending as materialized (
    select w.id, w.shard, w.state, w.end_kind, w.attempt_status, w.result, w.reason, w.error_type, w.error_message,
           w.stack_trace, l.last_error, l.deaths + w.deaths as deaths, l.queue, l.kind, l.tenant, l.priority, l.run_at,
           l.replay_count, l.last_replayed_at, e.fence, e.event_seq, e.attempt, e.worker, e.granted_at, e.due_at,
           e.started_seq, greatest($13, clock_timestamp()) as at
    from unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::smallint[], $5::smallint[], $6::smallint[],
                $7::integer[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[])
      as w (id, shard, fence, state, end_kind, attempt_status, deaths, result, reason, error_type, error_message,
            stack_trace)
    cross join lateral (select * from job_live l where l.id = w.id limit 1 for update) l
    cross join lateral (select * from lease e where e.job_id = w.id limit 1 for update) e
    where l.shard = w.shard
), gone as (
    delete from job_live where id = any(array(select id from ending))
), ended as (
    delete from lease where job_id = any(array(select id from ending))
)
insert into outcome (job_id, finished_at, started_at, due_at, run_at, fence, event_seq, started_seq, attempt, deaths,
       replay_count, last_replayed_at, shard, priority, state, end_kind, attempt_status, queue, kind, tenant, worker,
       reason, error_type, error_message, stack_trace, result)
select id, at, granted_at, due_at, run_at, fence, event_seq + 1, started_seq, attempt, deaths,
       replay_count, last_replayed_at, shard, priority, state, end_kind, attempt_status, queue, kind, tenant, worker,
       reason, error_type, coalesce(error_message, case state when 8 then last_error end), stack_trace, result::json
from ending
returning job_id, event_seq, finished_at, shard, queue";

/// Puts jobs that failed for good into the dead letters; how often they were replayed goes with them.
const DEAD_LETTER: &str =
    "insert into dead_letter (job_id, failed_at, last_replayed_at, replay_count, shard, queue, fingerprint, error_type,
       kind, tenant)
select o.job_id, o.finished_at, o.last_replayed_at, o.replay_count, o.shard, o.queue, w.fingerprint,
       coalesce(o.error_type, ''), o.kind, o.tenant
from unnest($1::uuid[], $2::text[]) as w (id, fingerprint)
join outcome o on o.job_id = any(array[w.id])
order by o.job_id
on conflict (job_id) do nothing";

/// How attempts are recorded, by job and fence.
const RECORDED: &str = "select w.id, w.fence, coalesce(a.status, o.attempt_status)
from unnest($1::uuid[], $2::bigint[]) as w (id, fence)
left join lateral (select * from attempt a where a.job_id = w.id and a.fence = w.fence limit 1) a on true
left join lateral (select * from outcome o where o.job_id = w.id and o.fence = w.fence limit 1) o on true";

pub(super) const STATEMENTS: &[(&str, &str)] =
    &[("end", END), ("end dead letter", DEAD_LETTER), ("end recorded", RECORDED)];

/// What the end is called in the timeline.
fn event_kind(kind: &EndKind) -> EventKind {
    match kind {
        EndKind::Completed { .. } => EventKind::Completed,
        EndKind::Failed { .. } => EventKind::Failed,
        EndKind::RecoveredFailed { .. } => EventKind::Recovered,
        EndKind::Canceled { .. } => EventKind::Canceled,
        // Not ends for good; they are written by `returned`.
        EndKind::Retry { .. } => EventKind::Retrying,
        EndKind::Recovered { .. } => EventKind::Recovered,
        EndKind::Released { .. } => EventKind::Enqueued,
        EndKind::Snoozed { .. } => EventKind::Scheduled,
    }
}

fn error(kind: &EndKind) -> Option<&AttemptError> {
    match kind {
        EndKind::Failed { error }
        | EndKind::RecoveredFailed { error }
        | EndKind::Retry { error, .. }
        | EndKind::Recovered { error } => Some(error),
        EndKind::Completed { .. }
        | EndKind::Released { .. }
        | EndKind::Snoozed { .. }
        | EndKind::Canceled { .. } => None,
    }
}

pub(super) async fn run(
    batch: &mut Batch<'_>,
    ops: &Placed<'_, EndOp>,
    results: &mut Results,
) -> Result<(), StoreError> {
    if ops.is_empty() {
        return Ok(());
    }
    let ended = end(batch, ops).await?;
    let mut stale = Placed::new();
    let (mut failed, mut fingerprints) = (Vec::new(), Vec::new());
    for (place, op) in ops {
        let Some((seq, at)) = ended.get(&op.job).copied() else {
            stale.push((*place, *op));
            continue;
        };
        let state = op.kind.state();
        if state == JobState::Failed {
            failed.push(op.job.0);
            let print = |error: &AttemptError| fingerprint(&error.error_type, &error.message);
            fingerprints.push(error(&op.kind).map(print).unwrap_or_default());
        }
        batch.effects.told.push((op.job, Some(state), *place));
        let ended = Ended { state, at, seq, entry: None, wakes: Vec::new() };
        results.set(*place, OpResult::Ended(ended));
    }
    if !failed.is_empty() {
        sqlx::query(DEAD_LETTER)
            .bind(failed)
            .bind(fingerprints)
            .execute(&mut *batch.connection)
            .await
            .map_err(store_error)?;
    }
    answer_stale(batch, &stale, results).await
}

/// Runs the statement; gives the `seq` and the time of each job's end.
async fn end(
    batch: &mut Batch<'_>,
    ops: &Placed<'_, EndOp>,
) -> Result<HashMap<JobId, (i64, Timestamp)>, StoreError> {
    let kinds = || ops.iter().map(|(_, op)| &op.kind);
    let text = |of: fn(&AttemptError) -> Option<&str>| -> Vec<Option<String>> {
        kinds().map(|kind| error(kind).and_then(of).map(clean)).collect()
    };
    let deaths = |kind: &EndKind| i32::from(matches!(kind, EndKind::RecoveredFailed { .. }));
    let result = |kind: &'_ EndKind| match kind {
        EndKind::Completed { result } => result.as_ref().map(|result| result.text().to_owned()),
        _ => None,
    };
    let reason = |kind: &EndKind| match kind {
        EndKind::Canceled { reason } => Some(clean(reason)),
        _ => None,
    };
    let rows = sqlx::query(END)
        .bind(ops.iter().map(|(_, op)| op.job.0).collect::<Vec<Uuid>>())
        .bind(ops.iter().map(|(_, op)| op.owner.shard.0).collect::<Vec<i16>>())
        .bind(ops.iter().map(|(_, op)| op.fence.0).collect::<Vec<i64>>())
        .bind(kinds().map(|kind| kind.state().code()).collect::<Vec<i16>>())
        .bind(kinds().map(|kind| event_kind(kind).code()).collect::<Vec<i16>>())
        .bind(kinds().map(|kind| kind.attempt_status().code()).collect::<Vec<i16>>())
        .bind(kinds().map(deaths).collect::<Vec<i32>>())
        .bind(kinds().map(result).collect::<Vec<Option<String>>>())
        .bind(kinds().map(reason).collect::<Vec<Option<String>>>())
        .bind(text(|error| Some(&error.error_type)))
        .bind(text(|error| Some(&error.message)))
        .bind(text(|error| error.stack_trace.as_deref()))
        .bind(batch.now.to_datetime())
        .fetch_all(&mut *batch.connection)
        .await
        .map_err(store_error)?;
    let states: HashMap<JobId, JobState> = ops.iter().map(|(_, op)| (op.job, op.kind.state())).collect();
    let mut ended = HashMap::with_capacity(rows.len());
    for row in &rows {
        let mut columns = Columns::of(row);
        let (job, seq, at, shard) = (columns.job()?, columns.next()?, columns.time()?, columns.shard()?);
        if let Some(state) = states.get(&job) {
            batch.effects.moved(shard, columns.next()?, JobState::Active, *state);
        }
        ended.insert(job, (seq, at));
    }
    Ok(ended)
}

/// Answers ends that found no lease with what is recorded of their attempts.
pub(super) async fn answer_stale(
    batch: &mut Batch<'_>,
    ops: &Placed<'_, EndOp>,
    results: &mut Results,
) -> Result<(), StoreError> {
    if ops.is_empty() {
        return Ok(());
    }
    let rows = sqlx::query(RECORDED)
        .bind(ops.iter().map(|(_, op)| op.job.0).collect::<Vec<Uuid>>())
        .bind(ops.iter().map(|(_, op)| op.fence.0).collect::<Vec<i64>>())
        .fetch_all(&mut *batch.connection)
        .await
        .map_err(store_error)?;
    let mut recorded: BTreeMap<(JobId, Fence), Option<AttemptStatus>> = BTreeMap::new();
    for row in &rows {
        let mut columns = Columns::of(row);
        recorded.insert((columns.job()?, columns.fence()?), columns.attempt_status()?);
    }
    for (place, op) in ops {
        let recorded = recorded.get(&(op.job, op.fence)).copied().flatten();
        results.set(*place, OpResult::Stale { recorded });
    }
    Ok(())
}
