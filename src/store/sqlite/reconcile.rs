//! Counters against rows.

use std::collections::HashSet;

use sqlx::{SqliteConnection, SqlitePool};

use super::{
    batch::Batch,
    error::store_error,
    parts,
    readers::snapshot,
    rows::{Cols, ids},
    writer::now,
};
use crate::{
    domain::{JobState, JobView, ShardEpoch, ShardId, Timestamp},
    store::{
        StoreError,
        reconcile::{Healed, WAITING_LOOKED_AT},
    },
};

/// Rows less counters of a queue's unfinished jobs: one statement, so one snapshot.
const LIVE: &str = "
    select ?1, ?2, state, sum(n) from (
        select 0 as state, -sum(queued) as n from counter where shard = ?1 and queue = ?2
        union all select 1, -sum(scheduled) from counter where shard = ?1 and queue = ?2
        union all select 2, -sum(retrying) from counter where shard = ?1 and queue = ?2
        union all select 3, -sum(blocked) from counter where shard = ?1 and queue = ?2
        union all select 4, -sum(throttled) from counter where shard = ?1 and queue = ?2
        union all select 5, -sum(active) from counter where shard = ?1 and queue = ?2
        union all select state, count(*) from job_live
            where shard = ?1 and queue = ?2 and state <> 3 and gate is null group by state
        union all select state, count(*) from job_live
            where shard = ?1 and queue = ?2 and gate is not null group by state
        union all select 3, count(*) from job_live
            where shard = ?1 and queue = ?2 and state = 3 and gate is null
        union all select l.state, -count(*) from lease cross join job_live l on l.id = lease.job_id
            where lease.shard = ?1 and lease.queue = ?2 group by l.state
        union all select 5, count(*) from lease where shard = ?1 and queue = ?2
    ) group by state having sum(n) <> 0 order by state";

/// The same for finished jobs, of all queues of these shards.
const ENDED: &str = "
    select shard, queue, state, sum(n) from (
        select shard, queue, 6 as state, -completed as n from counter
        union all select shard, queue, 7, -failed from counter
        union all select shard, queue, 8, -canceled from counter
        union all select shard, queue, state, count(*) from outcome group by shard, queue, state
    ) where shard in (select value from jsonb_each(?1))
    group by shard, queue, state having sum(n) <> 0 order by shard, queue, state";

const NEWEST: &str = "
    select id from (
        select id, gate, run_at from job_live where state = ?1 and state in (3, 4) order by id desc limit ?2
    ) w
    where (gate is not null or ?1 = 3 or run_at > ?4)
      and not exists (select 1 from lease where lease.job_id = w.id)
    order by id desc limit ?3";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] =
    &[("reconcile live", LIVE), ("reconcile ended", ENDED), ("newest waiting", NEWEST)];

async fn read(
    conn: &mut SqliteConnection,
    query: sqlx::query::Query<'_, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>,
) -> Result<Vec<Healed>, StoreError> {
    let rows = query.fetch_all(conn).await.map_err(store_error)?;
    let read = |row| {
        let mut cols = Cols::of(row);
        Ok(Healed { shard: cols.shard()?, queue: cols.get()?, state: cols.state()?, by: cols.get()? })
    };
    rows.iter().map(read).collect()
}

/// What a queue's counters of unfinished jobs lack.
pub(super) async fn live(pool: &SqlitePool, shard: ShardId, queue: &str) -> Result<Vec<Healed>, StoreError> {
    let mut conn = pool.acquire().await.map_err(store_error)?;
    read(&mut conn, sqlx::query(LIVE).bind(shard.0).bind(queue)).await
}

/// What the counters of finished jobs lack.
pub(super) async fn ended(pool: &SqlitePool, owners: &[ShardEpoch]) -> Result<Vec<Healed>, StoreError> {
    let shards: Vec<i16> = owners.iter().map(|owner| owner.shard.0).collect();
    let shards = serde_json::to_string(&shards).unwrap_or_default();
    let mut conn = pool.acquire().await.map_err(store_error)?;
    read(&mut conn, sqlx::query(ENDED).bind(shards)).await
}

/// Adds what was found lacking, in the shards that are still owned; returns it.
pub(super) async fn heal(
    conn: &mut SqliteConnection,
    owners: &[ShardEpoch],
    mut found: Vec<Healed>,
    now: Timestamp,
) -> Result<Vec<Healed>, StoreError> {
    let mut batch = Batch::new(conn, now);
    let owners: HashSet<ShardEpoch> = owners.iter().copied().collect();
    let lost = batch.lost(&owners).await?;
    let is_held = |shard| owners.iter().any(|owner| owner.shard == shard && !lost.contains(owner));
    found.retain(|healed| is_held(healed.shard));
    for healed in &found {
        batch.count(healed.shard, &healed.queue, healed.state, healed.by);
    }
    batch.finish().await?;
    Ok(found)
}

/// The newest jobs that wait in this state.
pub(super) async fn newest_waiting(
    pool: &SqlitePool,
    state: JobState,
    limit: i64,
) -> Result<Vec<JobView>, StoreError> {
    let now = now();
    let mut tx = snapshot(pool).await?;
    let rows = sqlx::query(NEWEST)
        .bind(state.code())
        .bind(WAITING_LOOKED_AT)
        .bind(limit)
        .bind(now.0)
        .fetch_all(&mut *tx)
        .await
        .map_err(store_error)?;
    let found = rows.iter().map(|row| Cols::of(row).job()).collect::<Result<Vec<_>, _>>()?;
    let stored = parts::load(&mut tx, ids(found)).await?;
    Ok(stored.iter().map(|stored| stored.parts.view(now)).collect())
}
