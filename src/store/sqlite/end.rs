//! Ends leases.

use std::collections::HashMap;

use serde_json::json;

use super::{
    batch::{Batch, Who},
    rows::{Cols, Rows, ids},
    wake,
};
use crate::{
    domain::{AttemptRow, AttemptStatus, EventKind, Fence, JobId, JobState, ShardId, Timestamp, fingerprint},
    store::{
        OpResult, StoreError,
        ops::{AttemptError, EndKind, EndOp, Ended, LiveEntry},
    },
};

/// The leases to be ended.
const LEASED: &str = "
    select lease.job_id, lease.shard, lease.queue, lease.fence, lease.event_seq
    from jsonb_each(?1) e join lease on lease.job_id = unhex(e.value)";

/// What is needed besides of jobs that live on.
const LIVES_ON: &str = "
    select l.id, lease.attempt, lease.worker, lease.granted_at, lease.started_seq, lease.due_at, l.priority,
           l.run_at, l.attempt, l.deaths, l.kind
    from jsonb_each(?1) e
    join lease on lease.job_id = unhex(e.value)
    join job_live l on l.id = lease.job_id";

/// How attempts that are no leases any more were recorded.
const RECORDED: &str = "
    select unhex(e.value ->> 0), e.value ->> 1, coalesce(a.status, o.attempt_status)
    from jsonb_each(?1) e
    left join attempt a on a.job_id = unhex(e.value ->> 0) and a.fence = e.value ->> 1
    left join outcome o on o.job_id = unhex(e.value ->> 0) and o.fence = e.value ->> 1";

const UNLEASE: &str = "delete from lease where job_id in (select unhex(value ->> 0) from jsonb_each(?1))";

pub(super) const UNLIVE: &str =
    "delete from job_live where id in (select unhex(value ->> 0) from jsonb_each(?1))";

/// The packed end, from the rows it ends: written before they go. An end named `job.recovered` (9) is
/// one more death under the job; a canceled job (8) keeps its last error.
const OUTCOME: &str = "
    insert into outcome (job_id, shard, queue, state, fence, attempt, finished_at, event_seq, last_seq,
                         end_kind, run_at, priority, result, reason, started_seq, started_at, due_at,
                         attempt_status, worker, error_type, error_message, stack_trace, deaths,
                         replay_count, last_replayed_at, tenant, kind)
    select l.id, lease.shard, lease.queue, e.value ->> 1, lease.fence, lease.attempt, e.value ->> 2,
           lease.event_seq + 1, lease.event_seq + 1, e.value ->> 3, l.run_at, l.priority, e.value ->> 5,
           e.value ->> 6, lease.started_seq, lease.granted_at, lease.due_at, e.value ->> 4, lease.worker,
           e.value ->> 7, coalesce(e.value ->> 8, iif(e.value ->> 1 = 8, l.last_error, null)),
           e.value ->> 9, l.deaths + (e.value ->> 3 = 9), l.replay_count,
           l.last_replayed_at, l.tenant, l.kind
    from jsonb_each(?1) e
    join lease on lease.job_id = unhex(e.value ->> 0)
    join job_live l on l.id = lease.job_id";

const DEAD_LETTER: &str = "
    insert into dead_letter (job_id, shard, queue, worker, error_type, error_message, stack_trace,
                             failed_at, attempt, replay_count, last_replayed_at, fingerprint, kind, tenant)
    select o.job_id, o.shard, o.queue, o.worker, o.error_type, o.error_message, o.stack_trace,
           o.finished_at, o.attempt, o.replay_count, o.last_replayed_at, e.value ->> 1, o.kind, o.tenant
    from jsonb_each(?1) e
    join outcome o on o.job_id = unhex(e.value ->> 0)";

const BACK: &str = "
    update job_live set
        state = e.value ->> 1, run_at = e.value ->> 2, attempt = e.value ->> 3, fence = e.value ->> 4,
        event_seq = e.value ->> 5, deaths = e.value ->> 6,
        last_error = coalesce(e.value ->> 7, last_error), last_worker = e.value ->> 8,
        last_started_at = e.value ->> 9, execution_ms = e.value ->> 10, updated_at = e.value ->> 11,
        expires_at = null
    from jsonb_each(?1) e
    where job_live.id = unhex(e.value ->> 0)";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("leased", LEASED),
    ("lives on", LIVES_ON),
    ("recorded", RECORDED),
    ("unlease", UNLEASE),
    ("unlive", UNLIVE),
    ("outcome", OUTCOME),
    ("dead letter", DEAD_LETTER),
    ("back", BACK),
];

struct Leased {
    shard: ShardId,
    queue: String,
    fence: Fence,
    event_seq: i64,
}

/// What a job's next life needs of its last attempt.
struct LivesOn {
    attempt: i32,
    worker: String,
    granted_at: Timestamp,
    started_seq: i64,
    due_at: Option<Timestamp>,
    priority: i16,
    run_at: Timestamp,
    used: i32,
    deaths: i32,
    kind: String,
}

#[derive(Default)]
struct Writes {
    leases: Rows,
    finished: Rows,
    outcomes: Rows,
    dead_letters: Rows,
    back: Rows,
}

/// Ends each lease whose fence is still the one named; another fence writes nothing.
pub(super) async fn run(
    batch: &mut Batch<'_>,
    ops: &[(usize, &EndOp)],
    told: &mut wake::Told,
    results: &mut [Option<OpResult>],
) -> Result<(), StoreError> {
    if ops.is_empty() {
        return Ok(());
    }
    let mut leased = load(batch, ops).await?;
    let mut lives_on = load_lives(batch, ops).await?;
    let mut writes = Writes::default();
    let mut stale = Vec::new();
    for (index, op) in ops {
        let held = leased.get(&op.job).is_some_and(|lease| {
            (lease.fence == op.fence || cfg!(ganger_broken = "no_fence_check"))
                && lease.shard == op.owner.shard
        });
        let Some(lease) = leased.remove(&op.job).filter(|_| held) else {
            stale.push((*index, *op));
            continue;
        };
        writes.leases.row().id(op.job);
        batch.count_move(lease.shard, &lease.queue, JobState::Active, op.kind.state());
        let answer = match lives_on.remove(&op.job) {
            Some(life) => give_back(batch, &mut writes, op, &lease, &life),
            None => {
                told.push(*index, op.job);
                finish(batch.now, &mut writes, op, &lease)
            }
        };
        results[*index] = Some(OpResult::Ended(answer));
    }
    answer_stale(batch, &stale, results).await?;
    batch.write(OUTCOME, writes.outcomes).await?;
    batch.write(DEAD_LETTER, writes.dead_letters).await?;
    batch.write(UNLEASE, writes.leases).await?;
    batch.write(UNLIVE, writes.finished).await?;
    batch.write(BACK, writes.back).await
}

/// The packed end: one outcome row for the attempt, its timeline rows and the end.
fn finish(now: Timestamp, writes: &mut Writes, op: &EndOp, lease: &Leased) -> Ended {
    let state = op.kind.state();
    let (end_kind, result, reason) = match &op.kind {
        EndKind::Completed { result } => (EventKind::Completed, result.as_ref(), None),
        EndKind::RecoveredFailed { .. } => (EventKind::Recovered, None, None),
        EndKind::Canceled { reason } => (EventKind::Canceled, None, Some(reason.as_str())),
        _ => (EventKind::Failed, None, None),
    };
    let error = error_of(&op.kind);
    writes.finished.row().id(op.job);
    writes
        .outcomes
        .row()
        .id(op.job)
        .int(state.code())
        .int(now.0)
        .int(end_kind.code())
        .int(op.kind.attempt_status().code())
        .opt_text(result.map(crate::domain::RawJson::text))
        .opt_text(reason)
        .opt_text(error.map(|error| error.error_type.as_str()))
        .opt_text(error.map(|error| error.message.as_str()))
        .opt_text(error.and_then(|error| error.stack_trace.as_deref()));
    if state == JobState::Failed {
        let print = |error: &AttemptError| fingerprint(&error.error_type, &error.message);
        writes.dead_letters.row().id(op.job).text(&error.map(print).unwrap_or_default());
    }
    Ended { state, at: now, seq: lease.event_seq + 1, entry: None, wakes: Vec::new() }
}

fn error_of(kind: &EndKind) -> Option<&AttemptError> {
    match kind {
        EndKind::Retry { error, .. }
        | EndKind::Failed { error }
        | EndKind::Recovered { error }
        | EndKind::RecoveredFailed { error } => Some(error),
        EndKind::Completed { .. }
        | EndKind::Released { .. }
        | EndKind::Snoozed { .. }
        | EndKind::Canceled { .. } => None,
    }
}

/// The job lives on: its attempt and all its timeline rows are written out.
fn give_back(
    batch: &mut Batch<'_>,
    writes: &mut Writes,
    op: &EndOp,
    lease: &Leased,
    life: &LivesOn,
) -> Ended {
    let now = batch.now;
    let state = op.kind.state();
    let error = error_of(&op.kind);
    let who = Who { attempt: life.attempt, fence: lease.fence, worker: &life.worker };
    if let Some(due) = life.due_at {
        batch.event(op.job, life.started_seq - 1, EventKind::Enqueued, JobState::Queued, due, None, None);
    }
    batch.event(
        op.job,
        life.started_seq,
        EventKind::Started,
        JobState::Active,
        life.granted_at,
        Some(who),
        None,
    );
    let metadata = match (&op.kind, error) {
        (EndKind::Released { reason }, _) => Some(json!({ "reason": reason })),
        (_, Some(error)) => Some(json!({ "errorType": error.error_type, "error": error.message })),
        _ => None,
    };
    let mut seq = lease.event_seq + 1;
    let (kind, shown) = match &op.kind {
        EndKind::Snoozed { .. } => (EventKind::Scheduled, JobState::Scheduled),
        EndKind::Released { .. } => (EventKind::Enqueued, JobState::Queued),
        EndKind::Recovered { .. } => (EventKind::Recovered, JobState::Retrying),
        _ => (EventKind::Retrying, JobState::Retrying),
    };
    batch.event(op.job, seq, kind, shown, now, Some(who), metadata.as_ref());
    if matches!(op.kind, EndKind::Recovered { .. }) {
        // `active → retrying → queued` in one commit.
        seq += 1;
        batch.event(op.job, seq, EventKind::Enqueued, JobState::Queued, now, None, None);
    }
    batch.attempt(&AttemptRow {
        id: String::new(),
        job_id: op.job,
        attempt: life.attempt,
        fence: lease.fence,
        worker_id: life.worker.clone(),
        status: op.kind.attempt_status(),
        error_type: error.map(|error| error.error_type.clone()),
        error_message: error.map(|error| error.message.clone()),
        stack_trace: error.and_then(|error| error.stack_trace.clone()),
        lease_expired: false,
        started_at: life.granted_at,
        finished_at: Some(now),
    });
    let run_at = match op.kind {
        EndKind::Retry { delay_ms, .. } | EndKind::Snoozed { delay_ms } => now.plus_millis(delay_ms.max(0)),
        _ => life.run_at.min(now),
    };
    let recovered = matches!(op.kind, EndKind::Recovered { .. });
    writes
        .back
        .row()
        .id(op.job)
        .int(state.code())
        .int(run_at.0)
        .int(if op.kind.uses_attempt() { life.attempt } else { life.used })
        .int(lease.fence.0)
        .int(seq)
        .int(life.deaths + i32::from(recovered))
        .opt_text(error.map(|error| error.message.as_str()))
        .text(&life.worker)
        .int(life.granted_at.0)
        .int(now.millis_since(life.granted_at).max(0))
        .int(now.0);
    let (queue, kind) = (lease.queue.clone(), life.kind.clone());
    let entry = LiveEntry { job: op.job, queue, kind, state, priority: life.priority, run_at };
    Ended { state, at: now, seq, entry: Some(entry), wakes: Vec::new() }
}

/// Ends without a lease are answered with what became of that attempt.
async fn answer_stale(
    batch: &mut Batch<'_>,
    stale: &[(usize, &EndOp)],
    results: &mut [Option<OpResult>],
) -> Result<(), StoreError> {
    if stale.is_empty() {
        return Ok(());
    }
    let mut asked = Rows::default();
    for (_, op) in stale {
        asked.row().id(op.job).int(op.fence.0);
    }
    let mut recorded = HashMap::new();
    for row in &batch.read(RECORDED, asked.finish()).await? {
        let mut cols = Cols::of(row);
        let key: (JobId, i64) = (cols.job()?, cols.get()?);
        recorded.insert(key, cols.opt_code(AttemptStatus::from_code)?);
    }
    for (index, op) in stale {
        let recorded = recorded.get(&(op.job, op.fence.0)).copied().flatten();
        results[*index] = Some(OpResult::Stale { recorded });
    }
    Ok(())
}

async fn load(batch: &mut Batch<'_>, ops: &[(usize, &EndOp)]) -> Result<HashMap<JobId, Leased>, StoreError> {
    let rows = batch.read(LEASED, ids(ops.iter().map(|(_, op)| op.job))).await?;
    let mut leased = HashMap::with_capacity(rows.len());
    for row in &rows {
        let mut cols = Cols::of(row);
        let job = cols.job()?;
        let (shard, queue) = (cols.shard()?, cols.get()?);
        leased.insert(job, Leased { shard, queue, fence: Fence(cols.get()?), event_seq: cols.get()? });
    }
    Ok(leased)
}

async fn load_lives(
    batch: &mut Batch<'_>,
    ops: &[(usize, &EndOp)],
) -> Result<HashMap<JobId, LivesOn>, StoreError> {
    let mut lives = HashMap::new();
    if ops.iter().all(|(_, op)| op.kind.state().is_terminal()) {
        return Ok(lives);
    }
    let on = ops.iter().filter(|(_, op)| !op.kind.state().is_terminal());
    for row in &batch.read(LIVES_ON, ids(on.map(|(_, op)| op.job))).await? {
        let mut cols = Cols::of(row);
        let job = cols.job()?;
        let life = LivesOn {
            attempt: cols.int()?,
            worker: cols.get()?,
            granted_at: cols.time()?,
            started_seq: cols.get()?,
            due_at: cols.opt_time()?,
            priority: cols.int()?,
            run_at: cols.time()?,
            used: cols.int()?,
            deaths: cols.int()?,
            kind: cols.get()?,
        };
        lives.insert(job, life);
    }
    Ok(lives)
}
