//! Retention: finished jobs go in small steps, `outcome` first, under the epochs of their shards.

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{
    PostgresStore,
    commit::{Effects, UPKEEP_LANE},
    connect::{journal, open},
    error::store_error,
    rows::Columns,
};
use crate::{
    domain::{JobState, ShardEpoch, Timestamp},
    store::StoreError,
};

/// The shards still owned, share-locked as in every batch.
pub(super) const OWNED: &str = "select s.id
from unnest($1::smallint[], $2::bigint[]) as e (id, epoch)
join shard s on s.id = e.id
join shard_seal z on z.id = s.id
where s.epoch = e.epoch and z.floor <= e.epoch
order by s.id
for share of s";

/// Jobs that may go, the longest ended first; what an unfinished one depends on stays.
const REMOVABLE: &str = "select o.job_id
from outcome o
where o.finished_at < $1 and o.state = any($2) and o.shard = any($3) and ($4::text is null or o.queue = $4)
  and ($5::text is null or o.tenant = $5)
  and not exists (select from dependency d join job_live l on l.id = d.child where d.parent = o.job_id)
order by o.finished_at
limit $6";

/// Whoever makes a job that depends on a failed one holds its dead letter: wait for it, then look again.
const LOCK: &str = "select from dead_letter where job_id = any($1) order by job_id for update";

const REMOVE: &str = "delete from outcome o
where o.job_id = any($1) and o.state = any($2)
  and not exists (select from dependency d join job_live l on l.id = d.child where d.parent = o.job_id)
returning o.job_id, o.shard, o.queue, o.state, clock_timestamp()";

const LETTERS: &str = "delete from dead_letter where job_id = any($1)";
const EVENTS: &str = "delete from event where job_id = any($1)";
const ATTEMPTS: &str = "delete from attempt where job_id = any($1)";
const LOGS: &str = "delete from job_log where job_id = any($1)";
const PARENTS: &str = "delete from dependency where child = any($1)";
const CHILDREN: &str = "delete from dependency where parent = any($1)";
const KEYS: &str = "delete from idempotency where job_id = any($1)";
const JOBS: &str = "delete from job where id = any($1)";
const OUTCOMES: &str = "delete from outcome where job_id = any($1)";

pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("remove owned", OWNED),
    ("remove removable", REMOVABLE),
    ("remove lock", LOCK),
    ("remove", REMOVE),
    ("remove letters", LETTERS),
    ("remove events", EVENTS),
    ("remove attempts", ATTEMPTS),
    ("remove logs", LOGS),
    ("remove parents", PARENTS),
    ("remove children", CHILDREN),
    ("remove keys", KEYS),
    ("remove jobs", JOBS),
    ("remove outcomes", OUTCOMES),
];

/// Which ended jobs go.
pub(super) struct Scope<'a> {
    pub(super) before: Timestamp,
    pub(super) states: &'a [JobState],
    pub(super) queue: Option<&'a str>,
    pub(super) tenant: Option<&'a str>,
}

/// Removes ended jobs of the shards that are still owned under `owners`; returns how many.
pub(super) async fn remove_finished(
    store: &PostgresStore,
    owners: &[ShardEpoch],
    scope: Scope<'_>,
    limit: i64,
) -> Result<i64, StoreError> {
    store.refuse_if_closed()?;
    let mut connection = open(&journal(&store.options, store.boot(), "lane upkeep")).await?;
    let mut transaction = connection.begin().await.map_err(store_error)?;
    let shards: Vec<i16> = sqlx::query_scalar(OWNED)
        .bind(owners.iter().map(|owner| owner.shard.0).collect::<Vec<i16>>())
        .bind(owners.iter().map(|owner| owner.epoch.0).collect::<Vec<i64>>())
        .fetch_all(&mut *transaction)
        .await
        .map_err(store_error)?;
    let states: Vec<i16> =
        scope.states.iter().filter(|state| state.is_terminal()).map(|state| state.code()).collect();
    let found: Vec<Uuid> = sqlx::query_scalar(REMOVABLE)
        .bind(scope.before.to_datetime())
        .bind(&states)
        .bind(shards)
        .bind(scope.queue)
        .bind(scope.tenant)
        .bind(limit)
        .fetch_all(&mut *transaction)
        .await
        .map_err(store_error)?;
    let removed = remove(&mut transaction, found, &states).await?;
    transaction.commit().await.map_err(store_error)?;
    connection.close().await.map_err(store_error)?;
    Ok(removed)
}

async fn remove(connection: &mut PgConnection, found: Vec<Uuid>, states: &[i16]) -> Result<i64, StoreError> {
    if found.is_empty() {
        return Ok(0);
    }
    sqlx::query(LOCK).bind(&found).execute(&mut *connection).await.map_err(store_error)?;
    let rows = sqlx::query(REMOVE)
        .bind(&found)
        .bind(states)
        .fetch_all(&mut *connection)
        .await
        .map_err(store_error)?;
    let mut effects = Effects::default();
    let mut jobs: Vec<Uuid> = Vec::with_capacity(rows.len());
    let mut now = Timestamp(0);
    for row in &rows {
        let mut columns = Columns::of(row);
        jobs.push(columns.next()?);
        let (shard, queue, state) = (columns.shard()?, columns.next::<&str>()?, columns.state()?);
        effects.count(shard, queue, state, -1);
        now = columns.time()?;
    }
    belongings(connection, &jobs).await?;
    effects.write(connection, UPKEEP_LANE, now).await?;
    i64::try_from(jobs.len()).map_err(|_| StoreError::Refused("too many rows".into()))
}

/// Removes ended jobs with all that belongs to them, in the caller's transaction; that they may go, and the
/// counters, are the caller's business.
pub(super) async fn all_of(connection: &mut PgConnection, jobs: &[Uuid]) -> Result<(), StoreError> {
    if jobs.is_empty() {
        return Ok(());
    }
    sqlx::query(OUTCOMES).bind(jobs).execute(&mut *connection).await.map_err(store_error)?;
    belongings(connection, jobs).await
}

/// What belongs to jobs whose outcomes are gone, and they themselves.
async fn belongings(connection: &mut PgConnection, jobs: &[Uuid]) -> Result<(), StoreError> {
    for statement in [LETTERS, EVENTS, ATTEMPTS, PARENTS, CHILDREN, KEYS, LOGS, JOBS] {
        sqlx::query(statement).bind(jobs).execute(&mut *connection).await.map_err(store_error)?;
    }
    Ok(())
}
