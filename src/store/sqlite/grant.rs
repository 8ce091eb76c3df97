//! Gives leases.

use std::collections::HashMap;

use super::{
    batch::Batch,
    rows::{Cols, Rows, ids},
};
use crate::{
    domain::{Fence, JobId, JobOptions, JobState, RawJson, ShardId, Timestamp},
    store::{
        OpResult, StoreError,
        ops::{GrantOp, Granted},
    },
};

/// Jobs that may be granted: live, not blocked, no gate, no lease.
const GRANTABLE: &str = "
    select l.id, l.shard, l.queue, l.priority, l.run_at, l.state, l.attempt, l.fence, l.event_seq, l.deaths,
           l.kind, l.tenant, job.payload, job.max_attempts, job.timeout_seconds, job.schema_version,
           job.created_at, job.dependency_policy is not null, job.options, l.expires_at
    from jsonb_each(?1) e
    join job_live l on l.id = unhex(e.value)
    join job on job.id = l.id
    where l.state <> 3 and l.gate is null
      and not exists (select 1 from lease where lease.job_id = l.id)";

const PARENT_RESULTS: &str = "
    select d.child, d.parent, o.result
    from jsonb_each(?1) e
    join dependency d on d.child = unhex(e.value)
    left join outcome o on o.job_id = d.parent
    order by d.child, d.parent";

const LEASE: &str = "
    insert into lease (job_id, shard, queue, fence, attempt, worker, session, boot, granted_at, ttl_ms,
                       started_seq, event_seq, due_at)
    select unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
           unhex(value ->> 6), unhex(value ->> 7), value ->> 8, value ->> 9, value ->> 10, value ->> 10,
           value ->> 11
    from jsonb_each(?1)";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] =
    &[("grantable", GRANTABLE), ("parent results", PARENT_RESULTS), ("lease", LEASE)];

struct Ready {
    shard: ShardId,
    queue: String,
    priority: i16,
    run_at: Timestamp,
    state: JobState,
    attempt: i32,
    fence: Fence,
    event_seq: i64,
    deaths: i32,
    kind: String,
    tenant: String,
    payload: String,
    max_attempts: i32,
    timeout_seconds: i32,
    schema_version: i32,
    created_at: Timestamp,
    has_parents: bool,
    options: Option<String>,
    expires_at: Option<Timestamp>,
}

impl Ready {
    /// Whether its time to start is over.
    fn is_expired(&self, now: Timestamp) -> bool {
        self.fence.0 == 0 && self.expires_at.is_some_and(|at| at <= now)
    }
}

/// Answers each grant with the lease, or that the job is not ready.
pub(super) async fn run(
    batch: &mut Batch<'_>,
    ops: &[(usize, &GrantOp)],
    results: &mut [Option<OpResult>],
) -> Result<(), StoreError> {
    if ops.is_empty() {
        return Ok(());
    }
    let mut ready = load(batch, ops).await?;
    let with_parents = ready.iter().filter(|(_, ready)| ready.has_parents).map(|(job, _)| *job);
    let mut parents = parent_results(batch, with_parents.collect()).await?;
    let mut leases = Rows::default();
    for (index, op) in ops {
        let found = ready.remove(&op.job).filter(|ready| ready.shard == op.owner.shard);
        results[*index] = Some(match found {
            Some(found) if found.is_expired(batch.now) => OpResult::Expired,
            Some(found) => {
                let dependency_results = parents.remove(&op.job).unwrap_or_default();
                OpResult::Granted(Box::new(grant(batch, &mut leases, op, found, dependency_results)))
            }
            None => OpResult::NotReady,
        });
    }
    batch.write(LEASE, leases).await
}

fn grant(
    batch: &mut Batch<'_>,
    leases: &mut Rows,
    op: &GrantOp,
    ready: Ready,
    dependency_results: Vec<(JobId, Option<RawJson>)>,
) -> Granted {
    let now = batch.now;
    let fence = Fence::next(ready.fence, op.fence_floor);
    // A deferred job's `job.enqueued` row goes before its `job.started`; the lease row stands for both.
    let due_at = ready.state.is_deferred().then(|| ready.run_at.min(now));
    let seq = ready.event_seq + if due_at.is_some() { 2 } else { 1 };
    leases
        .row()
        .id(op.job)
        .int(ready.shard.0)
        .text(&ready.queue)
        .int(fence.0)
        .int(ready.attempt + 1)
        .text(&op.worker.0)
        .bytes(op.session.0.as_bytes())
        .bytes(op.boot.0.as_bytes())
        .int(now.0)
        .int(op.ttl_ms)
        .int(seq)
        .opt_int(due_at.map(|at| at.0));
    batch.count_move(ready.shard, &ready.queue, ready.state, JobState::Active);
    let options = JobOptions::from_stored(ready.options.as_deref());
    Granted {
        job: op.job,
        fence,
        attempt: ready.attempt + 1,
        granted_at: now,
        from: ready.state,
        seq,
        kind: ready.kind,
        queue: ready.queue,
        tenant: ready.tenant,
        payload: RawJson::trusted(ready.payload),
        priority: ready.priority,
        run_at: ready.run_at,
        max_attempts: ready.max_attempts,
        timeout_seconds: ready.timeout_seconds,
        schema_version: ready.schema_version,
        created_at: ready.created_at,
        deaths: ready.deaths,
        retry: options.retry,
        traceparent: options.traceparent,
        metadata: options.metadata,
        tags: options.tags,
        dependency_results,
    }
}

async fn load(batch: &mut Batch<'_>, ops: &[(usize, &GrantOp)]) -> Result<HashMap<JobId, Ready>, StoreError> {
    let rows = batch.read(GRANTABLE, ids(ops.iter().map(|(_, op)| op.job))).await?;
    let mut ready = HashMap::with_capacity(rows.len());
    for row in &rows {
        let mut cols = Cols::of(row);
        let job = cols.job()?;
        ready.insert(
            job,
            Ready {
                shard: cols.shard()?,
                queue: cols.get()?,
                priority: cols.int()?,
                run_at: cols.time()?,
                state: cols.state()?,
                attempt: cols.int()?,
                fence: Fence(cols.get()?),
                event_seq: cols.get()?,
                deaths: cols.int()?,
                kind: cols.get()?,
                tenant: cols.get()?,
                payload: cols.get()?,
                max_attempts: cols.int()?,
                timeout_seconds: cols.int()?,
                schema_version: cols.int()?,
                created_at: cols.time()?,
                has_parents: cols.get()?,
                options: cols.get()?,
                expires_at: cols.opt_time()?,
            },
        );
    }
    Ok(ready)
}

type ParentResults = HashMap<JobId, Vec<(JobId, Option<RawJson>)>>;

async fn parent_results(batch: &mut Batch<'_>, jobs: Vec<JobId>) -> Result<ParentResults, StoreError> {
    let mut results = ParentResults::new();
    if jobs.is_empty() {
        return Ok(results);
    }
    for row in &batch.read(PARENT_RESULTS, ids(jobs)).await? {
        let mut cols = Cols::of(row);
        let (child, parent) = (cols.job()?, cols.job()?);
        let result: Option<String> = cols.get()?;
        results.entry(child).or_default().push((parent, result.map(RawJson::trusted)));
    }
    Ok(results)
}
