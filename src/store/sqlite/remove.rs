//! Removes what is past its time.

use std::collections::HashSet;

use sqlx::SqliteConnection;

use super::{
    batch::Batch,
    cancel::{UNBURY, UNFINISH},
    error::store_error,
    rows::{Cols, Rows},
};
use crate::{
    domain::{JobId, JobState, ShardEpoch, Timestamp},
    store::StoreError,
};

/// Ended jobs that nothing unfinished depends on, the longest ended first.
const REMOVABLE: &str = "
    select o.job_id, o.shard, o.queue, o.state
    from outcome o indexed by outcome_finished
    where o.finished_at < ?1
      and o.state in (select value from jsonb_each(?2))
      and o.shard in (select value from jsonb_each(?3))
      and (?4 is null or o.queue = ?4)
      and (?5 is null or o.tenant = ?5)
      and not exists (select 1 from dependency d join job_live l on l.id = d.child where d.parent = o.job_id)
    order by o.finished_at limit ?6";

const EVENTS: &str = "delete from event where job_id in (select unhex(value ->> 0) from jsonb_each(?1))";
const ATTEMPTS: &str = "delete from attempt where job_id in (select unhex(value ->> 0) from jsonb_each(?1))";
const LOGS: &str = "delete from job_log where job_id in (select unhex(value ->> 0) from jsonb_each(?1))";
const PARENTS: &str = "delete from dependency where child in (select unhex(value ->> 0) from jsonb_each(?1))";
const CHILDREN: &str =
    "delete from dependency where parent in (select unhex(value ->> 0) from jsonb_each(?1))";
const KEYS: &str = "
    delete from idempotency where (tenant, key) in (
        select job.tenant, job.idempotency_key
        from jsonb_each(?1) e join job on job.id = unhex(e.value ->> 0)
        where job.idempotency_key is not null)
      and job_id in (select unhex(value ->> 0) from jsonb_each(?1))";
const JOBS: &str = "delete from job where id in (select unhex(value ->> 0) from jsonb_each(?1))";

/// Keys whose time is over and whose job is not live.
const OVER: &str = "
    delete from idempotency where (tenant, key) in (
        select i.tenant, i.key from idempotency i indexed by idempotency_expires
        where i.expires_at <= ?1 and not exists (select 1 from job_live l where l.id = i.job_id)
        order by i.expires_at limit ?2)";

/// Unique keys that are free.
const FREE: &str = "
    delete from unique_key where key in (
        select k.key from unique_key k left join outcome o on o.job_id = k.job_id
        where k.expires_at <= ?1
           or not exists (select 1 from job_live l where l.id = k.job_id)
              and (o.state is null or k.states & (1 << o.state) = 0)
        limit ?2)";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("removable", REMOVABLE),
    ("remove events", EVENTS),
    ("remove attempts", ATTEMPTS),
    ("remove logs", LOGS),
    ("remove parents", PARENTS),
    ("remove children", CHILDREN),
    ("remove keys", KEYS),
    ("remove jobs", JOBS),
    ("keys over", OVER),
    ("unique keys free", FREE),
];

/// Keys removed in one step: a step must not hold up the batches.
const KEYS_MAX: i64 = 10_000;

/// What is removed.
pub(super) struct Finished<'a> {
    pub(super) before: Timestamp,
    pub(super) states: &'a [JobState],
    pub(super) queue: Option<&'a str>,
    pub(super) tenant: Option<&'a str>,
    pub(super) limit: i64,
}

/// Removes ended jobs of the shards still owned under `owners`; returns how many.
pub(super) async fn finished(
    conn: &mut SqliteConnection,
    owners: &[ShardEpoch],
    which: Finished<'_>,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let mut batch = Batch::new(conn, now);
    let owners: HashSet<ShardEpoch> = owners.iter().copied().collect();
    let lost = batch.lost(&owners).await?;
    let held: Vec<i16> = owners.difference(&lost).map(|owner| owner.shard.0).collect();
    let states: Vec<i16> =
        which.states.iter().filter(|state| state.is_terminal()).map(|state| state.code()).collect();
    let rows = sqlx::query(REMOVABLE)
        .bind(which.before.0)
        .bind(serde_json::to_string(&states).unwrap_or_default())
        .bind(serde_json::to_string(&held).unwrap_or_default())
        .bind(which.queue)
        .bind(which.tenant)
        .bind(which.limit)
        .fetch_all(&mut *batch.conn)
        .await
        .map_err(store_error)?;
    let mut removed = Rows::default();
    for row in &rows {
        let mut cols = Cols::of(row);
        let job: JobId = cols.job()?;
        let (shard, queue, state) = (cols.shard()?, cols.get::<String>()?, cols.state()?);
        batch.count(shard, &queue, state, -1);
        removed.row().id(job);
    }
    all_of(&mut batch, removed).await?;
    batch.finish().await?;
    i64::try_from(rows.len()).map_err(|_| StoreError::Refused("too many rows".into()))
}

/// Removes ended jobs with all that belongs to them, in the caller's transaction; that they may go, and the
/// counters, are the caller's business.
pub(super) async fn all_of(batch: &mut Batch<'_>, jobs: Rows) -> Result<(), StoreError> {
    if jobs.len() == 0 {
        return Ok(());
    }
    let json = jobs.finish();
    for sql in [UNFINISH, UNBURY, EVENTS, ATTEMPTS, PARENTS, CHILDREN, KEYS, LOGS, JOBS] {
        sqlx::query(sql).bind(json.as_str()).execute(&mut *batch.conn).await.map_err(store_error)?;
    }
    Ok(())
}

/// Drops keys that no longer hold.
pub(super) async fn keys_over(conn: &mut SqliteConnection, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query(FREE).bind(now.0).bind(KEYS_MAX).execute(&mut *conn).await.map_err(store_error)?;
    sqlx::query(OVER).bind(now.0).bind(KEYS_MAX).execute(conn).await.map_err(store_error)?;
    Ok(())
}
