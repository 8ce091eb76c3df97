//! What owners of shards read: queues, windows, leases, inboxes.

use sqlx::postgres::PgRow;

use super::super::{PostgresStore, error::store_error, rows::Columns};
use crate::{
    domain::{JobOptions, ShardId, Timestamp, WorkerId},
    store::{
        StoreError,
        read::{LeaseRow, QueueRow, ReadyKey, ReadyRow},
    },
};

const OF_SHARD: &str =
    "select coalesce(q.name, c.queue), coalesce(q.shard, c.shard), coalesce(q.paused, false),
       coalesce(q.draining, false), q.config, c.counts
from (
    select shard, queue, array[sum(queued), sum(scheduled), sum(retrying), sum(blocked), sum(throttled),
           sum(active), sum(completed), sum(failed), sum(canceled)]::bigint[] as counts
    from counter where shard = $1 group by shard, queue
) c
full join (select * from queue where shard = $1) q on q.name = c.queue
order by 1";

const ALL: &str = "select coalesce(q.name, c.queue), coalesce(q.shard, c.shard), coalesce(q.paused, false),
       coalesce(q.draining, false), q.config, c.counts
from (
    select shard, queue, array[sum(queued), sum(scheduled), sum(retrying), sum(blocked), sum(throttled),
           sum(active), sum(completed), sum(failed), sum(canceled)]::bigint[] as counts
    from counter group by shard, queue
) c
full join queue q on q.name = c.queue and q.shard = c.shard
order by 1";

const READY: &str = "select l.run_at, l.id, l.kind, l.state
from job_live l
where l.shard = $1 and l.queue = $2 and l.priority = $3 and l.state <> 3 and l.gate is null
  and (l.run_at, l.id) > ($4, $5) and l.run_at <= $6
  and not exists (select from lease e where e.job_id = l.id)
order by l.run_at, l.id
limit $7";

const DEFERRED: &str = "select l.run_at, l.id, l.kind, l.state
from job_live l
where l.shard = $1 and l.queue = $2 and l.priority = $3 and l.state <> 3 and l.gate is null
  and l.run_at > $4 and l.run_at <= $5
  and not exists (select from lease e where e.job_id = l.id)
order by l.run_at, l.id
limit $6";

const DUE_COUNTS: &str = "select l.state, count(*)
from job_live l
where l.shard = $1 and l.queue = $2 and l.gate is null and l.state in (1, 2, 4) and l.run_at <= $3
  and not exists (select from lease e where e.job_id = l.id)
group by l.state";

const GATES: &str = "select gate, count(*) from job_live
where shard = $1 and queue = $2 and gate is not null group by gate order by gate";

const LEASES: &str =
    "select e.job_id, e.queue, e.fence, e.attempt, e.worker, e.session, e.boot, e.granted_at, e.ttl_ms,
       e.cancel_requested, j.kind, j.max_attempts, j.timeout_seconds, l.deaths, l.priority, j.options
from lease e
join job_live l on l.id = e.job_id
join job j on j.id = e.job_id
where e.shard = $1 and e.queue = $2
order by e.job_id";

const INBOX_SHARDS: &str = "with recursive s as (
    (select shard from inbox order by shard limit 1)
    union all
    select (select i.shard from inbox i where i.shard > s.shard order by i.shard limit 1)
    from s where s.shard is not null
)
select shard from s where shard is not null";

pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("queues of shard", OF_SHARD),
    ("queues all", ALL),
    ("queues ready", READY),
    ("queues deferred", DEFERRED),
    ("queues due counts", DUE_COUNTS),
    ("queues leases", LEASES),
    ("queues gates", GATES),
    ("queues inbox shards", INBOX_SHARDS),
];

fn queue(row: &PgRow) -> Result<QueueRow, StoreError> {
    let mut columns = Columns::of(row);
    let (name, shard) = (columns.next()?, Some(columns.shard()?));
    let (paused, draining, config) = (columns.next()?, columns.next()?, columns.next()?);
    let counts: Option<Vec<i64>> = columns.next()?;
    let counts = counts.and_then(|counts| counts.try_into().ok()).unwrap_or_default();
    Ok(QueueRow { name, shard, paused, draining, config, counts })
}

/// The queues of a shard.
pub(in super::super) async fn of_shard(
    store: &PostgresStore,
    shard: ShardId,
) -> Result<Vec<QueueRow>, StoreError> {
    let rows = sqlx::query(OF_SHARD).bind(shard.0).fetch_all(&store.readers).await.map_err(store_error)?;
    rows.iter().map(queue).collect()
}

/// The queues of all shards.
pub(in super::super) async fn all(store: &PostgresStore) -> Result<Vec<QueueRow>, StoreError> {
    let rows = sqlx::query(ALL).fetch_all(&store.readers).await.map_err(store_error)?;
    rows.iter().map(queue).collect()
}

fn ready_row(row: &PgRow) -> Result<ReadyRow, StoreError> {
    let mut columns = Columns::of(row);
    let key = ReadyKey { run_at: columns.time()?, job: columns.job()? };
    Ok(ReadyRow { key, kind: columns.next()?, state: columns.state()? })
}

/// The gates of a queue, with how many jobs each holds.
pub(in super::super) async fn gates(
    store: &PostgresStore,
    shard: ShardId,
    queue: &str,
) -> Result<Vec<(String, i64)>, StoreError> {
    let query = sqlx::query_as(GATES).bind(shard.0).bind(queue);
    query.fetch_all(&store.readers).await.map_err(store_error)
}

/// The next ready jobs behind `after`.
pub(in super::super) async fn ready(
    store: &PostgresStore,
    (shard, queue, priority): (ShardId, &str, i16),
    after: Option<ReadyKey>,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<ReadyRow>, StoreError> {
    let (run_at, id) = after.map_or((Timestamp(0), uuid::Uuid::nil()), |key| (key.run_at, key.job.0));
    let rows = sqlx::query(READY)
        .bind(shard.0)
        .bind(queue)
        .bind(priority)
        .bind(run_at.to_datetime())
        .bind(id)
        .bind(now.to_datetime())
        .bind(limit)
        .fetch_all(&store.readers)
        .await
        .map_err(store_error)?;
    rows.iter().map(ready_row).collect()
}

/// The jobs that become ready within a time.
pub(in super::super) async fn deferred(
    store: &PostgresStore,
    (shard, queue, priority): (ShardId, &str, i16),
    after: Timestamp,
    until: Timestamp,
    limit: i64,
) -> Result<Vec<ReadyRow>, StoreError> {
    let rows = sqlx::query(DEFERRED)
        .bind(shard.0)
        .bind(queue)
        .bind(priority)
        .bind(after.to_datetime())
        .bind(until.to_datetime())
        .bind(limit)
        .fetch_all(&store.readers)
        .await
        .map_err(store_error)?;
    rows.iter().map(ready_row).collect()
}

/// How many deferred jobs are due, by stored state.
pub(in super::super) async fn due_counts(
    store: &PostgresStore,
    shard: ShardId,
    queue: &str,
    now: Timestamp,
) -> Result<[i64; 9], StoreError> {
    let rows = sqlx::query(DUE_COUNTS)
        .bind(shard.0)
        .bind(queue)
        .bind(now.to_datetime())
        .fetch_all(&store.readers)
        .await
        .map_err(store_error)?;
    let mut counts = [0; 9];
    for row in &rows {
        let mut columns = Columns::of(row);
        let index = usize::try_from(columns.state()?.code()).unwrap_or_default();
        if let Some(count) = counts.get_mut(index) {
            *count = columns.next()?;
        }
    }
    Ok(counts)
}

/// The leases of a queue.
pub(in super::super) async fn leases(
    store: &PostgresStore,
    shard: ShardId,
    queue: &str,
) -> Result<Vec<LeaseRow>, StoreError> {
    let rows =
        sqlx::query(LEASES).bind(shard.0).bind(queue).fetch_all(&store.readers).await.map_err(store_error)?;
    rows.iter().map(lease).collect()
}

fn lease(row: &PgRow) -> Result<LeaseRow, StoreError> {
    let mut columns = Columns::of(row);
    Ok(LeaseRow {
        job: columns.job()?,
        queue: columns.next()?,
        fence: columns.fence()?,
        attempt: columns.next()?,
        worker: WorkerId(columns.next::<String>()?.into()),
        session: columns.session()?,
        boot: columns.boot()?,
        granted_at: columns.time()?,
        ttl_ms: columns.next()?,
        cancel_requested: columns.next()?,
        kind: columns.next()?,
        max_attempts: columns.next()?,
        timeout_seconds: columns.next()?,
        deaths: columns.next()?,
        priority: columns.next()?,
        retry: JobOptions::from_stored(columns.next::<Option<&str>>()?).retry,
    })
}

/// Shards whose inbox has rows.
pub(in super::super) async fn inbox_shards(store: &PostgresStore) -> Result<Vec<ShardId>, StoreError> {
    let shards: Vec<i16> =
        sqlx::query_scalar(INBOX_SHARDS).fetch_all(&store.readers).await.map_err(store_error)?;
    Ok(shards.into_iter().map(ShardId).collect())
}
