//! The schema's versions.

use sqlx::{Connection, SqliteConnection};

use super::error::store_error;
use crate::store::StoreError;

/// Each brings a database from the version before to its own, and sets `user_version` itself.
const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/sqlite/0001_store.sql"),
    include_str!("../../../migrations/sqlite/0002_controls.sql"),
];

const VERSION: &str = "pragma user_version";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[("schema version", VERSION)];

/// Brings the schema up to date, each step in a transaction of its own.
pub(super) async fn migrate(conn: &mut SqliteConnection, apply: bool) -> Result<(), StoreError> {
    let version: i64 = sqlx::query_scalar(VERSION).fetch_one(&mut *conn).await.map_err(store_error)?;
    let newest = MIGRATIONS.len();
    let current = usize::try_from(version).unwrap_or(usize::MAX);
    if current > newest {
        return Err(StoreError::Refused(format!(
            "the database has schema version {version}, this program knows up to {newest}: it was written by a newer one"
        )));
    }
    if current < newest && !apply {
        return Err(StoreError::Refused(format!(
            "the database has schema version {version} and needs {newest}: start with migrations on"
        )));
    }
    for step in &MIGRATIONS[current..] {
        let mut tx = conn.begin_with("begin immediate").await.map_err(store_error)?;
        sqlx::raw_sql(*step).execute(&mut *tx).await.map_err(store_error)?;
        tx.commit().await.map_err(store_error)?;
    }
    Ok(())
}
