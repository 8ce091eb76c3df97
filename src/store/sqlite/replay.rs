//! Dead letters that run again.

use std::collections::HashMap;

use super::{
    batch::Batch,
    cancel::{UNBURY, UNFINISH, shard_of, write_out},
    error::store_error,
    moves::entry,
    parts::{self, Stored},
    retry::{REVIVE, live_again, revived},
    rows::{Rows, ids},
    wake,
};
use crate::{
    domain::{EventKind, JobEvent, JobId, JobState, ShardId},
    store::{
        StoreError,
        definition::Definition,
        ops::{Changed, ChangedJob, OpResult, ReplayOp},
    },
};

/// What a replay may change of a definition.
const DEFINE: &str = "
    update job set queue = e.value ->> 1, kind = e.value ->> 2, priority = e.value ->> 3,
                   payload = coalesce(e.value ->> 4, payload)
    from jsonb_each(?1) e
    where job.id = unhex(e.value ->> 0)";

/// The edges of jobs that are in another shard now.
const MOVED_EDGES: &str = "
    update dependency set child_shard = e.value ->> 1
    from jsonb_each(?1) e
    where dependency.child = unhex(e.value ->> 0)";

const BORN: &str = "
    insert into inbox (shard, kind, job_id, at)
    select value ->> 1, 0, unhex(value ->> 0), value ->> 2 from jsonb_each(?1)";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] =
    &[("define", DEFINE), ("moved edges", MOVED_EDGES), ("born", BORN)];

#[derive(Default)]
struct Writes {
    gone: Rows,
    live: Rows,
    defined: Rows,
    moved: Rows,
}

/// Answers each replay with what it did.
pub(super) async fn run(
    batch: &mut Batch<'_>,
    ops: &[(usize, &ReplayOp)],
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
            Some(stored) => replay(batch, &mut writes, op, stored),
            None => Changed::NotFound,
        };
        if matches!(answer, Changed::Done(_)) {
            told.push(*index, op.job);
        }
        results[*index] = Some(OpResult::Changed(answer));
    }
    let gone = writes.gone.finish();
    for sql in [UNFINISH, UNBURY] {
        sqlx::query(sql).bind(gone.as_str()).execute(&mut *batch.conn).await.map_err(store_error)?;
    }
    batch.write(REVIVE, writes.live).await?;
    batch.write(DEFINE, writes.defined).await?;
    if writes.moved.len() > 0 {
        let moved = writes.moved.finish();
        for sql in [MOVED_EDGES, BORN] {
            sqlx::query(sql).bind(moved.as_str()).execute(&mut *batch.conn).await.map_err(store_error)?;
        }
    }
    Ok(())
}

fn replay(batch: &mut Batch<'_>, writes: &mut Writes, op: &ReplayOp, mut stored: Stored) -> Changed {
    let from = stored.state(batch.now);
    let Ok(state) = from.next(JobEvent::Replayed) else { return Changed::Conflict(from) };
    let Some(outcome) = &stored.parts.outcome else { return Changed::Conflict(from) };
    let before = Definition::of(&stored.parts.job, outcome);
    let after = before.replayed(op);
    let shard = if before.queue == after.queue { outcome.shard } else { ShardId::of_queue(&after.queue) };
    let (seq, mut live) = (stored.last_seq + 1, revived(outcome));
    batch.count(outcome.shard, &before.queue, from, -1);
    batch.count(shard, &after.queue, state, 1);
    write_out(batch, &stored);
    batch.event(op.job, seq, EventKind::Replayed, state, batch.now, None, before.told(&after).as_ref());
    batch.audit(&before.audit(&after, op));

    live.state = state;
    live.shard = shard;
    live.queue.clone_from(&after.queue);
    live.priority = after.priority;
    live.run_at = batch.now;
    stored.parts.job.kind.clone_from(&after.kind);
    stored.replay_count += 1;
    stored.last_replayed_at = Some(batch.now);
    writes.gone.row().id(op.job);
    live_again(&mut writes.live, &stored, &live, seq, batch.now);
    let payload = op.patch.payload.as_ref().map(crate::domain::RawJson::text);
    let row = writes.defined.row().id(op.job).text(&after.queue).text(&after.kind);
    row.int(after.priority).opt_text(payload);
    let is_moved = before.queue != after.queue;
    if is_moved {
        writes.moved.row().id(op.job).int(shard.0).int(batch.now.0);
    }
    Changed::Done(Box::new(ChangedJob {
        from: JobState::Failed,
        entry: (!is_moved).then(|| entry(&stored.parts.job, &live)),
        kind: Some(EventKind::Replayed),
        wakes: if is_moved { vec![shard] } else { Vec::new() },
    }))
}
