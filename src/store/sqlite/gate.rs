//! Parks jobs behind gates, and opens them.

use std::cmp::Reverse;

use super::{
    batch::Batch,
    error::store_error,
    moves::{MOVE, materialise, move_row},
    parts,
    rows::{Cols, Rows, ids},
};
use crate::{
    domain::{JobId, ShardId},
    store::{
        OpResult, StoreError,
        ops::{LiveEntry, ParkOp, UnparkOp},
    },
};

/// Deferred jobs whose time has come: they are shown as `queued`, and a gate would hide that.
const DUE: &str = "
    select id from job_live
    where id in (select unhex(value) from jsonb_each(?1)) and shard = ?2 and gate is null
      and state in (1, 2, 4) and run_at <= ?3
      and not exists (select 1 from lease where lease.job_id = job_live.id)";

const PARK: &str = "
    update job_live set gate = ?2
    where id in (select unhex(value) from jsonb_each(?1)) and shard = ?3 and gate is null and state <> 3
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
pub(super) const STATEMENTS: &[(&str, &str)] = &[("park due", DUE), ("park", PARK), ("unpark", UNPARK)];

/// Parks jobs.
pub(super) async fn park(
    batch: &mut Batch<'_>,
    ops: &[(usize, &ParkOp)],
    results: &mut [Option<OpResult>],
) -> Result<(), StoreError> {
    for (index, op) in ops {
        let jobs = ids(op.jobs.iter().copied());
        write_due(batch, &jobs, op.owner.shard).await?;
        let query = sqlx::query(PARK).bind(jobs).bind(&op.gate).bind(op.owner.shard.0);
        let parked = query.execute(&mut *batch.conn).await.map_err(store_error)?.rows_affected();
        results[*index] = Some(OpResult::Parked(i64::try_from(parked).unwrap_or(i64::MAX)));
    }
    Ok(())
}

/// Writes the derived rows of the due ones among `jobs`.
async fn write_due(batch: &mut Batch<'_>, jobs: &str, shard: ShardId) -> Result<(), StoreError> {
    let query = sqlx::query(DUE).bind(jobs).bind(shard.0).bind(batch.now.0);
    let rows = query.fetch_all(&mut *batch.conn).await.map_err(store_error)?;
    let due = rows.iter().map(|row| Cols::of(row).job()).collect::<Result<Vec<JobId>, StoreError>>()?;
    if due.is_empty() {
        return Ok(());
    }
    let mut moves = Rows::default();
    for mut stored in parts::load(batch.conn, ids(due)).await? {
        materialise(batch, &mut stored);
        if let Some(live) = &stored.parts.live {
            let id = stored.parts.job.id;
            move_row(&mut moves, id, live, stored.last_seq, stored.blocked_on, batch.now);
        }
    }
    batch.write(MOVE, moves).await
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
        // What an update returns has no order.
        entries.sort_unstable_by_key(|entry| (Reverse(entry.priority), entry.run_at, entry.job));
        results[*index] = Some(OpResult::Unparked(entries));
    }
    Ok(())
}
