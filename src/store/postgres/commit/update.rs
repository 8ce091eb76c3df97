//! Changes of waiting jobs.

use std::collections::HashMap;

use uuid::Uuid;

use super::{
    super::{error::store_error, reads, rows::times},
    batch::{Batch, Placed, Results},
    effects::Event,
};
use crate::{
    domain::{EventKind, JobId, JobState},
    store::{
        StoreError,
        assemble::JobParts,
        ops::{Changed, OpResult, UpdateOp},
        patch::{Planned, plan},
    },
};

const LIVE: &str = "update job_live l
   set shard = u.shard, queue = u.queue, priority = u.priority, run_at = u.run_at, state = u.state, gate = u.gate,
       event_seq = u.event_seq, updated_at = $9
from unnest($1::uuid[], $2::smallint[], $3::text[], $4::smallint[], $5::timestamptz[], $6::smallint[], $7::text[],
            $8::bigint[])
  as u (id, shard, queue, priority, run_at, state, gate, event_seq)
where l.id = any(array[u.id])";

/// Never `birth_state` and `run_at`: they are the first row of the timeline.
const JOB: &str = "update job j
   set queue = u.queue, priority = u.priority, payload = u.payload::json, max_attempts = u.max_attempts,
       options = u.options
from unnest($1::uuid[], $2::text[], $3::smallint[], $4::text[], $5::integer[], $6::text[])
  as u (id, queue, priority, payload, max_attempts, options)
where j.id = any(array[u.id])";

pub(super) const STATEMENTS: &[(&str, &str)] = &[("update live", LIVE), ("update job", JOB)];

pub(super) async fn run(
    batch: &mut Batch<'_>,
    ops: &Placed<'_, UpdateOp>,
    results: &mut Results,
) -> Result<(), StoreError> {
    if ops.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = ops.iter().map(|(_, op)| op.job.0).collect();
    let read = reads::parts::load(batch.connection, &ids).await?;
    let mut found: HashMap<JobId, JobParts> =
        read.into_iter().map(|(_, parts)| (parts.job.id, parts)).collect();
    let mut planned = Vec::new();
    for (place, op) in ops {
        let decided = match found.remove(&op.job) {
            Some(parts) => plan(&parts, op, batch.now),
            None => Err(Changed::NotFound),
        };
        let answer = match decided {
            Ok(plan) => {
                note(batch, &plan);
                let answer = plan.answer.clone();
                planned.push(plan);
                answer
            }
            Err(answer) => answer,
        };
        results.set(*place, OpResult::Changed(answer));
    }
    write(batch, &planned).await
}

/// What is written beside the rows themselves.
fn note(batch: &mut Batch<'_>, plan: &Planned) {
    let (job, live) = (plan.job.id, &plan.live);
    let event = |seq, at, kind, state, metadata| Event { job, seq, at, kind, state, who: None, metadata };
    if let Some(at) = plan.due_at {
        batch.effects.event(event(live.event_seq - 1, at, EventKind::Enqueued, JobState::Queued, None));
    }
    let told = Some(plan.metadata.to_string());
    batch.effects.event(event(live.event_seq, batch.now, EventKind::Updated, live.state, told));
    let (shard, queue, state) = &plan.was;
    batch.effects.count(*shard, queue, *state, -1);
    batch.effects.count(live.shard, &live.queue, live.state, 1);
    if plan.is_moved {
        batch.effects.born(live.shard, job);
    }
    batch.effects.audit(plan.audit.clone());
}

async fn write(batch: &mut Batch<'_>, planned: &[Planned]) -> Result<(), StoreError> {
    if planned.is_empty() {
        return Ok(());
    }
    let live = || planned.iter().map(|plan| &plan.live);
    let job = || planned.iter().map(|plan| &plan.job);
    let ids: Vec<Uuid> = job().map(|job| job.id.0).collect();
    sqlx::query(LIVE)
        .bind(&ids)
        .bind(live().map(|live| live.shard.0).collect::<Vec<i16>>())
        .bind(live().map(|live| live.queue.as_str()).collect::<Vec<&str>>())
        .bind(live().map(|live| live.priority).collect::<Vec<i16>>())
        .bind(times(live().map(|live| live.run_at)))
        .bind(live().map(|live| live.state.code()).collect::<Vec<i16>>())
        .bind(live().map(|live| live.gate.as_deref()).collect::<Vec<Option<&str>>>())
        .bind(live().map(|live| live.event_seq).collect::<Vec<i64>>())
        .bind(batch.now.to_datetime())
        .execute(&mut *batch.connection)
        .await
        .map_err(store_error)?;
    sqlx::query(JOB)
        .bind(&ids)
        .bind(job().map(|job| job.queue.as_str()).collect::<Vec<&str>>())
        .bind(job().map(|job| job.priority).collect::<Vec<i16>>())
        .bind(job().map(|job| job.payload.as_str()).collect::<Vec<&str>>())
        .bind(job().map(|job| job.max_attempts).collect::<Vec<i32>>())
        .bind(job().map(|job| job.options.as_deref()).collect::<Vec<Option<&str>>>())
        .execute(&mut *batch.connection)
        .await
        .map_err(store_error)?;
    Ok(())
}
