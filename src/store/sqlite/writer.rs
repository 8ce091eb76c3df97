//! The one connection that writes.
//!
//! A transaction that was not ended, because its caller went away or its answer was lost, leaves the
//! connection `open`; the next use starts over with a new one, which rolls the old back.

use std::{collections::VecDeque, path::Path, time::Duration};

use sqlx::{
    ConnectOptions, Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::error::{is_definite, store_error};
use crate::{
    domain::Timestamp,
    store::{Settled, StoreError},
};

/// How long a statement waits for a lock. Nobody else writes; a checkpoint or a backup tool may hold one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Statements kept prepared: all there are.
const STATEMENTS_CACHED: usize = 200;

/// Rows that the connection's thread may be ahead of its reader: a whole batch's, or the two threads
/// wait for each other row by row.
const ROWS_BUFFERED: usize = 2_048;

/// What both kinds of connection share.
pub(super) fn connect_options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(false)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENTS_CACHED)
        .row_buffer_size(ROWS_BUFFERED)
        .disable_statement_logging()
}

const BEGIN: &str = "begin immediate";
const COMMIT: &str = "commit";
const ROLLBACK: &str = "rollback";
const SEQ: &str = "select value from meta where key = 'batch_seq'";
const SKIP_SEQ: &str = "update meta set value = ?1 where key = 'batch_seq'";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[("newest batch", SEQ), ("skip batch", SKIP_SEQ)];

/// Lost commits whose fate is remembered: far more than there can be callers that still ask.
const SETTLED_MAX: usize = 1_024;

/// A commit that was not answered success.
#[derive(Debug)]
pub(super) enum CommitFault {
    /// It did not happen; the engine has rolled back.
    Undone(StoreError),
    /// It may have happened.
    Unknown(StoreError),
}

/// The writing connection.
#[derive(Debug)]
pub(super) struct Writer {
    options: SqliteConnectOptions,
    conn: Option<SqliteConnection>,
    /// Whether a transaction was begun and not seen to end.
    open: bool,
    /// The batch whose commit was not answered. Nothing is written before it is known what became of it.
    pub(super) unsettled: Option<i64>,
    /// What became of such batches, the newest last.
    settled: VecDeque<(i64, Settled)>,
}

impl Writer {
    /// Opens the database, making it if there is none.
    pub(super) async fn open(file: &Path) -> Result<Self, StoreError> {
        let options = connect_options(file)
            .create_if_missing(true)
            // Payloads make rows wide; wider pages keep the trees of wide rows flat.
            .page_size(8_192)
            // 64 MB: the hot pages of a million live jobs.
            .pragma("cache_size", "-65536")
            // A batch of ten thousand jobs' pages: fewer, longer checkpoints.
            .pragma("wal_autocheckpoint", "4000");
        let mut writer = Self { options, conn: None, open: false, unsettled: None, settled: VecDeque::new() };
        writer.connection().await?;
        Ok(writer)
    }

    /// The connection, a new one if the last was left in the middle of something.
    pub(super) async fn connection(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        if self.open {
            self.conn = None;
            self.open = false;
        }
        if self.conn.is_none() {
            self.conn = Some(self.options.connect().await.map_err(store_error)?);
        }
        self.conn.as_mut().ok_or_else(|| StoreError::Unavailable("no connection".into()))
    }

    /// Begins a transaction that holds the write lock from its start: what it reads stays true until it
    /// ends.
    pub(super) async fn begin(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        if let Some(lost) = self.unsettled {
            self.settle(lost).await?;
        }
        self.start().await
    }

    async fn start(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        self.connection().await?;
        self.open = true;
        self.run(BEGIN).await?;
        self.conn.as_mut().ok_or_else(|| StoreError::Unavailable("no connection".into()))
    }

    /// Finds out whether batch `lost` happened: its number is the newest if it did. If it did not, the
    /// number after it is written over what the lost commit may have left in the log, so that no crash
    /// brings it back; that number means the same when this commit is lost too.
    async fn settle(&mut self, lost: i64) -> Result<(), StoreError> {
        let conn = self.start().await?;
        let newest: i64 = sqlx::query_scalar(SEQ).fetch_one(&mut *conn).await.map_err(store_error)?;
        let fate = if newest == lost { Settled::Committed } else { Settled::RolledBack };
        if newest < lost {
            sqlx::query(SKIP_SEQ).bind(lost + 1).execute(conn).await.map_err(store_error)?;
        }
        self.commit().await?;
        self.unsettled = None;
        self.settled.push_back((lost, fate));
        if self.settled.len() > SETTLED_MAX {
            self.settled.pop_front();
        }
        Ok(())
    }

    /// What became of batch `lost`; `None` for one that was never lost here.
    pub(super) async fn fate(&mut self, lost: i64) -> Result<Option<Settled>, StoreError> {
        if self.unsettled == Some(lost) {
            self.settle(lost).await?;
        }
        Ok(self.settled.iter().find(|(seq, _)| *seq == lost).map(|(_, fate)| *fate))
    }

    /// Commits. An error leaves it open whether it happened.
    pub(super) async fn commit(&mut self) -> Result<(), StoreError> {
        self.try_commit().await.map_err(|fault| match fault {
            CommitFault::Undone(error) | CommitFault::Unknown(error) => error,
        })
    }

    /// Commits; an error says what is known of it.
    pub(super) async fn try_commit(&mut self) -> Result<(), CommitFault> {
        let no_connection = || StoreError::Unavailable("no connection".into());
        let conn = self.conn.as_mut().ok_or_else(no_connection).map_err(CommitFault::Unknown)?;
        match sqlx::query(COMMIT).execute(conn).await {
            Ok(_) => {
                self.open = false;
                Ok(())
            }
            Err(error) if is_definite(&error) => Err(CommitFault::Undone(store_error(error))),
            Err(error) => Err(CommitFault::Unknown(store_error(error))),
        }
    }

    /// Rolls back; a connection that cannot is given up, which does the same.
    pub(super) async fn rollback(&mut self) {
        if self.run(ROLLBACK).await.is_ok() {
            self.open = false;
        }
    }

    async fn run(&mut self, sql: &'static str) -> Result<(), StoreError> {
        let Some(conn) = self.conn.as_mut() else {
            return Err(StoreError::Unavailable("no connection".into()));
        };
        sqlx::query(sql).execute(conn).await.map_err(store_error)?;
        Ok(())
    }

    /// Closes the connection, which also writes the log back into the database.
    pub(super) async fn close(&mut self) {
        if let Some(conn) = self.conn.take() {
            // The log is written back at the next start if this fails.
            let _ = conn.close().await;
        }
    }
}

/// This node's clock is the store's.
pub(super) fn now() -> Timestamp {
    crate::domain::Clock::local()
}
