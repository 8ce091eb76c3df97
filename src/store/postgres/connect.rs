//! Connections: what is set on each, and what a server must be like.

use std::{str::FromStr, time::Duration};

use sqlx::{
    Connection, PgConnection, Row,
    postgres::{PgConnectOptions, PgPool, PgPoolOptions},
};

use super::{PostgresOptions, error::store_error};
use crate::{domain::BootId, store::StoreError};

/// How long a connection may take to be made.
pub(super) const CONNECT_DEADLINE: Duration = Duration::from_secs(3);

/// How long a reader may wait for a connection of the pool.
const ACQUIRE_DEADLINE: Duration = Duration::from_secs(2);

/// A statement ends by itself after it; the caller's own deadline lies behind it.
const STATEMENT_TIMEOUT: &str = "10000";

/// A frozen owner's transaction holds its shards' rows: the server ends it after this.
const IDLE_IN_TRANSACTION_TIMEOUT: &str = "1000";

/// The least server: `xid8`, and `json` arrays as the statements use them.
const SERVER_VERSION_MIN: u32 = 130_000;

/// What a server's settings say about what it promises.
const SETTINGS: &str = "select current_setting('fsync'), current_setting('full_page_writes'),
       pg_is_in_recovery(), current_setting('server_encoding'), current_setting('synchronous_commit')";

pub(super) const STATEMENTS: &[(&str, &str)] = &[("connect settings", SETTINGS)];

/// What all connections share.
pub(super) fn options(url: &str) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(url).map_err(|error| StoreError::Refused(error.to_string()))?;
    Ok(options.application_name("ganger").options([
        ("statement_timeout", STATEMENT_TIMEOUT),
        ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_TIMEOUT),
        ("tcp_user_timeout", "10000"),
        ("tcp_keepalives_idle", "5"),
        ("tcp_keepalives_interval", "2"),
        ("tcp_keepalives_count", "3"),
        ("synchronous_commit", "on"),
        ("TimeZone", "UTC"),
    ]))
}

/// A connection that writes. Its plans must not depend on statistics, which lag behind tables that fill
/// and empty within a second: every journal statement is a nested loop over index look-ups. Where an array
/// is joined with a large table, the condition is `id = any(array[…])` or the look-up is lateral: with a
/// plain equality a plan made for a nearly empty table walks its whole index. Planning anew
/// for each batch costs a small batch more than running it.
pub(super) fn journal(options: &PgConnectOptions, boot: Option<BootId>, role: &str) -> PgConnectOptions {
    let name = boot.map_or_else(|| format!("ganger {role}"), |boot| format!("ganger {role} {boot}"));
    options.clone().application_name(&name).statement_cache_capacity(200).options([
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_seqscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("enable_material", "off"),
        ("jit", "off"),
    ])
}

/// The readers. No connection is made before it is needed.
pub(super) fn readers(options: &PgConnectOptions, settings: PostgresOptions) -> PgPool {
    let readers = options.clone().application_name("ganger reader").options([
        ("default_transaction_read_only", "on"),
        ("enable_seqscan", "off"),
        ("jit", "off"),
    ]);
    PgPoolOptions::new()
        .max_connections(settings.max_readers)
        .min_connections(0)
        .acquire_timeout(ACQUIRE_DEADLINE)
        .connect_lazy_with(readers)
}

/// Connects within the deadline.
pub(super) async fn open(options: &PgConnectOptions) -> Result<PgConnection, StoreError> {
    match tokio::time::timeout(CONNECT_DEADLINE, PgConnection::connect_with(options)).await {
        Ok(connection) => connection.map_err(store_error),
        Err(_) => Err(StoreError::Unavailable("no connection within 3 s".into())),
    }
}

/// Refuses a server that could not keep what the store promises.
pub(super) async fn check(connection: &mut PgConnection) -> Result<(), StoreError> {
    if connection.server_version_num().is_some_and(|version| version < SERVER_VERSION_MIN) {
        return Err(StoreError::Refused("PostgreSQL 13 or newer is needed".into()));
    }
    let row = sqlx::query(SETTINGS).fetch_one(connection).await.map_err(store_error)?;
    let read = |index: usize| row.try_get::<String, _>(index).map_err(store_error);
    if read(0)? != "on" {
        return Err(StoreError::Refused("the server runs with fsync = off: a crash would lose jobs".into()));
    }
    if read(1)? != "on" {
        return Err(StoreError::Refused(
            "the server runs with full_page_writes = off: a crash could corrupt jobs".into(),
        ));
    }
    if row.try_get::<bool, _>(2).map_err(store_error)? {
        return Err(StoreError::Unavailable("the server is a standby".into()));
    }
    if read(3)? != "UTF8" {
        return Err(StoreError::Refused("the database's encoding must be UTF8".into()));
    }
    // A pooler in between may drop what the connection asked for.
    if read(4)? == "off" {
        return Err(StoreError::Refused(
            "synchronous_commit is off: a crash would lose acknowledged jobs".into(),
        ));
    }
    Ok(())
}
