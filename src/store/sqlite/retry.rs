//! Runs jobs again now, on an operator's word.

use std::collections::HashMap;

use super::{
    batch::Batch,
    cancel::{UNBURY, UNFINISH, shard_of, write_out},
    moves::{MOVE, entry, move_row},
    parts::{self, Stored},
    rows::{Rows, ids},
    wake,
};
use crate::{
    domain::{EventKind, JobEvent, JobId, JobState, Timestamp},
    store::{
        OpResult, StoreError,
        assemble::{LiveRow, OutcomeRow},
        ops::{Retried, RetryOp},
        steered,
    },
};

pub(super) const REVIVE: &str = "
    insert into job_live (id, shard, queue, priority, run_at, state, updated_at, tenant, kind, event_seq,
                          fence, replay_count, last_replayed_at, last_error, last_worker,
                          last_started_at, execution_ms)
    select unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
           value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12,
           value ->> 13, value ->> 14, value ->> 15, value ->> 16
    from jsonb_each(?1)";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[("revive", REVIVE)];

#[derive(Default)]
struct Writes {
    moved: Rows,
    unfinish: Rows,
    unbury: Rows,
    live: Rows,
}

/// Answers each retry with what it did.
pub(super) async fn run(
    batch: &mut Batch<'_>,
    ops: &[(usize, &RetryOp)],
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
            Some(stored) => retry(batch, &mut writes, stored),
            None => Retried::NotFound,
        };
        if let Retried::Done { from, .. } = &answer {
            steered::retried(op, *from).iter().for_each(|row| batch.audit(row));
        }
        if matches!(answer, Retried::Done { from: JobState::Failed, .. }) {
            told.push(*index, op.job);
        }
        results[*index] = Some(OpResult::Retried(answer));
    }
    batch.write(UNFINISH, writes.unfinish).await?;
    batch.write(UNBURY, writes.unbury).await?;
    batch.write(REVIVE, writes.live).await?;
    batch.write(MOVE, writes.moved).await
}

fn retry(batch: &mut Batch<'_>, writes: &mut Writes, stored: Stored) -> Retried {
    let from = stored.state(batch.now);
    if from == JobState::Queued {
        return Retried::AlreadyQueued;
    }
    if from.next(JobEvent::Retried).is_err() {
        return Retried::Conflict(from);
    }
    let id = stored.parts.job.id;
    let seq = stored.last_seq + 1;
    let mut live = match (&stored.parts.live, &stored.parts.outcome) {
        (Some(live), _) => live.clone(),
        (None, Some(outcome)) => revived(outcome),
        (None, None) => return Retried::NotFound,
    };
    let stored_state = stored.parts.outcome.as_ref().map_or(live.state, |outcome| outcome.state);
    batch.count_move(live.shard, &live.queue, stored_state, JobState::Queued);
    live.state = JobState::Queued;
    live.run_at = batch.now;
    live.gate = None;
    if stored.parts.live.is_some() {
        move_row(&mut writes.moved, id, &live, seq, 0, batch.now);
    } else {
        write_out(batch, &stored);
        writes.unfinish.row().id(id);
        writes.unbury.row().id(id);
        live_again(&mut writes.live, &stored, &live, seq, batch.now);
    }
    batch.event(id, seq, EventKind::Retried, JobState::Queued, batch.now, None, None);
    Retried::Done { entry: entry(&stored.parts.job, &live), from, wakes: Vec::new() }
}

/// A live row from an outcome: attempts and deaths anew, the fence goes on.
pub(super) fn revived(outcome: &OutcomeRow) -> LiveRow {
    LiveRow {
        shard: outcome.shard,
        queue: outcome.queue.clone(),
        priority: outcome.priority,
        run_at: outcome.run_at,
        state: JobState::Queued,
        gate: None,
        attempt: 0,
        fence: outcome.fence,
        event_seq: outcome.event_seq,
        blocked_reason: None,
        last_error: outcome.error_message.clone(),
        last_worker: outcome.worker.clone(),
        last_started_at: outcome.started_at,
        execution_ms: outcome.last_execution_ms(),
        updated_at: outcome.finished_at,
    }
}

/// A row for [`REVIVE`].
pub(super) fn live_again(rows: &mut Rows, stored: &Stored, live: &LiveRow, seq: i64, now: Timestamp) {
    let job = &stored.parts.job;
    rows.row()
        .id(job.id)
        .int(live.shard.0)
        .text(&live.queue)
        .int(live.priority)
        .int(live.run_at.0)
        .int(live.state.code())
        .int(now.0)
        .text(&job.tenant)
        .text(&job.kind)
        .int(seq)
        .int(live.fence.0)
        .int(stored.replay_count)
        .opt_int(stored.last_replayed_at.map(|at| at.0))
        .opt_text(live.last_error.as_deref())
        .opt_text(live.last_worker.as_deref())
        .opt_int(live.last_started_at.map(|at| at.0))
        .int(live.execution_ms);
}
