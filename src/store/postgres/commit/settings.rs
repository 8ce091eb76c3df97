//! Settings of queues.

use super::{
    super::{error::store_error, rows::Columns},
    batch::{Batch, Placed, Results},
};
use crate::{
    domain::ShardId,
    store::{
        StoreError,
        ops::{OpResult, SettingsOp},
        queues::audit,
        read::QueueRow,
    },
};

/// Behind every birth that has looked at the row and is not committed: what the change forbids has ended then.
const BEFORE: &str =
    "select name, shard, paused, draining, config from queue where name = $1 and shard = $2 for update";

const UPSERT: &str = "insert into queue as q (name, shard, paused, draining, config)
values ($1, $2, coalesce($3, false), coalesce($4, false), $5)
on conflict (name) do update
   set paused = coalesce($3, q.paused), draining = coalesce($4, q.draining), config = coalesce($5, q.config)
   where q.shard = $2
returning name, shard, paused, draining, config";

pub(super) const STATEMENTS: &[(&str, &str)] = &[("settings before", BEFORE), ("settings upsert", UPSERT)];

pub(super) async fn run(
    batch: &mut Batch<'_>,
    ops: &Placed<'_, SettingsOp>,
    results: &mut Results,
) -> Result<(), StoreError> {
    for (place, op) in ops {
        let before = before(batch, op).await?;
        let Some(after) = upsert(batch, op).await? else {
            results.set(*place, OpResult::Refused("the queue belongs to another shard".into()));
            continue;
        };
        batch.effects.audit(audit(op, before.as_ref(), &after));
        results.set(*place, OpResult::Configured(after));
    }
    Ok(())
}

async fn before(batch: &mut Batch<'_>, op: &SettingsOp) -> Result<Option<QueueRow>, StoreError> {
    let query = sqlx::query(BEFORE).bind(&op.queue).bind(op.owner.shard.0);
    let row = query.fetch_optional(&mut *batch.connection).await.map_err(store_error)?;
    row.as_ref().map(queue).transpose()
}

async fn upsert(batch: &mut Batch<'_>, op: &SettingsOp) -> Result<Option<QueueRow>, StoreError> {
    let query = sqlx::query(UPSERT)
        .bind(&op.queue)
        .bind(op.owner.shard.0)
        .bind(op.paused)
        .bind(op.draining)
        .bind(op.config.as_deref());
    let row = query.fetch_optional(&mut *batch.connection).await.map_err(store_error)?;
    row.as_ref().map(queue).transpose()
}

fn queue(row: &sqlx::postgres::PgRow) -> Result<QueueRow, StoreError> {
    let mut columns = Columns::of(row);
    let (name, shard): (String, ShardId) = (columns.next()?, columns.shard()?);
    let (paused, draining, config) = (columns.next()?, columns.next()?, columns.next()?);
    Ok(QueueRow { name, shard: Some(shard), paused, draining, config, counts: [0; 9] })
}
