//! A lane: one connection, made when it is needed, with a mark of its own.

use std::time::Duration;

use sqlx::{Connection, PgConnection, Row};
use tokio::{sync::Mutex, time::Instant};
use uuid::Uuid;

use super::super::{
    PostgresStore,
    connect::{check, journal, open},
    error::store_error,
};
use crate::store::{Settled, StoreError};

/// Plans are made for the sizes that the tables have at that moment, and small ones grow a hundredfold
/// within a second.
const PLANS_LAST: Duration = Duration::from_secs(1);

/// Makes the row that every batch of the connection writes its number to.
const MARK: &str = "insert into journal_mark (connection, seq, used_at) values ($1, 0, now())
returning pg_backend_pid()";

/// Reads the number of the newest batch committed over a connection; fails while a transaction of it is
/// still open.
const MARKED: &str = "select seq from journal_mark where connection = $1 for update nowait";

/// Ends the backend of a lost connection, unless its number is another's by now.
const END_BACKEND: &str = "select pg_terminate_backend(pid) from pg_stat_activity
where pid = $1 and datname = current_database() and application_name like 'ganger lane %'";

pub(super) const STATEMENTS: &[(&str, &str)] =
    &[("lane mark", MARK), ("lane marked", MARKED), ("lane end backend", END_BACKEND)];

/// A journal lane.
#[derive(Debug)]
pub(in super::super) struct Lane {
    pub(super) number: i16,
    /// Taken out while a batch runs: a batch whose caller goes away drops it, which undoes the batch.
    pub(in super::super) slot: Mutex<Option<LaneConnection>>,
}

impl Lane {
    pub(in super::super) fn new(number: u16) -> Self {
        Self { number: i16::try_from(number).unwrap_or(i16::MAX), slot: Mutex::new(None) }
    }
}

/// A lane's connection.
#[derive(Debug)]
pub(in super::super) struct LaneConnection {
    pub(super) connection: PgConnection,
    pub(super) mark: Uuid,
    pub(super) seq: i64,
    pid: i32,
    planned_at: Instant,
}

/// What tells whether a batch was committed: its mark, and the backend that may still hold it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Witness {
    mark: Uuid,
    seq: i64,
    pid: i32,
}

impl LaneConnection {
    pub(super) async fn begin(&mut self) -> Result<(), StoreError> {
        if self.planned_at.elapsed() > PLANS_LAST {
            sqlx::raw_sql("discard plans").execute(&mut self.connection).await.map_err(store_error)?;
            self.planned_at = Instant::now();
        }
        self.seq += 1;
        sqlx::raw_sql("begin").execute(&mut self.connection).await.map_err(store_error)?;
        Ok(())
    }

    pub(super) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        sqlx::raw_sql("commit").execute(&mut self.connection).await.map(drop)
    }

    pub(super) async fn rollback(&mut self) -> Result<(), sqlx::Error> {
        sqlx::raw_sql("rollback").execute(&mut self.connection).await.map(drop)
    }

    /// The connection after a rollback, if it still serves.
    pub(super) async fn rolled_back(mut self) -> Option<Self> {
        let answer = tokio::time::timeout(super::COMMIT_DEADLINE, self.rollback()).await;
        matches!(answer, Ok(Ok(()))).then_some(self)
    }

    pub(super) fn witness(&self) -> Witness {
        Witness { mark: self.mark, seq: self.seq, pid: self.pid }
    }

    pub(in super::super) async fn close(self) {
        // The server notices a closed socket by itself.
        let _ = tokio::time::timeout(super::COMMIT_DEADLINE, self.connection.close()).await;
    }
}

impl PostgresStore {
    /// Makes a lane's connection. Its mark is new: a batch lost on the one before can always be told.
    pub(super) async fn open_lane(&self, lane: &Lane) -> Result<LaneConnection, StoreError> {
        self.refuse_if_closed()?;
        let role = format!("lane {}", lane.number);
        let mut connection = open(&journal(&self.options, self.boot(), &role)).await?;
        check(&mut connection).await?;
        let mark = Uuid::now_v7();
        let row = sqlx::query(MARK).bind(mark).fetch_one(&mut connection).await.map_err(store_error)?;
        let pid = row.try_get(0).map_err(store_error)?;
        Ok(LaneConnection { connection, mark, seq: 0, pid, planned_at: Instant::now() })
    }
}

/// Whether the lost batch was committed. While its transaction is open, its backend is ended, and the
/// answer is an error: ask again.
pub(in super::super) async fn settle(
    store: &PostgresStore,
    witness: &(dyn std::any::Any + Send + Sync),
) -> Result<Settled, StoreError> {
    let witness = witness
        .downcast_ref::<Witness>()
        .ok_or_else(|| StoreError::Refused("the lost commit is another engine's".into()))?;
    let mut connection = open(&journal(&store.options, store.boot(), "settle")).await?;
    let marked = sqlx::query_scalar::<_, i64>(MARKED)
        .bind(witness.mark)
        .fetch_optional(&mut connection)
        .await
        .map_err(store_error);
    let answer = match marked {
        // A connection's numbers grow, and it makes no batch after a lost one.
        Ok(Some(seq)) if seq >= witness.seq => Ok(Settled::Committed),
        Ok(_) => Ok(Settled::RolledBack),
        Err(error) => {
            sqlx::query(END_BACKEND).bind(witness.pid).execute(&mut connection).await.map_err(store_error)?;
            Err(StoreError::Unavailable(format!("the lost commit is not settled yet: {error}")))
        }
    };
    let _ = connection.close().await;
    answer
}
