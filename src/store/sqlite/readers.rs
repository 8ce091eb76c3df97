//! Connections that read: several, each read a snapshot, none longer than its deadline.

use std::{path::Path, time::Duration};

use sqlx::{
    Sqlite, SqliteConnection, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqlitePoolOptions},
};
use tokio::time::Instant;

use super::{error::store_error, writer::connect_options};
use crate::store::StoreError;

/// A read that takes longer is interrupted: it would hold the log from being written back.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a read waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// How many of SQLite's steps pass between two looks at the clock: a fraction of a millisecond.
const STEPS: i32 = 20_000;

/// Opens the pool; the database exists.
pub(super) fn open(file: &Path, readers: u32) -> SqlitePool {
    let options: SqliteConnectOptions =
        connect_options(file).read_only(true).pragma("cache_size", "-16384").pragma("query_only", "on");
    SqlitePoolOptions::new()
        .max_connections(readers)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // Connections are in this process: they do not break while they are idle.
        .test_before_acquire(false)
        .after_connect(|conn, _| Box::pin(arm(conn)))
        .before_acquire(|conn, _| {
            Box::pin(async move {
                arm(conn).await?;
                Ok(true)
            })
        })
        .connect_lazy_with(options)
}

/// Sets the time from which the connection's statements are interrupted.
async fn arm(conn: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let until = Instant::now() + DEADLINE;
    conn.lock_handle().await?.set_progress_handler(STEPS, move || Instant::now() < until);
    Ok(())
}

/// A snapshot: what is read in it belongs together.
pub(super) async fn snapshot(pool: &SqlitePool) -> Result<Transaction<'static, Sqlite>, StoreError> {
    pool.begin().await.map_err(store_error)
}
