//! Jobs with what belongs to them.

use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::{
    super::{error::store_error, rows::Columns},
    Snapshot,
};
use crate::{
    domain::{AttemptRow, EventKind, JobId, JobState, RawJson, TimelineRow, Timestamp},
    store::{
        StoreError,
        assemble::{JobParts, JobRow, LeaseSnapshot, LiveRow, OutcomeRow, message},
    },
};

/// Jobs by id. `list` selects the same columns.
const PARTS: &str = "select clock_timestamp(),
       j.id, j.kind, j.queue, j.tenant, j.payload::text, j.priority, j.birth_state, j.run_at, j.created_at,
       j.max_attempts, j.timeout_seconds, j.schema_version, j.idempotency_key, j.workflow_id, j.dependency_policy,
       j.options,
       l.shard, l.queue, l.priority, l.run_at, l.state, l.gate, l.attempt, l.fence, l.event_seq, l.blocked_reason,
       l.last_error, l.last_worker, l.last_started_at, l.execution_ms, l.updated_at,
       e.shard, e.fence, e.attempt, e.worker, e.granted_at, e.ttl_ms, e.cancel_requested, e.started_seq, e.due_at,
       o.shard, o.queue, o.state, o.fence, o.attempt, o.finished_at, o.event_seq, o.end_kind, o.run_at, o.priority,
       o.result::text, o.reason, o.started_seq, o.started_at, o.due_at, o.attempt_status, o.worker, o.error_type,
       o.error_message, o.stack_trace, o.execution_ms
from job j
left join job_live l on l.id = any(array[j.id])
left join lease e on e.job_id = any(array[j.id])
left join outcome o on o.job_id = any(array[j.id])
where j.id = any($1)
order by j.id";

const EVENTS: &str = "select seq, at, kind, state, attempt, fence, worker, metadata::text
from event where job_id = $1 order by seq";

const ATTEMPTS: &str =
    "select fence, started_at, finished_at, attempt, status, worker, error_type, error_message,
       stack_trace
from attempt where job_id = $1 order by fence";

pub(super) const STATEMENTS: &[(&str, &str)] =
    &[("parts", PARTS), ("parts events", EVENTS), ("parts attempts", ATTEMPTS)];

/// How many columns of each table `parts` has.
const LIVE_COLUMNS: usize = 15;
const LEASE_COLUMNS: usize = 9;

/// Reads a row of `parts`, with the time it was read at.
pub(super) fn read(row: &PgRow) -> Result<(Timestamp, JobParts), StoreError> {
    let mut columns = Columns::of(row);
    let now = columns.time()?;
    let job = job(&mut columns)?;
    let live = if columns.is_null()? {
        columns.skip(LIVE_COLUMNS);
        None
    } else {
        Some(live(&mut columns)?)
    };
    let lease = if columns.is_null()? {
        columns.skip(LEASE_COLUMNS);
        None
    } else {
        Some(lease(&mut columns)?)
    };
    let outcome = if columns.is_null()? { None } else { Some(outcome(&mut columns)?) };
    Ok((now, JobParts { job, live, lease, outcome }))
}

fn job(columns: &mut Columns<'_>) -> Result<JobRow, StoreError> {
    Ok(JobRow {
        id: columns.job()?,
        kind: columns.next()?,
        queue: columns.next()?,
        tenant: columns.next()?,
        payload: columns.json()?,
        priority: columns.next()?,
        birth_state: columns.state()?,
        run_at: columns.time()?,
        created_at: columns.time()?,
        max_attempts: columns.next()?,
        timeout_seconds: columns.next()?,
        schema_version: columns.next()?,
        idempotency_key: columns.next()?,
        workflow_id: columns.next()?,
        dependency_policy: columns.policy()?,
        options: columns.next()?,
    })
}

fn live(columns: &mut Columns<'_>) -> Result<LiveRow, StoreError> {
    Ok(LiveRow {
        shard: columns.shard()?,
        queue: columns.next()?,
        priority: columns.next()?,
        run_at: columns.time()?,
        state: columns.state()?,
        gate: columns.next()?,
        attempt: columns.next()?,
        fence: columns.fence()?,
        event_seq: columns.next()?,
        blocked_reason: columns.next()?,
        last_error: columns.next()?,
        last_worker: columns.next()?,
        last_started_at: columns.time_or_none()?,
        execution_ms: columns.next()?,
        updated_at: columns.time()?,
    })
}

fn lease(columns: &mut Columns<'_>) -> Result<LeaseSnapshot, StoreError> {
    Ok(LeaseSnapshot {
        shard: columns.shard()?,
        fence: columns.fence()?,
        attempt: columns.next()?,
        worker: columns.next()?,
        granted_at: columns.time()?,
        ttl_ms: columns.next()?,
        cancel_requested: columns.next()?,
        started_seq: columns.next()?,
        due_at: columns.time_or_none()?,
    })
}

fn outcome(columns: &mut Columns<'_>) -> Result<OutcomeRow, StoreError> {
    Ok(OutcomeRow {
        shard: columns.shard()?,
        queue: columns.next()?,
        state: columns.state()?,
        fence: columns.fence()?,
        attempt: columns.next()?,
        finished_at: columns.time()?,
        event_seq: columns.next()?,
        end_kind: columns.event_kind()?,
        run_at: columns.time()?,
        priority: columns.next()?,
        result: columns.next()?,
        reason: columns.next()?,
        started_seq: columns.next()?,
        started_at: columns.time_or_none()?,
        due_at: columns.time_or_none()?,
        attempt_status: columns.attempt_status()?,
        worker: columns.next()?,
        error_type: columns.next()?,
        error_message: columns.next()?,
        stack_trace: columns.next()?,
        execution_ms: columns.next()?,
    })
}

/// Jobs by id, in the order of their ids.
pub(in super::super) async fn load(
    snapshot: &mut Snapshot,
    ids: &[Uuid],
) -> Result<Vec<(Timestamp, JobParts)>, StoreError> {
    let rows = sqlx::query(PARTS).bind(ids).fetch_all(snapshot).await.map_err(store_error)?;
    rows.iter().map(read).collect()
}

/// A job's `event` rows.
pub(in super::super) async fn events(
    snapshot: &mut Snapshot,
    job: JobId,
) -> Result<Vec<TimelineRow>, StoreError> {
    let rows = sqlx::query(EVENTS).bind(job.0).fetch_all(snapshot).await.map_err(store_error)?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            let (seq, occurred_at) = (columns.next()?, columns.time()?);
            let (kind, state): (EventKind, JobState) = (columns.event_kind()?, columns.state()?);
            Ok(TimelineRow {
                job_id: job,
                seq,
                kind,
                message: message(kind, state).to_owned(),
                occurred_at,
                state,
                attempt: columns.next()?,
                fence: columns.next::<Option<i64>>()?.map(crate::domain::Fence),
                worker_id: columns.next()?,
                metadata: columns.next::<Option<String>>()?.map(RawJson::trusted),
            })
        })
        .collect()
}

/// A job's `attempt` rows.
pub(in super::super) async fn attempts(
    snapshot: &mut Snapshot,
    job: JobId,
) -> Result<Vec<AttemptRow>, StoreError> {
    let rows = sqlx::query(ATTEMPTS).bind(job.0).fetch_all(snapshot).await.map_err(store_error)?;
    rows.iter().map(|row| attempt(job, &mut Columns::of(row))).collect()
}

/// An ended attempt, from the columns that [`ATTEMPTS`] selects.
pub(super) fn attempt(job: JobId, columns: &mut Columns<'_>) -> Result<AttemptRow, StoreError> {
    let fence = columns.fence()?;
    let (started_at, finished_at) = (columns.time()?, columns.time()?);
    let attempt = columns.next()?;
    let status =
        columns.attempt_status()?.ok_or_else(|| StoreError::Refused("an attempt without a status".into()))?;
    Ok(AttemptRow {
        id: AttemptRow::id_of(job, fence),
        job_id: job,
        attempt,
        fence,
        worker_id: columns.next()?,
        status,
        error_type: columns.next()?,
        error_message: columns.next()?,
        stack_trace: columns.next()?,
        lease_expired: status == crate::domain::AttemptStatus::LeaseExpired,
        started_at,
        finished_at: Some(finished_at),
    })
}
