//! Reads of jobs for people: one, lists, reports.

use sqlx::{SqliteConnection, SqlitePool};

use super::{
    dead_letters,
    error::store_error,
    parts,
    readers::snapshot,
    rows::{Cols, ids},
    writer::now,
};
use crate::{
    domain::{AttemptRow, JobId, JobState, JobView, ShardId, TimelineRow, Timestamp},
    store::{
        StoreError,
        read::{FinishedFilter, FinishedRow, IdempotencyRecord, Inspection, JobCursor, JobFilter},
    },
};

macro_rules! state_shown {
    ($now:literal) => {
        concat!(
            "case when lease.job_id is not null then 5
                  when l.id is null then o.state
                  when l.state in (1, 2, 4) and l.gate is null and l.run_at <= ",
            $now,
            " then 0
                  else l.state end"
        )
    };
}
pub(super) use state_shown;

/// Ids of jobs that match, newest first, from what `$from` names.
macro_rules! list {
    ($from:literal, $workflow:literal) => {
        concat!(
            "select job.id from ",
            $from,
            " left join lease on lease.job_id = job.id
            where (?1 is null or job.id < ?1)
              and (?2 is null or (",
            state_shown!("?12"),
            ") in (select value from jsonb_each(?2)))
              and (?3 is null or coalesce(l.queue, o.queue) = ?3)
              and (?4 is null or coalesce(lease.worker, l.last_worker, o.worker) = ?4)
              and (?5 is null or job.tenant = ?5)
              and ", $workflow, "
              and (?7 is null or job.kind = ?7)
              and (?8 is null or exists (select 1 from json_each(job.options, '$.tags') t where t.value = ?8))
              and (?9 is null or job.created_at >= ?9)
              and (?10 is null or job.created_at < ?10)
              and (?11 is null
                   or instr(lower(job.kind), ?11) > 0
                   or instr(lower(coalesce(l.last_error, o.error_message)), ?11) > 0
                   or instr(lower(substr(hex(job.id), 1, 8) || '-' || substr(hex(job.id), 9, 4) || '-'
                            || substr(hex(job.id), 13, 4) || '-' || substr(hex(job.id), 17, 4) || '-'
                            || substr(hex(job.id), 21)), ?11) > 0)
            order by job.id desc limit ?13"
        )
    };
}

const LIST_ALL: &str = list!(
    "job left join job_live l on l.id = job.id
         left join outcome o on o.job_id = job.id",
    "?6 is null"
);
/// Only what has not finished: far fewer rows than there are jobs.
const LIST_LIVE: &str = list!(
    "job_live l cross join job on job.id = l.id
         left join outcome o on o.job_id = job.id",
    "?6 is null"
);
/// Only what has finished.
const LIST_ENDED: &str = list!(
    "outcome o cross join job on job.id = o.job_id
         left join job_live l on l.id = job.id",
    "?6 is null"
);
/// Only a workflow's.
const LIST_WORKFLOW: &str = list!(
    "job indexed by job_workflow left join job_live l on l.id = job.id
         left join outcome o on o.job_id = job.id",
    "job.workflow_id = ?6"
);

const LOCATE: &str = "
    select shard, queue from job_live where id = ?1
    union all select shard, queue from outcome where job_id = ?1";

const FINISHED: &str = "
    select o.job_id, o.kind, o.queue, o.tenant, o.state, o.attempt, job.created_at, o.started_at,
           o.finished_at, o.error_message
    from outcome o cross join job on job.id = o.job_id
    where (?1 is null or o.job_id > ?1)
      and (?2 is null or o.tenant = ?2) and (?3 is null or o.queue = ?3)
      and (?4 is null or o.kind = ?4) and (?5 is null or o.state = ?5)
      and (?6 is null or o.finished_at >= ?6) and (?7 is null or o.finished_at < ?7)
    order by o.job_id limit ?8";

const KEY: &str = "
    select i.key, i.tenant, i.job_id, i.expires_at
    from job join idempotency i on i.tenant = job.tenant and i.key = job.idempotency_key
    where job.id = ?1 and i.job_id = ?1";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("list all", LIST_ALL),
    ("list live", LIST_LIVE),
    ("list ended", LIST_ENDED),
    ("list workflow", LIST_WORKFLOW),
    ("locate", LOCATE),
    ("finished", FINISHED),
    ("key", KEY),
];

/// The most attempts and timeline rows of an inspection, and rows of any page.
const INSPECTED_MAX: usize = 1_000;

/// A job.
pub(super) async fn job(pool: &SqlitePool, id: JobId) -> Result<Option<JobView>, StoreError> {
    let mut conn = pool.acquire().await.map_err(store_error)?;
    Ok(parts::load_one(&mut conn, id).await?.map(|stored| stored.parts.view(now())))
}

/// Jobs, newest first, behind `cursor`.
pub(super) async fn list(
    pool: &SqlitePool,
    filter: &JobFilter,
    cursor: Option<JobCursor>,
    limit: i64,
) -> Result<Vec<JobView>, StoreError> {
    let now = now();
    let mut tx = snapshot(pool).await?;
    let found = matching_in(&mut tx, filter, cursor, limit, now).await?;
    let stored = parts::load(&mut tx, ids(found)).await?;
    Ok(stored.iter().map(|stored| stored.parts.view(now)).collect())
}

/// The ids of jobs, newest first, behind `cursor`.
pub(super) async fn matching(
    pool: &SqlitePool,
    filter: &JobFilter,
    cursor: Option<JobCursor>,
    limit: i64,
) -> Result<Vec<JobId>, StoreError> {
    let mut conn = pool.acquire().await.map_err(store_error)?;
    matching_in(&mut conn, filter, cursor, limit, now()).await
}

async fn matching_in(
    conn: &mut SqliteConnection,
    filter: &JobFilter,
    cursor: Option<JobCursor>,
    limit: i64,
    now: Timestamp,
) -> Result<Vec<JobId>, StoreError> {
    let states: Vec<i16> = filter.states.iter().map(|state| state.code()).collect();
    let states = (!states.is_empty()).then(|| serde_json::to_string(&states).unwrap_or_default());
    let sql = if filter.workflow.is_some() {
        LIST_WORKFLOW
    } else if filter.states.is_empty() {
        LIST_ALL
    } else if filter.states.iter().all(|state| state.is_terminal()) {
        LIST_ENDED
    } else if filter.states.iter().any(|state| state.is_terminal()) {
        LIST_ALL
    } else {
        LIST_LIVE
    };
    let rows = sqlx::query(sql)
        .bind(cursor.map(|cursor| cursor.0.0))
        .bind(states)
        .bind(filter.queue.as_deref())
        .bind(filter.worker.as_deref())
        .bind(filter.tenant.as_deref())
        .bind(filter.workflow)
        .bind(filter.kind.as_deref())
        .bind(filter.tag.as_deref())
        .bind(filter.created_after.map(|at| at.0))
        .bind(filter.created_before.map(|at| at.0))
        .bind(filter.text.as_ref().map(|text| text.to_ascii_lowercase()))
        .bind(now.0)
        .bind(limit)
        .fetch_all(conn)
        .await
        .map_err(store_error)?;
    rows.iter().map(|row| Cols::of(row).job()).collect()
}

/// A job's timeline behind `after`.
pub(super) async fn events(
    pool: &SqlitePool,
    id: JobId,
    after: i64,
    limit: i64,
) -> Result<Option<Vec<TimelineRow>>, StoreError> {
    let mut tx = snapshot(pool).await?;
    let Some(stored) = parts::load_one(&mut tx, id).await? else { return Ok(None) };
    let events = parts::events(&mut tx, id, after, limit).await?;
    let mut rows = stored.parts.timeline(events, now());
    rows.retain(|row| row.seq > after);
    rows.truncate(usize::try_from(limit).unwrap_or(0));
    Ok(Some(rows))
}

/// A job's attempts.
pub(super) async fn attempts(pool: &SqlitePool, id: JobId) -> Result<Option<Vec<AttemptRow>>, StoreError> {
    let mut tx = snapshot(pool).await?;
    let Some(stored) = parts::load_one(&mut tx, id).await? else { return Ok(None) };
    let rows = parts::attempts(&mut tx, id).await?;
    Ok(Some(stored.parts.attempts(rows)))
}

/// All of a job.
pub(super) async fn inspect(pool: &SqlitePool, id: JobId) -> Result<Option<Inspection>, StoreError> {
    let now = now();
    let mut tx = snapshot(pool).await?;
    let Some(stored) = parts::load_one(&mut tx, id).await? else { return Ok(None) };
    let newest = i64::try_from(INSPECTED_MAX).unwrap_or(i64::MAX);
    let events = parts::events(&mut tx, id, stored.last_seq - newest, newest).await?;
    let events = last(stored.parts.timeline(events, now));
    let attempts = last(stored.parts.attempts(parts::attempts(&mut tx, id).await?));
    let graph = super::graph::load(&mut tx, id, now).await?;
    Ok(Some(Inspection {
        job: stored.parts.view(now),
        attempts,
        events,
        graph,
        idempotency: key(&mut tx, id).await?,
        dead_letter: dead_letters::letters(&mut tx, ids([id])).await?.pop(),
        replay_count: i32::try_from(stored.replay_count).unwrap_or(i32::MAX),
        last_replayed_at: stored.last_replayed_at,
    }))
}

fn last<T>(mut rows: Vec<T>) -> Vec<T> {
    rows.split_off(rows.len().saturating_sub(INSPECTED_MAX))
}

async fn key(conn: &mut SqliteConnection, id: JobId) -> Result<Option<IdempotencyRecord>, StoreError> {
    let row = sqlx::query(KEY).bind(id.0).fetch_optional(conn).await.map_err(store_error)?;
    let Some(row) = row else { return Ok(None) };
    let mut cols = Cols::of(&row);
    Ok(Some(IdempotencyRecord {
        key: cols.get()?,
        tenant_id: cols.get()?,
        job_id: cols.job()?,
        expires_at: cols.time()?,
    }))
}

/// The queue and shard of a job.
pub(super) async fn locate(pool: &SqlitePool, id: JobId) -> Result<Option<(ShardId, String)>, StoreError> {
    let row = sqlx::query(LOCATE).bind(id.0).fetch_optional(pool).await.map_err(store_error)?;
    let Some(row) = row else { return Ok(None) };
    let mut cols = Cols::of(&row);
    Ok(Some((cols.shard()?, cols.get()?)))
}

/// Finished jobs in the order they were made.
pub(super) async fn finished(
    pool: &SqlitePool,
    filter: &FinishedFilter,
    after: Option<JobId>,
    limit: i64,
) -> Result<Vec<FinishedRow>, StoreError> {
    let rows = sqlx::query(FINISHED)
        .bind(after.map(|after| after.0))
        .bind(filter.tenant.as_deref())
        .bind(filter.queue.as_deref())
        .bind(filter.kind.as_deref())
        .bind(filter.state.map(JobState::code))
        .bind(filter.since.map(|at| at.0))
        .bind(filter.until.map(|at| at.0))
        .bind(limit)
        .fetch_all(pool)
        .await
        .map_err(store_error)?;
    let mut finished = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut cols = Cols::of(row);
        finished.push(FinishedRow {
            job: cols.job()?,
            kind: cols.get()?,
            queue: cols.get()?,
            tenant: cols.get()?,
            state: cols.state()?,
            attempts: cols.int()?,
            created_at: cols.time()?,
            started_at: cols.opt_time()?,
            finished_at: cols.time()?,
            last_error: cols.get()?,
        });
    }
    Ok(finished)
}
