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
    domain::{AttemptRow, JobId, JobState, JobView, ShardId, TimelineRow},
    store::{
        StoreError,
        read::{FinishedFilter, FinishedRow, IdempotencyRecord, Inspection},
    },
};

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
pub(super) const STATEMENTS: &[(&str, &str)] = &[("locate", LOCATE), ("finished", FINISHED), ("key", KEY)];

/// The most attempts and timeline rows of an inspection, and rows of any page.
const INSPECTED_MAX: usize = 1_000;

/// A job.
pub(super) async fn job(pool: &SqlitePool, id: JobId) -> Result<Option<JobView>, StoreError> {
    let mut conn = pool.acquire().await.map_err(store_error)?;
    Ok(parts::load_one(&mut conn, id).await?.map(|stored| stored.parts.view(now())))
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
