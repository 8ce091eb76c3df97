//! Parks jobs behind gates, and opens them.
//!
//! Only a shard's owner does, and never for a job with another op under way: no other batch waits for
//! these rows but a child's submission, which locks them shared.

use uuid::Uuid;

use super::{
    super::{error::store_error, rows::Columns},
    batch::{Batch, Placed, Results},
};
use crate::store::{
    StoreError,
    ops::{LiveEntry, OpResult, ParkOp, UnparkOp},
};

const PARK: &str = "with held as (
    select id from job_live where id = any($1) order by id for no key update
)
update job_live l set gate = $2
from held
where l.id = held.id and l.gate is null and l.state <> 3
  and not exists (select from lease e where e.job_id = l.id)";

/// In ready order, so that those longest in line come first.
const UNPARK: &str = "with held as (
    select id from job_live
    where shard = $1 and queue = $2 and gate = $3
    order by priority desc, run_at, id limit $4
    for no key update
)
update job_live l set gate = null
from held where l.id = held.id
returning l.id, l.queue, l.kind, l.state, l.priority, l.run_at";

pub(super) const STATEMENTS: &[(&str, &str)] = &[("gate park", PARK), ("gate unpark", UNPARK)];

/// Parks jobs.
pub(super) async fn park(
    batch: &mut Batch<'_>,
    ops: &Placed<'_, ParkOp>,
    results: &mut Results,
) -> Result<(), StoreError> {
    for (place, op) in ops {
        let jobs: Vec<Uuid> = op.jobs.iter().map(|job| job.0).collect();
        let query = sqlx::query(PARK).bind(jobs).bind(op.gate.as_str());
        let parked = query.execute(&mut *batch.connection).await.map_err(store_error)?.rows_affected();
        results.set(*place, OpResult::Parked(i64::try_from(parked).unwrap_or(i64::MAX)));
    }
    Ok(())
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
        results.set(*place, OpResult::Unparked(entries));
    }
    Ok(())
}
