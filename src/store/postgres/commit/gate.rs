//! Parks jobs behind gates, and opens them.
//!
//! Only a shard's owner does, and never for a job with another op under way: no other batch waits for
//! these rows but a child's submission, which locks them shared.

use std::{cmp::Reverse, collections::BTreeSet};

use uuid::Uuid;

use super::{
    super::{error::store_error, rows::Columns},
    batch::{Batch, Placed, Results},
    held,
};
use crate::{
    domain::ShardId,
    store::{
        StoreError,
        ops::{LiveEntry, OpResult, ParkOp, UnparkOp},
    },
};

/// Deferred jobs whose time has come: they are shown as `queued`, and a gate would hide that.
const DUE: &str = "select l.id from job_live l
where l.id = any($1) and l.shard = $2 and l.gate is null and l.state in (1, 2, 4) and l.run_at <= $3
  and not exists (select from lease e where e.job_id = l.id)";

const PARK: &str = "with held as (
    select id from job_live where id = any($1) order by id for no key update
)
update job_live l set gate = $2
from held
where l.id = any(array[held.id]) and l.shard = $3 and l.gate is null and l.state <> 3
  and not exists (select from lease e where e.job_id = l.id)";

/// In ready order, so that those longest in line come first.
const UNPARK: &str = "with held as (
    select id from job_live
    where shard = $1 and queue = $2 and gate = $3
    order by priority desc, run_at, id limit $4
    for no key update
)
update job_live l set gate = null
from held where l.id = any(array[held.id])
returning l.id, l.queue, l.kind, l.state, l.priority, l.run_at";

pub(super) const STATEMENTS: &[(&str, &str)] =
    &[("gate due", DUE), ("gate park", PARK), ("gate unpark", UNPARK)];

/// Parks jobs.
pub(super) async fn park(
    batch: &mut Batch<'_>,
    ops: &Placed<'_, ParkOp>,
    results: &mut Results,
) -> Result<(), StoreError> {
    for (place, op) in ops {
        let jobs: Vec<Uuid> = op.jobs.iter().map(|job| job.0).collect();
        materialise(batch, &jobs, op.owner.shard).await?;
        let query = sqlx::query(PARK).bind(jobs).bind(op.gate.as_str()).bind(op.owner.shard.0);
        let parked = query.execute(&mut *batch.connection).await.map_err(store_error)?.rows_affected();
        results.set(*place, OpResult::Parked(i64::try_from(parked).unwrap_or(i64::MAX)));
    }
    Ok(())
}

/// Writes the derived rows of the due ones among `jobs`.
async fn materialise(batch: &mut Batch<'_>, jobs: &[Uuid], shard: ShardId) -> Result<(), StoreError> {
    let query = sqlx::query_scalar(DUE).bind(jobs).bind(shard.0).bind(batch.now.to_datetime());
    let due: Vec<Uuid> = query.fetch_all(&mut *batch.connection).await.map_err(store_error)?;
    if due.is_empty() {
        return Ok(());
    }
    held::lock(batch, &due.iter().copied().collect::<BTreeSet<Uuid>>(), false).await?;
    let mut rows = held::load(batch, due).await?;
    for row in rows.values_mut() {
        row.materialise(batch.now, &mut batch.effects);
    }
    held::save(batch, rows.values()).await
}

/// Opens a gate for some.
pub(super) async fn unpark(
    batch: &mut Batch<'_>,
    ops: &Placed<'_, UnparkOp>,
    results: &mut Results,
) -> Result<(), StoreError> {
    for (place, op) in ops {
        let query = sqlx::query(UNPARK)
            .bind(op.owner.shard.0)
            .bind(op.queue.as_str())
            .bind(op.gate.as_str())
            .bind(op.limit);
        let rows = query.fetch_all(&mut *batch.connection).await.map_err(store_error)?;
        let mut entries = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut columns = Columns::of(row);
            entries.push(LiveEntry {
                job: columns.job()?,
                queue: columns.next()?,
                kind: columns.next()?,
                state: columns.state()?,
                priority: columns.next()?,
                run_at: columns.time()?,
            });
        }
        // What an update returns has no order.
        entries.sort_unstable_by_key(|entry| (Reverse(entry.priority), entry.run_at, entry.job));
        results.set(*place, OpResult::Unparked(entries));
    }
    Ok(())
}
