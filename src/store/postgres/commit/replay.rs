//! Dead letters that run again.

use uuid::Uuid;

use super::{
    super::error::store_error,
    batch::{Batch, Placed, Results},
    effects::Event,
    held::Held,
    operator::{Found, UNBURY, find, take_finished, take_live, write_out},
};
use crate::{
    domain::{EventKind, JobEvent, JobState, ShardId, Timestamp},
    store::{
        StoreError,
        definition::Definition,
        ops::{Changed, ChangedJob, LiveEntry, OpResult, ReplayOp},
    },
};

/// Makes failed jobs live again, where they are to run; attempts and deaths anew, the fence goes on.
const REVIVE: &str = "with gone as (
    delete from outcome o
    using unnest($1::uuid[], $2::bigint[], $3::smallint[], $4::text[], $5::text[], $6::smallint[])
      as w (id, seq, to_shard, to_queue, to_kind, to_priority)
    where o.job_id = any(array[w.id]) and o.state = 7
    returning o.*, w.*
)
insert into job_live (id, run_at, updated_at, last_started_at, last_replayed_at, fence, event_seq, execution_ms,
       replay_count, shard, priority, state, queue, kind, tenant, last_error, last_worker)
select job_id, $7, $7, started_at, $7, fence, seq,
       greatest(0, coalesce(floor(extract(epoch from finished_at - started_at) * 1000), 0))::bigint,
       replay_count + 1, to_shard, to_priority, 0, to_queue, to_kind, tenant, error_message, worker
from gone";

/// What a replay may change of a definition.
const DEFINE: &str = "update job j
   set queue = u.queue, kind = u.kind, priority = u.priority, payload = coalesce(u.payload::json, j.payload)
from unnest($1::uuid[], $2::text[], $3::text[], $4::smallint[], $5::text[]) as u (id, queue, kind, priority, payload)
where j.id = any(array[u.id])";

/// The edges of jobs that are in another shard now.
const MOVED_EDGES: &str = "update dependency d set child_shard = u.shard
from unnest($1::uuid[], $2::smallint[]) as u (id, shard)
where d.child = any(array[u.id])";

pub(super) const STATEMENTS: &[(&str, &str)] =
    &[("replay revive", REVIVE), ("replay define", DEFINE), ("replay moved edges", MOVED_EDGES)];

/// A job that becomes live again.
struct Revived<'a> {
    op: &'a ReplayOp,
    seq: i64,
    shard: ShardId,
    after: Definition,
    is_moved: bool,
}

pub(super) async fn run(
    batch: &mut Batch<'_>,
    ops: &Placed<'_, ReplayOp>,
    results: &mut Results,
) -> Result<(), StoreError> {
    if ops.is_empty() {
        return Ok(());
    }
    let mut found = find(batch, ops.iter().map(|(_, op)| op.job.0).collect()).await?;
    let mut revived = Vec::new();
    for (place, op) in ops {
        let answer = replay(batch, &mut revived, &mut found, op);
        if matches!(answer, Changed::Done(_)) {
            batch.effects.told.push((op.job, None, *place));
        }
        results.set(*place, OpResult::Changed(answer));
    }
    write(batch, &revived).await
}

fn replay<'a>(
    batch: &mut Batch<'_>,
    revived: &mut Vec<Revived<'a>>,
    found: &mut Found,
    op: &'a ReplayOp,
) -> Changed {
    let (from_shard, now) = (op.owner.shard, batch.now);
    if let Some(row) = take_live(found, op.job, from_shard) {
        return Changed::Conflict(shown(&row, now));
    }
    let Some((parts, outcome, seq)) = take_finished(found, op.job, from_shard) else {
        return Changed::NotFound;
    };
    let Ok(state) = outcome.state.next(JobEvent::Replayed) else {
        return Changed::Conflict(outcome.state);
    };
    let before = Definition::of(&parts.job, &outcome);
    let after = before.replayed(op);
    let is_moved = before.queue != after.queue;
    let shard = if is_moved { ShardId::of_queue(&after.queue) } else { from_shard };
    write_out(batch, &parts, &outcome);
    batch.effects.count(from_shard, &before.queue, outcome.state, -1);
    batch.effects.count(shard, &after.queue, state, 1);
    batch.effects.event(Event {
        job: op.job,
        seq: seq + 1,
        at: now,
        kind: EventKind::Replayed,
        state,
        who: None,
        metadata: before.told(&after).map(|told| told.to_string()),
    });
    batch.effects.audit(before.audit(&after, op));
    if is_moved {
        batch.effects.born(shard, op.job);
    }
    let entry = LiveEntry {
        job: op.job,
        queue: after.queue.clone(),
        kind: after.kind.clone(),
        state,
        priority: after.priority,
        run_at: now,
    };
    revived.push(Revived { op, seq: seq + 1, shard, after, is_moved });
    Changed::Done(Box::new(ChangedJob {
        from: outcome.state,
        entry: (!is_moved).then_some(entry),
        kind: Some(EventKind::Replayed),
        wakes: if is_moved { vec![shard] } else { Vec::new() },
    }))
}

/// The state that a live job is shown in.
fn shown(row: &Held, now: Timestamp) -> JobState {
    let is_due = row.state.is_deferred() && row.gate.is_none() && row.run_at <= now;
    match (&row.lease, is_due) {
        (Some(_), _) => JobState::Active,
        (None, true) => JobState::Queued,
        (None, false) => row.state,
    }
}

async fn write(batch: &mut Batch<'_>, revived: &[Revived<'_>]) -> Result<(), StoreError> {
    if revived.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = revived.iter().map(|job| job.op.job.0).collect();
    let queues: Vec<&str> = revived.iter().map(|job| job.after.queue.as_str()).collect();
    let kinds: Vec<&str> = revived.iter().map(|job| job.after.kind.as_str()).collect();
    let priorities: Vec<i16> = revived.iter().map(|job| job.after.priority).collect();
    sqlx::query(REVIVE)
        .bind(&ids)
        .bind(revived.iter().map(|job| job.seq).collect::<Vec<i64>>())
        .bind(revived.iter().map(|job| job.shard.0).collect::<Vec<i16>>())
        .bind(&queues)
        .bind(&kinds)
        .bind(&priorities)
        .bind(batch.now.to_datetime())
        .execute(&mut *batch.connection)
        .await
        .map_err(store_error)?;
    sqlx::query(UNBURY).bind(&ids).execute(&mut *batch.connection).await.map_err(store_error)?;
    let payload = |job: &Revived<'_>| job.op.patch.payload.as_ref().map(|payload| payload.text().to_owned());
    sqlx::query(DEFINE)
        .bind(&ids)
        .bind(&queues)
        .bind(&kinds)
        .bind(&priorities)
        .bind(revived.iter().map(payload).collect::<Vec<Option<String>>>())
        .execute(&mut *batch.connection)
        .await
        .map_err(store_error)?;
    let moved: Vec<&Revived<'_>> = revived.iter().filter(|job| job.is_moved).collect();
    if !moved.is_empty() {
        sqlx::query(MOVED_EDGES)
            .bind(moved.iter().map(|job| job.op.job.0).collect::<Vec<Uuid>>())
            .bind(moved.iter().map(|job| job.shard.0).collect::<Vec<i16>>())
            .execute(&mut *batch.connection)
            .await
            .map_err(store_error)?;
    }
    Ok(())
}
