//! Settings of queues.

use sqlx::sqlite::SqliteRow;

use super::{batch::Batch, error::store_error, rows::Cols};
use crate::store::{
    StoreError,
    ops::{OpResult, SettingsOp},
    queues::audit,
    read::QueueRow,
};

const BEFORE: &str = "select name, shard, paused, draining, config from queue where name = ?1 and shard = ?2";

const UPSERT: &str = "
    insert into queue (name, shard, paused, draining, config)
    values (?1, ?2, coalesce(?3, 0), coalesce(?4, 0), ?5)
    on conflict (name) do update set
        paused = coalesce(?3, paused), draining = coalesce(?4, draining), config = coalesce(?5, config)
    where shard = ?2
    returning name, shard, paused, draining, config";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[("before", BEFORE), ("upsert", UPSERT)];

pub(super) async fn run(
    batch: &mut Batch<'_>,
    ops: &[(usize, &SettingsOp)],
    results: &mut [Option<OpResult>],
) -> Result<(), StoreError> {
    for (index, op) in ops {
        let query = sqlx::query(BEFORE).bind(&op.queue).bind(op.owner.shard.0);
        let before = query.fetch_optional(&mut *batch.conn).await.map_err(store_error)?;
        let before = before.as_ref().map(queue).transpose()?;
        let query = sqlx::query(UPSERT)
            .bind(&op.queue)
            .bind(op.owner.shard.0)
            .bind(op.paused)
            .bind(op.draining)
            .bind(op.config.as_deref());
        let after = query.fetch_optional(&mut *batch.conn).await.map_err(store_error)?;
        let Some(after) = after.as_ref().map(queue).transpose()? else {
            results[*index] = Some(OpResult::Refused("the queue belongs to another shard".into()));
            continue;
        };
        batch.audit(&audit(op, before.as_ref(), &after));
        results[*index] = Some(OpResult::Configured(after));
    }
    Ok(())
}

fn queue(row: &SqliteRow) -> Result<QueueRow, StoreError> {
    let mut cols = Cols::of(row);
    let (name, shard) = (cols.get()?, Some(cols.shard()?));
    let (paused, draining, config) = (cols.get()?, cols.get()?, cols.get()?);
    Ok(QueueRow { name, shard, paused, draining, config, counts: [0; 9] })
}
