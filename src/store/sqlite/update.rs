//! Changes of waiting jobs.

use std::collections::HashMap;

use super::{
    batch::Batch,
    parts::{self, Stored},
    rows::{Rows, ids},
};
use crate::{
    domain::{EventKind, JobId, JobState},
    store::{
        StoreError,
        ops::{Changed, OpResult, UpdateOp},
        patch::{Planned, plan},
    },
};

const LIVE: &str = "
    update job_live set
        shard = e.value ->> 1, queue = e.value ->> 2, priority = e.value ->> 3, run_at = e.value ->> 4,
        state = e.value ->> 5, gate = e.value ->> 6, event_seq = e.value ->> 7, updated_at = e.value ->> 8
    from jsonb_each(?1) e
    where job_live.id = unhex(e.value ->> 0)";

/// Never `birth_state` and `run_at`: they are the first row of the timeline.
const JOB: &str = "
    update job set
        queue = e.value ->> 1, priority = e.value ->> 2, payload = e.value ->> 3,
        max_attempts = e.value ->> 4, options = e.value ->> 5
    from jsonb_each(?1) e
    where job.id = unhex(e.value ->> 0)";

const MOVED: &str = "
    insert into inbox (shard, kind, job_id, at)
    select value ->> 0, 0, unhex(value ->> 1), value ->> 2
    from jsonb_each(?1)";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] =
    &[("update live", LIVE), ("update job", JOB), ("update moved", MOVED)];

#[derive(Default)]
struct Writes {
    live: Rows,
    jobs: Rows,
    moved: Rows,
}

pub(super) async fn run(
    batch: &mut Batch<'_>,
    ops: &[(usize, &UpdateOp)],
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
        let decided = match jobs.remove(&op.job) {
            Some(stored) => plan(&stored.parts, op, batch.now),
            None => Err(Changed::NotFound),
        };
        let answer = match decided {
            Ok(plan) => {
                note(batch, &mut writes, &plan);
                plan.answer
            }
            Err(answer) => answer,
        };
        results[*index] = Some(OpResult::Changed(answer));
    }
    batch.write(LIVE, writes.live).await?;
    batch.write(JOB, writes.jobs).await?;
    batch.write(MOVED, writes.moved).await
}

fn note(batch: &mut Batch<'_>, writes: &mut Writes, plan: &Planned) {
    let (id, live, job) = (plan.job.id, &plan.live, &plan.job);
    let (seq, now) = (live.event_seq, batch.now);
    if let Some(at) = plan.due_at {
        batch.event(id, seq - 1, EventKind::Enqueued, JobState::Queued, at, None, None);
    }
    batch.event(id, seq, EventKind::Updated, live.state, now, None, Some(&plan.metadata));
    let (shard, queue, state) = &plan.was;
    batch.count(*shard, queue, *state, -1);
    batch.count(live.shard, &live.queue, live.state, 1);
    batch.audit(&plan.audit);
    writes
        .live
        .row()
        .id(id)
        .int(live.shard.0)
        .text(&live.queue)
        .int(live.priority)
        .int(live.run_at.0)
        .int(live.state.code())
        .opt_text(live.gate.as_deref())
        .int(seq)
        .int(now.0);
    writes
        .jobs
        .row()
        .id(id)
        .text(&job.queue)
        .int(job.priority)
        .text(&job.payload)
        .int(job.max_attempts)
        .opt_text(job.options.as_deref());
    if plan.is_moved {
        writes.moved.row().int(live.shard.0).id(id).int(now.0);
    }
}
