//! Who owns the shards: epochs, seals, nodes.

use sqlx::SqliteConnection;

use super::{error::store_error, rows::Cols};
use crate::{
    domain::{
        BootId, Epoch, ShardEpoch, ShardId, Timestamp,
        fence::{EPOCH_MAX, RESTORE_STEP},
    },
    store::StoreError,
};

const EPOCH_NEWEST: &str = "select max(epoch) from shard";

const SEAL_ALL: &str = "
    update shard_seal set floor = (select epoch from shard where shard.id = shard_seal.id) + ?1";

const RAISE_ALL: &str = "
    update shard set epoch = epoch + ?1, owner = ?2, owner_addr = ?3, acquired_at = ?4
    returning id, epoch";

const SEAL_ONE: &str = "
    update shard_seal set floor = ?2 + 1
    where id = ?1 and exists (select 1 from shard where id = ?1 and epoch = ?2)";

const RAISE_ONE: &str = "
    update shard set epoch = epoch + 1, owner = ?3, acquired_at = ?4
    where id = ?1 and epoch = ?2
    returning epoch";

const NODE: &str = "
    insert into node (boot, address, started_at, heartbeat_at) values (?1, ?2, ?3, ?3)
    on conflict (boot) do update set address = excluded.address, heartbeat_at = excluded.heartbeat_at";

const HEARTBEAT: &str = "update node set heartbeat_at = ?2 where boot = ?1";

/// Boots of past processes are of no use once their heartbeat is a day old.
const FORGET_NODES: &str = "delete from node where heartbeat_at < ?1";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("epoch newest", EPOCH_NEWEST),
    ("seal all", SEAL_ALL),
    ("raise all", RAISE_ALL),
    ("seal one", SEAL_ONE),
    ("raise one", RAISE_ONE),
    ("node", NODE),
    ("heartbeat", HEARTBEAT),
    ("forget nodes", FORGET_NODES),
];

/// Takes every shard for `boot`, in the caller's transaction.
pub(super) async fn acquire_all(
    conn: &mut SqliteConnection,
    boot: BootId,
    address: &str,
    restored: bool,
    now: Timestamp,
) -> Result<Vec<ShardEpoch>, StoreError> {
    let step = if restored { RESTORE_STEP } else { 1 };
    let newest: i64 = sqlx::query_scalar(EPOCH_NEWEST).fetch_one(&mut *conn).await.map_err(store_error)?;
    refuse_over_maximum(newest + step)?;
    sqlx::query(SEAL_ALL).bind(step).execute(&mut *conn).await.map_err(store_error)?;
    let rows = sqlx::query(RAISE_ALL)
        .bind(step)
        .bind(boot.0)
        .bind(address)
        .bind(now.0)
        .fetch_all(&mut *conn)
        .await
        .map_err(store_error)?;
    sqlx::query(NODE)
        .bind(boot.0)
        .bind(address)
        .bind(now.0)
        .execute(&mut *conn)
        .await
        .map_err(store_error)?;
    let mut owned = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut cols = Cols::of(row);
        owned.push(ShardEpoch { shard: cols.shard()?, epoch: Epoch(cols.get()?) });
    }
    owned.sort_unstable_by_key(|owned| owned.shard);
    Ok(owned)
}

fn refuse_over_maximum(epoch: i64) -> Result<(), StoreError> {
    if epoch < EPOCH_MAX {
        return Ok(());
    }
    Err(StoreError::Refused(format!("epoch {epoch} is over the maximum: fences would not be exact any more")))
}

/// Raises one shard's epoch from `seen`, seal first; `None` when it is another by now.
pub(super) async fn raise_one(
    conn: &mut SqliteConnection,
    shard: ShardId,
    seen: Epoch,
    boot: BootId,
    now: Timestamp,
) -> Result<Option<Epoch>, StoreError> {
    refuse_over_maximum(seen.0 + 1)?;
    sqlx::query(SEAL_ONE).bind(shard.0).bind(seen.0).execute(&mut *conn).await.map_err(store_error)?;
    let raised: Option<i64> = sqlx::query_scalar(RAISE_ONE)
        .bind(shard.0)
        .bind(seen.0)
        .bind(boot.0)
        .bind(now.0)
        .fetch_optional(&mut *conn)
        .await
        .map_err(store_error)?;
    Ok(raised.map(Epoch))
}

/// Records that `boot` lives.
pub(super) async fn heartbeat(
    conn: &mut SqliteConnection,
    boot: BootId,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(HEARTBEAT).bind(boot.0).bind(now.0).execute(conn).await.map_err(store_error)?;
    Ok(())
}

/// Forgets nodes that were last heard before `before`.
pub(super) async fn forget_nodes(conn: &mut SqliteConnection, before: Timestamp) -> Result<(), StoreError> {
    sqlx::query(FORGET_NODES).bind(before.0).execute(conn).await.map_err(store_error)?;
    Ok(())
}
