//! Counters against rows.

use sqlx::{Connection, PgConnection, PgExecutor};
use uuid::Uuid;

use super::{
    PostgresStore,
    commit::{Effects, UPKEEP_LANE},
    connect::{journal, open},
    error::store_error,
    reads,
    remove::OWNED,
    rows::Columns,
};
use crate::{
    domain::{JobState, JobView, ShardEpoch, ShardId},
    store::{
        StoreError,
        reconcile::{Healed, WAITING_LOOKED_AT},
    },
};

/// Rows less counters of a queue's unfinished jobs: one statement, so one snapshot.
const LIVE: &str = "select $1::smallint, $2::text, d.state::smallint, sum(d.n)::bigint
from (
    select s.state, -sum(s.n) as n
    from counter c
    cross join lateral (values (0::smallint, c.queued), (1, c.scheduled), (2, c.retrying), (3, c.blocked),
                               (4, c.throttled), (5, c.active)) as s (state, n)
    where c.shard = $1 and c.queue = $2
    group by s.state
    union all
    select l.state, count(*) from job_live l
    where l.shard = $1 and l.queue = $2 and l.state <> 3 and l.gate is null group by l.state
    union all
    select l.state, count(*) from job_live l
    where l.shard = $1 and l.queue = $2 and l.gate is not null group by l.state
    union all
    select 3::smallint, count(*) from job_live l
    where l.shard = $1 and l.queue = $2 and l.state = 3 and l.gate is null
    union all
    select l.state, -count(*) from lease e join job_live l on l.id = e.job_id
    where e.shard = $1 and e.queue = $2 group by l.state
    union all
    select 5::smallint, count(*) from lease e where e.shard = $1 and e.queue = $2
) d
group by d.state having sum(d.n) <> 0 order by d.state";

/// The same for finished jobs, of all queues of these shards.
const ENDED: &str = "select d.shard, d.queue, d.state::smallint, sum(d.n)::bigint
from (
    select c.shard, c.queue, s.state, -sum(s.n) as n
    from counter c
    cross join lateral (values (6::smallint, c.completed), (7, c.failed), (8, c.canceled)) as s (state, n)
    where c.shard = any($1)
    group by c.shard, c.queue, s.state
    union all
    select o.shard, o.queue, o.state, count(*) from outcome o
    where o.shard = any($1) group by o.shard, o.queue, o.state
) d
group by d.shard, d.queue, d.state having sum(d.n) <> 0 order by d.shard, d.queue, d.state";

/// One healing after the other. The number is ours alone in the database.
const ONE_AT_A_TIME: &str = "select pg_advisory_xact_lock(7021984, 2)";

/// An outcome scan is a sequential one: no index has its columns, and one would cost every job that ends.
const SCANS: &str = "set local enable_seqscan = on";

const NEWEST: &str = "select l.id
from (select id, gate, run_at from job_live where state = $1 and state in (3, 4) order by id desc limit $2) l
where (l.gate is not null or $1 = 3 or l.run_at > now())
  and not exists (select from lease e where e.job_id = l.id)
order by l.id desc
limit $3";

pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("reconcile live", LIVE),
    ("reconcile ended", ENDED),
    ("reconcile lock", ONE_AT_A_TIME),
    ("newest waiting", NEWEST),
];

/// What is compared.
#[derive(Clone, Copy)]
enum Part<'a> {
    Live(ShardId, &'a str),
    Ended,
}

async fn drift<'e>(
    executor: impl PgExecutor<'e>,
    part: Part<'_>,
    shards: &[i16],
) -> Result<Vec<Healed>, StoreError> {
    let query = match part {
        Part::Live(shard, queue) => sqlx::query(LIVE).bind(shard.0).bind(queue),
        Part::Ended => sqlx::query(ENDED).bind(shards),
    };
    let rows = query.fetch_all(executor).await.map_err(store_error)?;
    let read = |row| {
        let mut columns = Columns::of(row);
        let (shard, queue) = (columns.shard()?, columns.next()?);
        Ok(Healed { shard, queue, state: columns.state()?, by: columns.next()? })
    };
    rows.iter().map(read).collect()
}

/// Compares by a reader; only what differs is looked at again by a writer.
pub(super) async fn live(
    store: &PostgresStore,
    owner: ShardEpoch,
    queue: &str,
) -> Result<Vec<Healed>, StoreError> {
    let part = Part::Live(owner.shard, queue);
    if drift(&store.readers, part, &[]).await?.is_empty() {
        return Ok(Vec::new());
    }
    heal(store, part, &[owner]).await
}

pub(super) async fn ended(store: &PostgresStore, owners: &[ShardEpoch]) -> Result<Vec<Healed>, StoreError> {
    let shards: Vec<i16> = owners.iter().map(|owner| owner.shard.0).collect();
    let mut snapshot = reads::snapshot(store).await?;
    sqlx::raw_sql(SCANS).execute(&mut *snapshot).await.map_err(store_error)?;
    let found = drift(&mut *snapshot, Part::Ended, &shards).await?;
    reads::done(snapshot).await?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    heal(store, Part::Ended, owners).await
}

async fn heal(
    store: &PostgresStore,
    part: Part<'_>,
    owners: &[ShardEpoch],
) -> Result<Vec<Healed>, StoreError> {
    store.refuse_if_closed()?;
    let mut connection = open(&journal(&store.options, store.boot(), "lane upkeep")).await?;
    let healed = heal_with(&mut connection, part, owners).await?;
    connection.close().await.map_err(store_error)?;
    Ok(healed)
}

async fn heal_with(
    connection: &mut PgConnection,
    part: Part<'_>,
    owners: &[ShardEpoch],
) -> Result<Vec<Healed>, StoreError> {
    let mut transaction = connection.begin().await.map_err(store_error)?;
    sqlx::raw_sql(SCANS).execute(&mut *transaction).await.map_err(store_error)?;
    sqlx::query(ONE_AT_A_TIME).execute(&mut *transaction).await.map_err(store_error)?;
    let held: Vec<i16> = sqlx::query_scalar(OWNED)
        .bind(owners.iter().map(|owner| owner.shard.0).collect::<Vec<i16>>())
        .bind(owners.iter().map(|owner| owner.epoch.0).collect::<Vec<i64>>())
        .fetch_all(&mut *transaction)
        .await
        .map_err(store_error)?;
    // A statement of its own behind the lock: its snapshot holds what the healing before it committed.
    let mut found = drift(&mut *transaction, part, &held).await?;
    found.retain(|healed| held.contains(&healed.shard.0));
    let mut effects = Effects::default();
    for healed in &found {
        effects.count(healed.shard, &healed.queue, healed.state, healed.by);
    }
    // The counters carry no time.
    effects.write(&mut transaction, UPKEEP_LANE, crate::domain::Timestamp(0)).await?;
    transaction.commit().await.map_err(store_error)?;
    Ok(found)
}

/// The newest jobs that wait in this state.
pub(super) async fn newest_waiting(
    store: &PostgresStore,
    state: JobState,
    limit: i64,
) -> Result<Vec<JobView>, StoreError> {
    let mut snapshot = reads::snapshot(store).await?;
    let ids: Vec<Uuid> = sqlx::query_scalar(NEWEST)
        .bind(state.code())
        .bind(WAITING_LOOKED_AT)
        .bind(limit)
        .fetch_all(&mut *snapshot)
        .await
        .map_err(store_error)?;
    let mut found = reads::parts::load(&mut snapshot, &ids).await?;
    reads::done(snapshot).await?;
    found.reverse();
    Ok(found.into_iter().map(|(now, parts)| parts.view(now)).collect())
}
