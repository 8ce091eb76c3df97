//! What is read. Each read is one snapshot: one statement, or one repeatable-read transaction.

mod aside;
mod audit;
mod dead_letters;
pub(super) mod graph;
pub(super) mod inspect;
pub(super) mod job;
pub(super) mod list;
mod logs;
pub(super) mod parts;
pub(super) mod queues;
mod search;
mod submissions;

use sqlx::{PgConnection, Postgres, Transaction};

use super::{PostgresStore, error::store_error};
use crate::store::StoreError;

/// Statements by name, for the test that prepares each.
pub(super) fn statements() -> Vec<(&'static str, &'static str)> {
    [
        dead_letters::STATEMENTS,
        aside::STATEMENTS,
        audit::STATEMENTS,
        graph::STATEMENTS,
        inspect::STATEMENTS,
        job::STATEMENTS,
        list::STATEMENTS,
        logs::STATEMENTS,
        parts::STATEMENTS,
        queues::STATEMENTS,
        search::STATEMENTS,
        submissions::STATEMENTS,
    ]
    .concat()
}

/// A transaction in which every statement sees the same store.
pub(super) async fn snapshot(store: &PostgresStore) -> Result<Transaction<'static, Postgres>, StoreError> {
    store.readers.begin_with("begin isolation level repeatable read read only").await.map_err(store_error)
}

/// Ends it.
pub(super) async fn done(transaction: Transaction<'static, Postgres>) -> Result<(), StoreError> {
    transaction.commit().await.map_err(store_error)
}

/// The connection of a snapshot.
type Snapshot = PgConnection;
