//! Parks jobs behind gates, and opens them.

use sqlx::Row;

use super::{
    batch::Batch,
    error::store_error,
    rows::{Cols, ids},
};
use crate::store::{
    OpResult, StoreError,
    ops::{LiveEntry, ParkOp, UnparkOp},
};

const PARK: &str = "
    update job_live set gate = ?2
    where id in (select unhex(value) from json_each(?1)) and gate is null and state <> 3
      and not exists (select 1 from lease where lease.job_id = job_live.id)";

/// In ready order, so that those longest in line come first.
const UNPARK: &str = "
    update job_live set gate = null
    where id in (
        select id from job_live indexed by job_live_gate
        where shard = ?1 and queue = ?2 and gate = ?3
        order by priority desc, run_at, id limit ?4)
    returning id, queue, kind, state, priority, run_at";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[("park", PARK), ("unpark", UNPARK)];

/// Parks jobs.
pub(super) async fn park(
    batch: &mut Batch<'_>,
    ops: &[(usize, &ParkOp)],
    results: &mut [Option<OpResult>],
) -> Result<(), StoreError> {
    for (index, op) in ops {
        let jobs = ids(op.jobs.iter().copied());
        let query = sqlx::query(PARK).bind(jobs).bind(&op.gate);
        let parked = query.execute(&mut *batch.conn).await.map_err(store_error)?.rows_affected();
        results[*index] = Some(OpResult::Parked(i64::try_from(parked).unwrap_or(i64::MAX)));
    }
    Ok(())
}

/// Opens a gate for some.
pub(super) async fn unpark(
    batch: &mut Batch<'_>,
    ops: &[(usize, &UnparkOp)],
    results: &mut [Option<OpResult>],
) -> Result<(), StoreError> {
    for (index, op) in ops {
        let query = sqlx::query(UNPARK).bind(op.owner.shard.0).bind(&op.queue).bind(&op.gate).bind(op.limit);
        let rows = query.fetch_all(&mut *batch.conn).await.map_err(store_error)?;
        let mut entries = Vec::with_capacity(rows.len());
        for row in &rows {
            debug_assert_eq!(row.len(), 6);
            let mut cols = Cols::of(row);
            entries.push(LiveEntry {
                job: cols.job()?,
                queue: cols.get()?,
                kind: cols.get()?,
                state: cols.state()?,
                priority: cols.int()?,
                run_at: cols.time()?,
            });
        }
        results[*index] = Some(OpResult::Unparked(entries));
    }
    Ok(())
}
