//! Schema, clock and upkeep.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use sqlx::{
    Connection, PgConnection, SqlSafeStr,
    migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator},
};

use super::{
    PostgresStore,
    connect::{journal, open},
    error::store_error,
};
use crate::{domain::Timestamp, store::StoreError};

/// The schema's versions, oldest first. What was released is never changed.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "store", include_str!("../../../migrations/postgres/0001_store.sql")),
    (2, "controls", include_str!("../../../migrations/postgres/0002_controls.sql")),
];

const NOW: &str = "select clock_timestamp()";

const PARTITIONS: &str = "select ensure_partitions(now())";

/// Keys that hold no more; in steps, so that no lock is held for long.
const EXPIRED_KEYS: &str = "delete from idempotency
where (tenant, key) in (
    select i.tenant, i.key
    from idempotency i
    where i.expires_at <= now() and not exists (select from job_live l where l.id = i.job_id)
    order by i.expires_at
    limit 5000
    for update skip locked
)";

/// Unique keys that seem free, locked.
const LOCK_UNIQUES: &str = "select k.key
from unique_key k
left join outcome o on o.job_id = k.job_id
where k.expires_at <= now()
   or not exists (select from job_live l where l.id = k.job_id)
      and (o.state is null or k.states & (1 << o.state) = 0)
limit 5000
for update of k skip locked";

/// Those of them that are. A statement behind the locks: a key that was passed on while the first one read names a
/// job that only this one sees.
const FREE_UNIQUES: &str = "delete from unique_key k
where k.key = any($1)
  and (k.expires_at <= now()
       or not exists (select from job_live l where l.id = k.job_id)
          and not exists (select from outcome o where o.job_id = k.job_id and k.states & (1 << o.state) <> 0))";

/// Marks of connections that are long gone.
const OLD_MARKS: &str = "delete from journal_mark where used_at < now() - interval '7 days'";
const OLD_NODES: &str = "delete from node where heartbeat_at < now() - interval '7 days'";
/// Long enough to look back at what was done; the audit log has its own time.
const OLD_OPERATIONS: &str = "delete from operation where finished_at < now() - interval '30 days'";

pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("now", NOW),
    ("partitions", PARTITIONS),
    ("expired keys", EXPIRED_KEYS),
    ("lock uniques", LOCK_UNIQUES),
    ("free uniques", FREE_UNIQUES),
    ("old marks", OLD_MARKS),
    ("old nodes", OLD_NODES),
    ("old operations", OLD_OPERATIONS),
];

fn migrator() -> Migrator {
    let migrations = MIGRATIONS
        .iter()
        .map(|(version, name, sql)| {
            let text = SqlSafeStr::into_sql_str(*sql);
            Migration::new(*version, Cow::Borrowed(*name), MigrationType::Simple, text, false)
        })
        .collect();
    Migrator::with_migrations(migrations)
}

/// Brings the schema up to date, or says what is missing.
pub(super) async fn migrate(store: &PostgresStore, apply: bool) -> Result<(), StoreError> {
    // A migration of a large table takes its time.
    let mut connection = open(&store.options.clone().options([("statement_timeout", "0")])).await?;
    if apply {
        migrator().run_direct(None, &mut connection, false).await.map_err(migration_error)?;
        sqlx::query(PARTITIONS).execute(&mut connection).await.map_err(store_error)?;
    } else {
        let applied = connection.list_applied_migrations("_sqlx_migrations").await.unwrap_or_default();
        let (have, need) = (applied.iter().map(|one| one.version).max().unwrap_or(0), MIGRATIONS.len());
        if usize::try_from(have) != Ok(need) {
            return Err(StoreError::Refused(format!(
                "the schema is at version {have}, this build needs {need}: run the migrations of the right build"
            )));
        }
    }
    connection.close().await.map_err(store_error)
}

fn migration_error(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) => store_error(error),
        other => StoreError::Refused(other.to_string()),
    }
}

/// The store's clock.
pub(super) async fn now(store: &PostgresStore) -> Result<Timestamp, StoreError> {
    let now: DateTime<Utc> = sqlx::query_scalar(NOW).fetch_one(&store.readers).await.map_err(store_error)?;
    Ok(now.into())
}

/// Makes partitions ahead of time and removes what holds no more.
pub(super) async fn maintain(store: &PostgresStore) -> Result<(), StoreError> {
    store.refuse_if_closed()?;
    let mut connection = open(&journal(&store.options, store.boot(), "upkeep")).await?;
    sqlx::query(PARTITIONS).execute(&mut connection).await.map_err(store_error)?;
    sqlx::query(EXPIRED_KEYS).execute(&mut connection).await.map_err(store_error)?;
    free_uniques(&mut connection).await?;
    sqlx::query(OLD_MARKS).execute(&mut connection).await.map_err(store_error)?;
    sqlx::query(OLD_NODES).execute(&mut connection).await.map_err(store_error)?;
    super::fingerprints::fill(&mut connection).await?;
    sqlx::query(OLD_OPERATIONS).execute(&mut connection).await.map_err(store_error)?;
    connection.close().await.map_err(store_error)
}

async fn free_uniques(connection: &mut PgConnection) -> Result<(), StoreError> {
    let mut transaction = connection.begin().await.map_err(store_error)?;
    let seem_free: Vec<Vec<u8>> =
        sqlx::query_scalar(LOCK_UNIQUES).fetch_all(&mut *transaction).await.map_err(store_error)?;
    if !seem_free.is_empty() {
        sqlx::query(FREE_UNIQUES).bind(seem_free).execute(&mut *transaction).await.map_err(store_error)?;
    }
    transaction.commit().await.map_err(store_error)
}
