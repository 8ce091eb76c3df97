//! Cancels what waits or failed, and asks it of what runs.

use std::collections::HashMap;

use serde_json::json;

use super::{
    batch::{Batch, Who},
    end::UNLIVE,
    moves::{NOTE_LEASE, materialise},
    parts::{self, Stored},
    rows::{Rows, ids},
    wake,
};
use crate::{
    domain::{EventKind, Fence, JobEvent, JobId, JobState, ShardId, Timestamp},
    store::{
        OpResult, StoreError,
        assemble::{LiveRow, OutcomeRow},
        ops::{CancelOp, Canceled},
        steered,
    },
};

/// The end of a job that waited, all of it given.
const OUTCOME: &str = "
    insert into outcome (job_id, shard, queue, state, fence, attempt, finished_at, event_seq, last_seq,
                         end_kind, run_at, priority, reason, started_at, worker, error_message, deaths,
                         replay_count, last_replayed_at, tenant, kind, execution_ms)
    select unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
           value ->> 6, value ->> 7, value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11,
           value ->> 12, value ->> 13, value ->> 14, value ->> 15, value ->> 16, value ->> 17,
           value ->> 18, value ->> 19, value ->> 20
    from jsonb_each(?1)";

pub(super) const UNFINISH: &str =
    "delete from outcome where job_id in (select unhex(value ->> 0) from jsonb_each(?1))";
pub(super) const UNBURY: &str =
    "delete from dead_letter where job_id in (select unhex(value ->> 0) from jsonb_each(?1))";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] =
    &[("canceled", OUTCOME), ("unfinish", UNFINISH), ("unbury", UNBURY)];

#[derive(Default)]
struct Writes {
    asked: Rows,
    unlive: Rows,
    unfinish: Rows,
    unbury: Rows,
    outcomes: Rows,
}

/// Answers each cancel with what it did.
pub(super) async fn run(
    batch: &mut Batch<'_>,
    ops: &[(usize, &CancelOp)],
    told: &mut wake::Told,
    results: &mut [Option<OpResult>],
) -> Result<(), StoreError> {
    if ops.is_empty() {
        return Ok(());
    }
    let loaded = parts::load(batch.conn, ids(ops.iter().map(|(_, op)| op.job))).await?;
    let mut jobs: HashMap<JobId, Stored> =
        loaded.into_iter().map(|stored| (stored.parts.job.id, stored)).collect();
    let mut writes = Writes::default();
    for (index, op) in ops {
        let found = jobs.remove(&op.job).filter(|stored| shard_of(stored) == Some(op.owner.shard));
        let answer = match found {
            Some(stored) => cancel(batch, &mut writes, op, stored),
            None => Canceled::NotFound,
        };
        let audit = match &answer {
            Canceled::Done { from, .. } => steered::canceled(op, *from),
            Canceled::Requested => steered::asked_to_stop(op),
            _ => None,
        };
        audit.iter().for_each(|row| batch.audit(row));
        if matches!(answer, Canceled::Done { .. }) {
            told.push(*index, op.job);
        }
        results[*index] = Some(OpResult::Canceled(answer));
    }
    batch.write(NOTE_LEASE, writes.asked).await?;
    batch.write(UNLIVE, writes.unlive).await?;
    batch.write(UNFINISH, writes.unfinish).await?;
    batch.write(UNBURY, writes.unbury).await?;
    batch.write(OUTCOME, writes.outcomes).await
}

/// The shard a job is in.
pub(super) fn shard_of(stored: &Stored) -> Option<ShardId> {
    let live = stored.parts.live.as_ref().map(|live| live.shard);
    live.or(stored.parts.outcome.as_ref().map(|outcome| outcome.shard))
}

fn cancel(batch: &mut Batch<'_>, writes: &mut Writes, op: &CancelOp, mut stored: Stored) -> Canceled {
    let state = stored.state(batch.now);
    if state.next(JobEvent::Canceled).is_err() {
        return Canceled::Conflict(state);
    }
    let unstarted = |live: &LiveRow| live.fence.0 == 0 && stored.parts.lease.is_none();
    if op.unstarted_only && !stored.parts.live.as_ref().is_some_and(unstarted) {
        return Canceled::Conflict(state);
    }
    if let Some(lease) = &stored.parts.lease {
        if lease.cancel_requested {
            return Canceled::AlreadyRequested;
        }
        let seq = stored.last_seq + 1;
        let who = Who { attempt: lease.attempt, fence: lease.fence, worker: &lease.worker };
        let why = json!({ "reason": op.reason });
        batch.event(op.job, seq, EventKind::CancelRequested, state, batch.now, Some(who), Some(&why));
        writes.asked.row().id(op.job).int(seq).int(1);
        return Canceled::Requested;
    }
    materialise(batch, &mut stored);
    if stored.parts.live.is_some() {
        writes.unlive.row().id(op.job);
    } else {
        exhume(batch, writes, &stored);
    }
    let last = Last::of(&stored);
    batch.count_move(last.shard, last.queue, last.stored_state, JobState::Canceled);
    writes
        .outcomes
        .row()
        .id(op.job)
        .int(last.shard.0)
        .text(last.queue)
        .int(JobState::Canceled.code())
        .int(last.fence.0)
        .int(last.attempt)
        .int(batch.now.0)
        .int(stored.last_seq + 1)
        .int(EventKind::Canceled.code())
        .int(last.run_at.0)
        .int(last.priority)
        .text(&op.reason)
        // It ended while it waited: no attempt is packed.
        .opt_int(last.started_at.map(|at| at.0))
        .opt_text(last.worker)
        .opt_text(last.error)
        .int(stored.deaths)
        .int(stored.replay_count)
        .opt_int(stored.last_replayed_at.map(|at| at.0))
        .text(&stored.parts.job.tenant)
        .text(&stored.parts.job.kind)
        .int(last.execution_ms);
    Canceled::Done { from: state, wakes: Vec::new() }
}

/// A failed job's end is written out, so that another can follow it.
fn exhume(batch: &mut Batch<'_>, writes: &mut Writes, stored: &Stored) {
    writes.unfinish.row().id(stored.parts.job.id);
    writes.unbury.row().id(stored.parts.job.id);
    write_out(batch, stored);
}

/// Writes the rows that an outcome stands for.
pub(super) fn write_out(batch: &mut Batch<'_>, stored: &Stored) {
    let Some(outcome) = &stored.parts.outcome else { return };
    for row in stored.parts.end_rows(outcome) {
        batch.event_row(&row);
    }
    if let Some(attempt) = stored.parts.packed_attempt(outcome) {
        batch.attempt(&attempt);
    }
}

/// What is known of a job's last attempt, wherever it is kept.
struct Last<'a> {
    shard: ShardId,
    queue: &'a str,
    stored_state: JobState,
    priority: i16,
    run_at: Timestamp,
    fence: Fence,
    attempt: i32,
    started_at: Option<Timestamp>,
    execution_ms: i64,
    worker: Option<&'a str>,
    error: Option<&'a str>,
}

impl<'a> Last<'a> {
    fn of(stored: &'a Stored) -> Self {
        let parts = &stored.parts;
        if let Some(live) = &parts.live {
            return Self {
                shard: live.shard,
                queue: &live.queue,
                stored_state: live.state,
                priority: live.priority,
                run_at: live.run_at,
                fence: live.fence,
                attempt: live.attempt,
                started_at: live.last_started_at,
                execution_ms: live.execution_ms,
                worker: live.last_worker.as_deref(),
                error: live.last_error.as_deref(),
            };
        }
        let outcome = parts.outcome.as_ref();
        Self {
            shard: outcome.map_or(ShardId(0), |o| o.shard),
            queue: outcome.map_or(parts.job.queue.as_str(), |o| o.queue.as_str()),
            stored_state: outcome.map_or(parts.job.birth_state, |o| o.state),
            priority: outcome.map_or(parts.job.priority, |o| o.priority),
            run_at: outcome.map_or(parts.job.run_at, |o| o.run_at),
            fence: outcome.map_or(Fence(0), |o| o.fence),
            attempt: outcome.map_or(0, |o| o.attempt),
            started_at: outcome.and_then(|o| o.started_at),
            execution_ms: outcome.map_or(0, OutcomeRow::last_execution_ms),
            worker: outcome.and_then(|o| o.worker.as_deref()),
            error: outcome.and_then(|o| o.error_message.as_deref()),
        }
    }
}
