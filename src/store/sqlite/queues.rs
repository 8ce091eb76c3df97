//! Reads for a queue's owner: counters, the ready order, leases.

use sqlx::SqlitePool;

use super::{error::store_error, rows::Cols};
use crate::{
    domain::{BootId, Fence, JobOptions, SessionId, ShardId, Timestamp, WorkerId},
    store::{
        StoreError,
        read::{LeaseRow, QueueRow, ReadyKey, ReadyRow},
    },
};

const QUEUES: &str = "
    select c.queue, c.shard, coalesce(max(q.paused), 0), coalesce(max(q.draining), 0), max(q.config),
           sum(c.queued), sum(c.scheduled), sum(c.retrying), sum(c.blocked), sum(c.throttled),
           sum(c.active), sum(c.completed), sum(c.failed), sum(c.canceled)
    from counter c left join queue q on q.name = c.queue
    where ?1 is null or c.shard = ?1
    group by c.shard, c.queue
    union all
    select q.name, q.shard, q.paused, q.draining, q.config, 0, 0, 0, 0, 0, 0, 0, 0, 0
    from queue q
    where (?1 is null or q.shard = ?1)
      and not exists (select 1 from counter c where c.shard = q.shard and c.queue = q.name)
    order by 1, 2";

const READY: &str = "
    select run_at, id, kind, state from job_live
    where shard = ?1 and queue = ?2 and priority = ?3 and gate is null and state <> 3
      and run_at <= ?4 and (run_at, id) > (?5, ?6)
      and not exists (select 1 from lease where lease.job_id = job_live.id)
    order by run_at, id limit ?7";

const DEFERRED: &str = "
    select run_at, id, kind, state from job_live
    where shard = ?1 and queue = ?2 and priority = ?3 and gate is null and state <> 3
      and state in (1, 2, 4) and run_at > ?4 and run_at <= ?5
      and not exists (select 1 from lease where lease.job_id = job_live.id)
    order by run_at, id limit ?6";

const DUE: &str = "
    select state, count(*) from job_live
    where shard = ?1 and queue = ?2 and gate is null and state in (1, 2, 4) and run_at <= ?3
      and not exists (select 1 from lease where lease.job_id = job_live.id)
    group by state";

const GATES: &str = "
    select gate, count(*) from job_live
    where shard = ?1 and queue = ?2 and gate is not null group by gate order by gate";

const LEASES: &str = "
    select lease.job_id, lease.queue, lease.fence, lease.attempt, lease.worker, lease.session, lease.boot,
           lease.granted_at, lease.ttl_ms, lease.cancel_requested, l.kind, job.max_attempts,
           job.timeout_seconds, l.deaths, l.priority, job.options
    from lease
    join job_live l on l.id = lease.job_id
    join job on job.id = lease.job_id
    where lease.shard = ?1 and lease.queue = ?2
    order by lease.job_id";

/// One step for each of the shards, not one for each row.
const INBOX_SHARDS: &str = "
    select shard.id from shard
    where exists (select 1 from inbox where inbox.shard = shard.id)
    order by shard.id";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("queues", QUEUES),
    ("ready", READY),
    ("deferred", DEFERRED),
    ("due", DUE),
    ("gates", GATES),
    ("leases", LEASES),
    ("inbox shards", INBOX_SHARDS),
];

/// The queues of a shard, or of all.
pub(super) async fn queues(pool: &SqlitePool, shard: Option<ShardId>) -> Result<Vec<QueueRow>, StoreError> {
    let rows =
        sqlx::query(QUEUES).bind(shard.map(|shard| shard.0)).fetch_all(pool).await.map_err(store_error)?;
    let mut queues = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut cols = Cols::of(row);
        let mut queue = QueueRow {
            name: cols.get()?,
            shard: Some(cols.shard()?),
            paused: cols.get()?,
            draining: cols.get()?,
            config: cols.get()?,
            counts: [0; 9],
        };
        for count in &mut queue.counts {
            *count = cols.get()?;
        }
        queues.push(queue);
    }
    Ok(queues)
}

/// A queue of a shard, and one priority in it.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) shard: ShardId,
    pub(super) queue: &'a str,
    pub(super) priority: i16,
}

/// The next ready jobs behind `after`.
pub(super) async fn ready(
    pool: &SqlitePool,
    place: Place<'_>,
    after: Option<ReadyKey>,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<ReadyRow>, StoreError> {
    // Before the first: no time is as early.
    let (run_at, id) =
        after.map_or((i64::MIN, Vec::new()), |key| (key.run_at.0, key.job.0.as_bytes().to_vec()));
    let query = sqlx::query(READY)
        .bind(place.shard.0)
        .bind(place.queue)
        .bind(place.priority)
        .bind(now.0)
        .bind(run_at)
        .bind(id)
        .bind(limit);
    query.fetch_all(pool).await.map_err(store_error)?.iter().map(ready_row).collect()
}

fn ready_row(row: &sqlx::sqlite::SqliteRow) -> Result<ReadyRow, StoreError> {
    let mut cols = Cols::of(row);
    let key = ReadyKey { run_at: cols.time()?, job: cols.job()? };
    Ok(ReadyRow { key, kind: cols.get()?, state: cols.state()? })
}

/// The gates of a queue, with how many jobs each holds.
pub(super) async fn gates(
    pool: &SqlitePool,
    shard: ShardId,
    queue: &str,
) -> Result<Vec<(String, i64)>, StoreError> {
    let rows = sqlx::query(GATES).bind(shard.0).bind(queue).fetch_all(pool).await.map_err(store_error)?;
    let read = |row| {
        let mut cols = Cols::of(row);
        Ok((cols.get()?, cols.get()?))
    };
    rows.iter().map(read).collect()
}

/// The jobs that become ready in a time.
pub(super) async fn deferred(
    pool: &SqlitePool,
    place: Place<'_>,
    after: Timestamp,
    until: Timestamp,
    limit: i64,
) -> Result<Vec<ReadyRow>, StoreError> {
    let query = sqlx::query(DEFERRED)
        .bind(place.shard.0)
        .bind(place.queue)
        .bind(place.priority)
        .bind(after.0)
        .bind(until.0)
        .bind(limit);
    query.fetch_all(pool).await.map_err(store_error)?.iter().map(ready_row).collect()
}

/// How many deferred jobs are due, by their stored state.
pub(super) async fn due_counts(
    pool: &SqlitePool,
    shard: ShardId,
    queue: &str,
    now: Timestamp,
) -> Result<[i64; 9], StoreError> {
    let query = sqlx::query(DUE).bind(shard.0).bind(queue).bind(now.0);
    let mut counts = [0; 9];
    for row in &query.fetch_all(pool).await.map_err(store_error)? {
        let mut cols = Cols::of(row);
        let state = usize::try_from(cols.state()?.code()).unwrap_or(0);
        counts[state] = cols.get()?;
    }
    Ok(counts)
}

/// The leases of a queue.
pub(super) async fn leases(
    pool: &SqlitePool,
    shard: ShardId,
    queue: &str,
) -> Result<Vec<LeaseRow>, StoreError> {
    let rows = sqlx::query(LEASES).bind(shard.0).bind(queue).fetch_all(pool).await.map_err(store_error)?;
    let mut leases = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut cols = Cols::of(row);
        leases.push(LeaseRow {
            job: cols.job()?,
            queue: cols.get()?,
            fence: Fence(cols.get()?),
            attempt: cols.int()?,
            worker: WorkerId(cols.get::<String>()?.into()),
            session: SessionId(cols.get()?),
            boot: BootId(cols.get()?),
            granted_at: cols.time()?,
            ttl_ms: cols.get()?,
            cancel_requested: cols.get()?,
            kind: cols.get()?,
            max_attempts: cols.int()?,
            timeout_seconds: cols.int()?,
            deaths: cols.int()?,
            priority: cols.int()?,
            retry: JobOptions::from_stored(cols.get::<Option<String>>()?.as_deref()).retry,
        });
    }
    Ok(leases)
}

/// Shards whose inbox has rows.
pub(super) async fn inbox_shards(pool: &SqlitePool) -> Result<Vec<ShardId>, StoreError> {
    let rows = sqlx::query(INBOX_SHARDS).fetch_all(pool).await.map_err(store_error)?;
    rows.iter().map(|row| Cols::of(row).shard()).collect()
}
