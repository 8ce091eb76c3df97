//! Jobs with all that belongs to them, as the shared assembly takes them.

use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{error::store_error, rows::Cols};
use crate::{
    domain::{
        AttemptRow, AttemptStatus, DependencyPolicy, EventKind, Fence, JobId, JobState, RawJson, TimelineRow,
        Timestamp,
    },
    store::{
        StoreError,
        assemble::{JobParts, JobRow, LeaseSnapshot, LiveRow, OutcomeRow, message},
    },
};

/// Jobs by their ids, in the order of the ids given.
const PARTS: &str = "
    select
           job.id, job.kind, job.queue, job.tenant, job.payload, job.priority, job.birth_state, job.run_at,
           job.created_at, job.max_attempts, job.timeout_seconds, job.schema_version,
           job.idempotency_key, job.workflow_id, job.dependency_policy, job.options,
           l.id, l.shard, l.queue, l.priority, l.run_at, l.state, l.gate, l.attempt, l.fence, l.event_seq,
           l.blocked_reason, l.last_error, l.last_worker, l.last_started_at, l.execution_ms, l.updated_at,
           l.deaths, l.replay_count, l.last_replayed_at, l.blocked_on,
           lease.job_id, lease.shard, lease.fence, lease.attempt, lease.worker, lease.granted_at,
           lease.ttl_ms, lease.cancel_requested, lease.started_seq, lease.due_at, lease.event_seq,
           o.job_id, o.shard, o.queue, o.state, o.fence, o.attempt, o.finished_at, o.event_seq, o.end_kind,
           o.run_at, o.priority, o.result, o.reason, o.started_seq, o.started_at, o.due_at,
           o.attempt_status, o.worker, o.error_type, o.error_message, o.stack_trace,
           o.execution_ms, o.last_seq, o.deaths, o.replay_count, o.last_replayed_at
    from jsonb_each(?1) e
    join job on job.id = unhex(e.value)
    left join job_live l on l.id = job.id
    left join lease on lease.job_id = job.id
    left join outcome o on o.job_id = job.id
    order by e.key";

const EVENTS: &str = "
    select job_id, seq, kind, at, state, attempt, fence, worker, metadata
    from event where job_id = ?1 and seq > ?2 order by seq limit ?3";

const ATTEMPTS: &str = "
    select job_id, attempt, fence, worker, status, error_type, error_message, stack_trace, started_at,
           finished_at
    from attempt where job_id = ?1 order by fence";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] =
    &[("parts", PARTS), ("events", EVENTS), ("attempts", ATTEMPTS)];

/// A job with what the engine keeps beside what is shown.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) parts: JobParts,
    /// The newest written seq of its timeline.
    pub(super) last_seq: i64,
    /// Dependencies not yet met.
    pub(super) blocked_on: i64,
    pub(super) deaths: i32,
    pub(super) replay_count: i64,
    pub(super) last_replayed_at: Option<Timestamp>,
}

/// Reads jobs by the ids in `ids` (from [`rows::ids`](super::rows::ids)), in their order.
pub(super) async fn load(conn: &mut SqliteConnection, ids: String) -> Result<Vec<Stored>, StoreError> {
    let rows = sqlx::query(PARTS).bind(ids).fetch_all(conn).await.map_err(store_error)?;
    rows.iter().map(stored).collect()
}

/// Reads one job.
pub(super) async fn load_one(conn: &mut SqliteConnection, id: JobId) -> Result<Option<Stored>, StoreError> {
    Ok(load(conn, super::rows::ids([id])).await?.pop())
}

fn stored(row: &SqliteRow) -> Result<Stored, StoreError> {
    let mut cols = Cols::of(row);
    let job = job(&mut cols)?;
    let mut last_seq = 1;
    let mut kept = (0, 0, None);
    let mut blocked_on = 0;
    let mut live = None;
    if !cols.absent(20)? {
        let row = live_row(&mut cols)?;
        last_seq = row.event_seq;
        kept = (cols.int()?, cols.get()?, cols.opt_time()?);
        blocked_on = cols.get()?;
        live = Some(row);
    }
    let mut lease = None;
    if !cols.absent(11)? {
        lease = Some(lease_row(&mut cols)?);
        last_seq = cols.get()?;
    }
    let mut outcome = None;
    if !cols.absent(26)? {
        outcome = Some(outcome_row(&mut cols)?);
        last_seq = cols.get()?;
        kept = (cols.int()?, cols.get()?, cols.opt_time()?);
    }
    let (deaths, replay_count, last_replayed_at) = kept;
    let parts = JobParts { job, live, lease, outcome };
    Ok(Stored { parts, last_seq, blocked_on, deaths, replay_count, last_replayed_at })
}

fn job(cols: &mut Cols<'_>) -> Result<JobRow, StoreError> {
    Ok(JobRow {
        id: cols.job()?,
        kind: cols.get()?,
        queue: cols.get()?,
        tenant: cols.get()?,
        payload: cols.get()?,
        priority: cols.int()?,
        birth_state: cols.state()?,
        run_at: cols.time()?,
        created_at: cols.time()?,
        max_attempts: cols.int()?,
        timeout_seconds: cols.int()?,
        schema_version: cols.int()?,
        idempotency_key: cols.get()?,
        workflow_id: cols.get()?,
        dependency_policy: cols.opt_code(DependencyPolicy::from_code)?,
        options: cols.get()?,
    })
}

fn live_row(cols: &mut Cols<'_>) -> Result<LiveRow, StoreError> {
    cols.job()?;
    Ok(LiveRow {
        shard: cols.shard()?,
        queue: cols.get()?,
        priority: cols.int()?,
        run_at: cols.time()?,
        state: cols.state()?,
        gate: cols.get()?,
        attempt: cols.int()?,
        fence: Fence(cols.get()?),
        event_seq: cols.get()?,
        blocked_reason: cols.get()?,
        last_error: cols.get()?,
        last_worker: cols.get()?,
        last_started_at: cols.opt_time()?,
        execution_ms: cols.get()?,
        updated_at: cols.time()?,
    })
}

fn lease_row(cols: &mut Cols<'_>) -> Result<LeaseSnapshot, StoreError> {
    cols.job()?;
    Ok(LeaseSnapshot {
        shard: cols.shard()?,
        fence: Fence(cols.get()?),
        attempt: cols.int()?,
        worker: cols.get()?,
        granted_at: cols.time()?,
        ttl_ms: cols.get()?,
        cancel_requested: cols.get()?,
        started_seq: cols.get()?,
        due_at: cols.opt_time()?,
    })
}

fn outcome_row(cols: &mut Cols<'_>) -> Result<OutcomeRow, StoreError> {
    cols.job()?;
    Ok(OutcomeRow {
        shard: cols.shard()?,
        queue: cols.get()?,
        state: cols.state()?,
        fence: Fence(cols.get()?),
        attempt: cols.int()?,
        finished_at: cols.time()?,
        event_seq: cols.get()?,
        end_kind: cols.code(EventKind::from_code)?,
        run_at: cols.time()?,
        priority: cols.int()?,
        result: cols.get()?,
        reason: cols.get()?,
        started_seq: cols.get()?,
        started_at: cols.opt_time()?,
        due_at: cols.opt_time()?,
        attempt_status: cols.opt_code(AttemptStatus::from_code)?,
        worker: cols.get()?,
        error_type: cols.get()?,
        error_message: cols.get()?,
        stack_trace: cols.get()?,
        execution_ms: cols.get()?,
    })
}

impl Stored {
    /// The state shown.
    pub(super) fn state(&self, now: Timestamp) -> JobState {
        self.parts.state(now)
    }
}

/// The `event` rows of a job behind `after`, oldest first.
pub(super) async fn events(
    conn: &mut SqliteConnection,
    id: JobId,
    after: i64,
    limit: i64,
) -> Result<Vec<TimelineRow>, StoreError> {
    let query = sqlx::query(EVENTS).bind(id.0).bind(after).bind(limit);
    let rows = query.fetch_all(conn).await.map_err(store_error)?;
    rows.iter().map(timeline_row).collect()
}

fn timeline_row(row: &SqliteRow) -> Result<TimelineRow, StoreError> {
    let mut cols = Cols::of(row);
    let (job_id, seq) = (cols.job()?, cols.get()?);
    let kind = cols.code(EventKind::from_code)?;
    let (occurred_at, state) = (cols.time()?, cols.state()?);
    Ok(TimelineRow {
        job_id,
        seq,
        kind,
        message: message(kind, state).to_owned(),
        occurred_at,
        state,
        attempt: cols.get()?,
        fence: cols.get::<Option<i64>>()?.map(Fence),
        worker_id: cols.get()?,
        metadata: cols.get::<Option<String>>()?.map(RawJson::trusted),
    })
}

/// The `attempt` rows of a job, by fence.
pub(super) async fn attempts(conn: &mut SqliteConnection, id: JobId) -> Result<Vec<AttemptRow>, StoreError> {
    let rows = sqlx::query(ATTEMPTS).bind(id.0).fetch_all(conn).await.map_err(store_error)?;
    rows.iter().map(attempt_row).collect()
}

pub(super) fn attempt_row(row: &SqliteRow) -> Result<AttemptRow, StoreError> {
    let mut cols = Cols::of(row);
    let (job_id, attempt, fence) = (cols.job()?, cols.int()?, Fence(cols.get()?));
    let worker_id = cols.get()?;
    let status = cols.code(AttemptStatus::from_code)?;
    Ok(AttemptRow {
        id: AttemptRow::id_of(job_id, fence),
        job_id,
        attempt,
        fence,
        worker_id,
        status,
        error_type: cols.get()?,
        error_message: cols.get()?,
        stack_trace: cols.get()?,
        lease_expired: status == AttemptStatus::LeaseExpired,
        started_at: cols.time()?,
        finished_at: cols.opt_time()?,
    })
}
