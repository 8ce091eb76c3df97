//! Who owns the store: the node's advisory lock, its heartbeat, and the shards' epochs.
//!
//! The lock lies on a connection of its own, which also writes the heartbeat: a node that lost the lock
//! with that connection learns of it within a second, and a node whose lock is held but whose heartbeat
//! stands still can be replaced.

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    PostgresStore,
    connect::{CONNECT_DEADLINE, check, journal, open},
    error::store_error,
    rows::Columns,
};
use crate::{
    domain::{
        BootId, Epoch, ShardEpoch, ShardId,
        fence::{EPOCH_MAX, RESTORE_STEP, SHARDS},
    },
    store::StoreError,
};

/// How long a holder's heartbeat, written each second, may stand still before the node counts as dead.
const HOLDER_WATCH: Duration = Duration::from_secs(3);

/// How long former batches may take to end before their backends are ended, and in all.
const RAISE_PATIENCE: &str = "200ms";
const RAISE_DEADLINE: Duration = Duration::from_secs(8);

const TRY_LOCK: &str = "select pg_try_advisory_lock(7311, 1)";

/// The backend that holds the lock, with the newest heartbeat of the node that it names.
const HOLDER: &str = "select l.pid, n.boot, n.address, n.heartbeat_at
from pg_locks l
left join pg_stat_activity a on a.pid = l.pid
left join lateral (
    select boot, address, heartbeat_at from node
    where strpos(a.application_name, boot::text) > 0
    order by heartbeat_at desc limit 1
) n on true
where l.locktype = 'advisory' and l.classid = 7311 and l.objid = 1 and l.granted
  and l.database = (select oid from pg_database where datname = current_database())
limit 1";

const END_HOLDER: &str = "select pg_terminate_backend($1)";

/// Ends the journal connections of other boots: one of them may sit frozen on a shard's row.
const END_LANES: &str = "select count(pg_terminate_backend(pid)) from pg_stat_activity
where datname = current_database() and application_name like 'ganger lane %'
  and strpos(application_name, $1::text) = 0 and pid <> pg_backend_pid()";

const NODE: &str = "insert into node (boot, address, started_at, heartbeat_at)
values ($1, $2, clock_timestamp(), clock_timestamp())
on conflict (boot) do update set address = excluded.address, heartbeat_at = excluded.heartbeat_at";

const HEARTBEAT: &str = "update node set heartbeat_at = clock_timestamp() where boot = $1";

/// Writes, so that a standby or a full disk is told from a store that serves.
const PING: &str = "insert into meta (key, value) values ('ping', clock_timestamp()::text)
on conflict (key) do update set value = excluded.value";

/// Needs room on the disk, which writing over a row does not: a sort that is larger than its memory, about 2 MB.
const ROOM: &str =
    "select count(*) from (select g from generate_series(1, 100000) g order by g desc offset 0) spilt";
const LITTLE_MEMORY: &str = "set work_mem = '64kB'";

/// Where the database lies: a copy restored from a backup, or a promoted standby, differs.
const PLACE: &str = "select (select system_identifier from pg_control_system())::text || ':' ||
       substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8),
       (select value from meta where key = 'place')";

const SET_PLACE: &str = "insert into meta (key, value) values ('place', $1)
on conflict (key) do update set value = excluded.value";

const EPOCHS: &str = "select count(*)::bigint, coalesce(max(epoch), 0) from shard";

const SEAL_ALL: &str = "update shard_seal z
   set floor = greatest(z.floor, s.epoch + $1)
from (select id, epoch from shard order by id) s
where z.id = s.id";

/// To the floor, where a take-over that died had sealed for a larger step.
const RAISE_ALL: &str = "with held as (select id from shard order by id for update)
update shard s
   set epoch = greatest(s.epoch + $1, z.floor), owner = $2, owner_addr = $3, acquired_at = clock_timestamp()
from held
join shard_seal z on z.id = held.id
where s.id = held.id
returning s.id, s.epoch";

const SEAL: &str = "update shard_seal set floor = greatest(floor, $2 + 1) where id = $1";

const RAISE: &str = "update shard s
   set epoch = greatest(s.epoch + 1, z.floor), owner = $3, acquired_at = clock_timestamp(),
       owner_addr = coalesce((select address from node where boot = $3), s.owner_addr)
from shard_seal z
where s.id = $1 and s.epoch = $2 and z.id = s.id
returning s.epoch";

const EPOCH: &str = "select epoch from shard where id = $1";

const LOCK_PATIENCE: &str = "select set_config('lock_timeout', $1, false)";

pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("guard try lock", TRY_LOCK),
    ("guard holder", HOLDER),
    ("guard end holder", END_HOLDER),
    ("guard end lanes", END_LANES),
    ("guard node", NODE),
    ("guard heartbeat", HEARTBEAT),
    ("guard ping", PING),
    ("guard room", ROOM),
    ("guard place", PLACE),
    ("guard set place", SET_PLACE),
    ("guard epochs", EPOCHS),
    ("guard seal all", SEAL_ALL),
    ("guard raise all", RAISE_ALL),
    ("guard seal", SEAL),
    ("guard raise", RAISE),
    ("guard lock patience", LOCK_PATIENCE),
    ("guard epoch", EPOCH),
];

/// The connection that holds the node's lock.
#[derive(Debug)]
pub(super) struct Guard {
    connection: PgConnection,
}

/// Takes the node's lock and every shard.
pub(super) async fn acquire_all(
    store: &PostgresStore,
    boot: BootId,
    address: &str,
    restored: bool,
) -> Result<Vec<ShardEpoch>, StoreError> {
    store.refuse_if_closed()?;
    store.set_boot(boot);
    // They carry no boot, or a former one, in their names.
    store.close_lanes().await;
    let mut slot = store.guard.lock().await;
    *slot = None;
    let mut connection = lock(store, boot).await?;
    run(&mut connection, sqlx::query(NODE).bind(boot.0).bind(address)).await?;
    let step = if restored || moved(&mut connection).await? { RESTORE_STEP } else { 1 };
    let row = sqlx::query(EPOCHS).fetch_one(&mut connection).await.map_err(store_error)?;
    let mut columns = Columns::of(&row);
    let (shards, highest): (i64, i64) = (columns.next()?, columns.next()?);
    if shards != i64::from(SHARDS) {
        return Err(StoreError::Refused(format!("the store has {shards} shards, this build needs {SHARDS}")));
    }
    if highest + step >= EPOCH_MAX {
        return Err(StoreError::Refused(format!(
            "an epoch is at {highest}: no more take-overs are possible"
        )));
    }
    run(&mut connection, sqlx::query(SEAL_ALL).bind(step)).await?;
    let raised = raise_all(&mut connection, step, boot, address).await?;
    *slot = Some(Guard { connection });
    Ok(raised)
}

/// A connection that holds the node's lock; refused while a live node holds it.
async fn lock(store: &PostgresStore, boot: BootId) -> Result<PgConnection, StoreError> {
    let mut connection = open(&journal(&store.options, Some(boot), "guard")).await?;
    check(&mut connection).await?;
    let started = Instant::now();
    let mut seen = None;
    loop {
        if try_lock(&mut connection).await? {
            return Ok(connection);
        }
        let holder = holder(&mut connection).await?;
        if let Some(holder) = &holder {
            let first = seen.get_or_insert((holder.pid, holder.heartbeat));
            if first.0 == holder.pid && holder.heartbeat > first.1 {
                return Err(StoreError::Refused(format!(
                    "another node (boot {}, address {}) is running on this database",
                    holder.boot.map_or_else(|| "unknown".into(), |boot| boot.to_string()),
                    holder.address.as_deref().unwrap_or("unknown"),
                )));
            }
            if first.0 != holder.pid {
                *first = (holder.pid, holder.heartbeat);
            }
            if started.elapsed() > HOLDER_WATCH {
                run(&mut connection, sqlx::query(END_HOLDER).bind(holder.pid)).await?;
            }
        }
        if started.elapsed() > HOLDER_WATCH * 3 {
            return Err(StoreError::Unavailable("the lock of a dead node's connection was not freed".into()));
        }
        sleep(Duration::from_millis(100)).await;
    }
}

struct Holder {
    pid: i32,
    boot: Option<Uuid>,
    address: Option<String>,
    heartbeat: Option<crate::domain::Timestamp>,
}

async fn holder(connection: &mut PgConnection) -> Result<Option<Holder>, StoreError> {
    let row = sqlx::query(HOLDER).fetch_optional(connection).await.map_err(store_error)?;
    row.map(|row| {
        let mut columns = Columns::of(&row);
        Ok(Holder {
            pid: columns.next()?,
            boot: columns.next()?,
            address: columns.next()?,
            heartbeat: columns.time_or_none()?,
        })
    })
    .transpose()
}

async fn try_lock(connection: &mut PgConnection) -> Result<bool, StoreError> {
    sqlx::query_scalar(TRY_LOCK).fetch_one(connection).await.map_err(store_error)
}

/// Whether the store lies elsewhere than when it was last acquired; remembers where.
async fn moved(connection: &mut PgConnection) -> Result<bool, StoreError> {
    let row = sqlx::query(PLACE).fetch_one(&mut *connection).await.map_err(store_error)?;
    let mut columns = Columns::of(&row);
    let (here, before): (String, Option<String>) = (columns.next()?, columns.next()?);
    if before.as_ref() == Some(&here) {
        return Ok(false);
    }
    Ok(before.is_some())
}

/// Raises every epoch; the transaction waits for batches that are past their check.
async fn raise_all(
    connection: &mut PgConnection,
    step: i64,
    boot: BootId,
    address: &str,
) -> Result<Vec<ShardEpoch>, StoreError> {
    run(connection, sqlx::query(LOCK_PATIENCE).bind(RAISE_PATIENCE)).await?;
    let started = Instant::now();
    loop {
        let rows = sqlx::query(RAISE_ALL)
            .bind(step)
            .bind(boot.0)
            .bind(address)
            .fetch_all(&mut *connection)
            .await
            .map_err(store_error);
        match rows {
            Ok(rows) => {
                // Behind the raise: a node that dies before it raises by as much again.
                remember_place(connection).await?;
                let mut raised = rows
                    .iter()
                    .map(|row| {
                        let mut columns = Columns::of(row);
                        Ok(ShardEpoch { shard: columns.shard()?, epoch: Epoch(columns.next()?) })
                    })
                    .collect::<Result<Vec<_>, StoreError>>()?;
                raised.sort_unstable();
                return Ok(raised);
            }
            Err(error) if error.is_transient() && started.elapsed() < RAISE_DEADLINE => {
                run(connection, sqlx::query(END_LANES).bind(boot.to_string())).await?;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn remember_place(connection: &mut PgConnection) -> Result<(), StoreError> {
    let row = sqlx::query(PLACE).fetch_one(&mut *connection).await.map_err(store_error)?;
    let here: String = Columns::of(&row).next()?;
    run(connection, sqlx::query(SET_PLACE).bind(here)).await
}

/// Raises one shard's epoch, sealing it first; `None` when it is not `seen` any more.
pub(super) async fn raise_epoch(
    store: &PostgresStore,
    shard: ShardId,
    seen: Epoch,
    boot: BootId,
) -> Result<Option<Epoch>, StoreError> {
    store.refuse_if_closed()?;
    if seen.0 + 1 >= EPOCH_MAX {
        return Err(StoreError::Refused(format!("shard {} is at its last epoch", shard.0)));
    }
    let mut connection = open(&journal(&store.options, Some(boot), "raise")).await?;
    run(&mut connection, sqlx::query(LOCK_PATIENCE).bind("5s")).await?;
    let current: Option<i64> =
        sqlx::query_scalar(EPOCH).bind(shard.0).fetch_optional(&mut connection).await.map_err(store_error)?;
    if current != Some(seen.0) {
        return Ok(None);
    }
    run(&mut connection, sqlx::query(SEAL).bind(shard.0).bind(seen.0)).await?;
    let raised: Option<i64> = sqlx::query_scalar(RAISE)
        .bind(shard.0)
        .bind(seen.0)
        .bind(boot.0)
        .fetch_optional(&mut connection)
        .await
        .map_err(store_error)?;
    connection.close().await.map_err(store_error)?;
    Ok(raised.map(Epoch))
}

/// Writes the heartbeat over the connection that holds the lock, and takes the lock again when that
/// connection was lost; refused when another node has it by then.
pub(super) async fn heartbeat(store: &PostgresStore, boot: BootId) -> Result<(), StoreError> {
    store.refuse_if_closed()?;
    let mut slot = store.guard.lock().await;
    let mut connection = match slot.take() {
        Some(guard) => guard.connection,
        None => {
            let mut connection = open(&journal(&store.options, Some(boot), "guard")).await?;
            if !try_lock(&mut connection).await? {
                return Err(StoreError::Refused("another node has taken this database over".into()));
            }
            connection
        }
    };
    within(run(&mut connection, sqlx::query(HEARTBEAT).bind(boot.0))).await?;
    *slot = Some(Guard { connection });
    Ok(())
}

/// Writes a row and finds room on the disk, over a connection of its own: the guard's must not be lost with it.
pub(super) async fn ping(store: &PostgresStore) -> Result<(), StoreError> {
    store.refuse_if_closed()?;
    let mut connection = open(&journal(&store.options, store.boot(), "ping")).await?;
    within(run(&mut connection, sqlx::query(PING))).await?;
    sqlx::raw_sql(LITTLE_MEMORY).execute(&mut connection).await.map_err(store_error)?;
    within(run(&mut connection, sqlx::query(ROOM))).await?;
    connection.close().await.map_err(store_error)
}

/// Frees the node's lock.
pub(super) async fn release(store: &PostgresStore) {
    let guard = store.guard.lock().await.take();
    if let Some(guard) = guard {
        // The server frees the lock of a closed socket by itself.
        let _ = tokio::time::timeout(CONNECT_DEADLINE, guard.connection.close()).await;
    }
}

async fn within(call: impl Future<Output = Result<(), StoreError>>) -> Result<(), StoreError> {
    match tokio::time::timeout(CONNECT_DEADLINE, call).await {
        Ok(answer) => answer,
        Err(_) => Err(StoreError::Unavailable("the server did not answer within 3 s".into())),
    }
}

async fn run(
    connection: &mut PgConnection,
    query: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
) -> Result<(), StoreError> {
    query.execute(connection).await.map(drop).map_err(store_error)
}
