//! Leases given.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::{
    super::{error::store_error, rows::Columns},
    batch::{Batch, Placed, Results},
};
use crate::{
    domain::{JobId, JobOptions, JobState, RawJson},
    store::{
        StoreError,
        ops::{GrantOp, Granted, OpResult},
    },
};

/// Gives a lease for each ready job. The live row is locked, so that a repeat of its submission, which
/// any node may answer, numbers its timeline row before or after the lease's; the lease is not given before what the
/// row was changed by while the batch waited for it. By lateral look-ups, in the
/// order of the array, which is that of the ids: the plan of a join, made while the tables were nearly
/// empty, walks whole indexes.
const GRANT: &str = "with given as (
    insert into lease (job_id, session, boot, granted_at, due_at, fence, ttl_ms, started_seq, event_seq, attempt,
                       shard, queue, worker)
    select r.id, r.session, r.boot, greatest($8, r.updated_at), case when r.state <> 0 then least(r.run_at, $8) end,
           greatest(r.fence + 1, r.floor), r.ttl_ms, r.seq, r.seq, r.attempt + 1, r.shard, r.queue, r.worker
    from (
        select w.id, w.floor, w.worker, w.session, w.boot, w.ttl_ms, w.shard, l.queue, l.state, l.run_at, l.fence,
               l.updated_at, l.attempt, l.event_seq + case when l.state = 0 then 1 else 2 end as seq
        from unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::text[], $5::uuid[], $6::uuid[], $7::bigint[])
          as w (id, shard, floor, worker, session, boot, ttl_ms)
        cross join lateral (
            select l.shard, l.queue, l.state, l.gate, l.run_at, l.fence, l.updated_at, l.attempt, l.event_seq,
                   l.expires_at
            from job_live l where l.id = w.id limit 1 for no key update
        ) l
        where l.shard = w.shard and l.state in (0, 1, 2, 4) and l.gate is null
          and (l.expires_at is null or l.fence > 0 or l.expires_at > $8)
    ) r
    on conflict (job_id) do nothing
    returning job_id, fence, attempt, granted_at, started_seq, due_at
)
select g.job_id, g.fence, g.attempt, g.granted_at, g.started_seq,
       case when g.due_at is null then 0::smallint else l.state end, l.shard, l.queue, l.priority, l.run_at, l.deaths,
       j.kind, j.tenant, j.payload::text, j.max_attempts, j.timeout_seconds, j.schema_version, j.created_at,
       j.options, j.dependency_policy is not null
from given g
cross join lateral (
    select l.state, l.shard, l.queue, l.priority, l.run_at, l.deaths from job_live l where l.id = g.job_id limit 1
) l
cross join lateral (
    select j.kind, j.tenant, j.payload, j.max_attempts, j.timeout_seconds, j.schema_version, j.created_at, j.options,
           j.dependency_policy
    from job j where j.id = g.job_id limit 1
) j";

/// Which of the jobs that were not given are past their `expires_at` and have never been.
const EXPIRED: &str = "select l.id from job_live l
where l.id = any($1) and l.expires_at <= $2 and l.fence = 0
  and not exists (select from lease e where e.job_id = l.id)";

/// What the jobs' dependencies made.
const DEPENDENCY_RESULTS: &str = "select d.child, d.parent, o.result::text
from dependency d
left join outcome o on o.job_id = any(array[d.parent])
where d.child = any($1)
order by d.child, d.parent";

pub(super) const STATEMENTS: &[(&str, &str)] =
    &[("grant", GRANT), ("grant expired", EXPIRED), ("grant dependency results", DEPENDENCY_RESULTS)];

pub(super) async fn run(
    batch: &mut Batch<'_>,
    ops: &Placed<'_, GrantOp>,
    results: &mut Results,
) -> Result<(), StoreError> {
    if ops.is_empty() {
        return Ok(());
    }
    let rows = sqlx::query(GRANT)
        .bind(ops.iter().map(|(_, op)| op.job.0).collect::<Vec<Uuid>>())
        .bind(ops.iter().map(|(_, op)| op.owner.shard.0).collect::<Vec<i16>>())
        .bind(ops.iter().map(|(_, op)| op.fence_floor.0).collect::<Vec<i64>>())
        .bind(ops.iter().map(|(_, op)| &*op.worker.0).collect::<Vec<&str>>())
        .bind(ops.iter().map(|(_, op)| op.session.0).collect::<Vec<Uuid>>())
        .bind(ops.iter().map(|(_, op)| op.boot.0).collect::<Vec<Uuid>>())
        .bind(ops.iter().map(|(_, op)| op.ttl_ms).collect::<Vec<i64>>())
        .bind(batch.now.to_datetime())
        .fetch_all(&mut *batch.connection)
        .await
        .map_err(store_error)?;
    let mut granted = HashMap::with_capacity(rows.len());
    let mut children = Vec::new();
    for row in &rows {
        let mut columns = Columns::of(row);
        let (job, one) = read(&mut columns, batch)?;
        if columns.next()? {
            children.push(job.0);
        }
        granted.insert(job, one);
    }
    for (child, parent, result) in dependency_results(batch, children).await? {
        if let Some(one) = granted.get_mut(&child) {
            one.dependency_results.push((parent, result));
        }
    }
    let refused = ops.iter().map(|(_, op)| op.job).filter(|job| !granted.contains_key(job));
    let expired = expired(batch, refused.map(|job| job.0).collect()).await?;
    for (place, op) in ops {
        let result = match granted.remove(&op.job) {
            Some(one) => OpResult::Granted(Box::new(one)),
            None if expired.contains(&op.job) => OpResult::Expired,
            None => OpResult::NotReady,
        };
        results.set(*place, result);
    }
    Ok(())
}

async fn expired(batch: &mut Batch<'_>, jobs: Vec<Uuid>) -> Result<HashSet<JobId>, StoreError> {
    if jobs.is_empty() {
        return Ok(HashSet::new());
    }
    let found: Vec<Uuid> = sqlx::query_scalar(EXPIRED)
        .bind(jobs)
        .bind(batch.now.to_datetime())
        .fetch_all(&mut *batch.connection)
        .await
        .map_err(store_error)?;
    Ok(found.into_iter().map(JobId).collect())
}

fn read(columns: &mut Columns<'_>, batch: &mut Batch<'_>) -> Result<(JobId, Granted), StoreError> {
    let job = columns.job()?;
    let (fence, attempt) = (columns.fence()?, columns.next()?);
    let (granted_at, seq) = (columns.time()?, columns.next()?);
    let (from, shard, queue): (JobState, _, String) = (columns.state()?, columns.shard()?, columns.next()?);
    batch.effects.moved(shard, &queue, from, JobState::Active);
    let (priority, run_at, deaths) = (columns.next()?, columns.time()?, columns.next()?);
    let (kind, tenant, payload) = (columns.next()?, columns.next()?, columns.json()?);
    let (max_attempts, timeout_seconds, schema_version) = (columns.next()?, columns.next()?, columns.next()?);
    let created_at = columns.time()?;
    let options = JobOptions::from_stored(columns.next::<Option<&str>>()?);
    let granted = Granted {
        job,
        fence,
        attempt,
        granted_at,
        from,
        seq,
        kind,
        queue,
        tenant,
        payload: RawJson::trusted(payload),
        priority,
        run_at,
        max_attempts,
        timeout_seconds,
        schema_version,
        created_at,
        deaths,
        retry: options.retry,
        traceparent: options.traceparent,
        metadata: options.metadata,
        tags: options.tags,
        dependency_results: Vec::new(),
    };
    Ok((job, granted))
}

async fn dependency_results(
    batch: &mut Batch<'_>,
    children: Vec<Uuid>,
) -> Result<Vec<(JobId, JobId, Option<RawJson>)>, StoreError> {
    if children.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(DEPENDENCY_RESULTS)
        .bind(children)
        .fetch_all(&mut *batch.connection)
        .await
        .map_err(store_error)?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            let (child, parent) = (columns.job()?, columns.job()?);
            Ok((child, parent, columns.next::<Option<String>>()?.map(RawJson::trusted)))
        })
        .collect()
}
