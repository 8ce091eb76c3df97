//! Bulk operations, as they are kept.

use async_trait::async_trait;
use sqlx::{SqliteConnection, SqlitePool, sqlite::SqliteRow};
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    SqliteStore,
    batch::Batch,
    closed, commit,
    error::{store_error, unreadable},
    rows::Cols,
    write,
    writer::now,
};
use crate::{
    domain::{JobId, Timestamp},
    store::{
        StoreError,
        operations::{
            NewOperation, OPERATIONS_WAITING_MAX, OperationRow, OperationState, OperationStore, Tally,
        },
        ops::AuditOp,
    },
};

const BEGIN: &str = "
    insert into operation (id, action, state, request, actor, bound, started_at)
    select ?1, ?2, 'running', ?3, ?4, coalesce((select max(id) from job), zeroblob(16)), ?5
    where (select count(*) from (select 1 from operation where finished_at is null limit ?6)) < ?6
    on conflict (id) do nothing";

const KNOWN: &str = "select exists (select 1 from operation where id = ?1)";

const SAVE: &str = "
    update operation set cursor = ?2, matched = ?3, changed = ?4, skipped = ?5
    where id = ?1
    returning finished_at is null";

const FINISH: &str = "
    update operation set state = ?2, reason = coalesce(?3, reason), finished_at = ?4
    where id = ?1 and finished_at is null";

const ONE: &str = "
    select id, action, state, request, actor, bound, cursor, matched, changed, skipped, started_at,
           finished_at, reason
    from operation where id = ?1";

const LIST: &str = "
    select id, action, state, '', actor, bound, cursor, matched, changed, skipped, started_at, finished_at,
           reason
    from operation where ?1 is null or id < ?1 order by id desc limit ?2";

const UNFINISHED: &str = "
    select id, action, state, request, actor, bound, cursor, matched, changed, skipped, started_at,
           finished_at, reason
    from operation where finished_at is null order by id limit ?1";

const FORGET: &str = "delete from operation where finished_at < ?1";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("operation begin", BEGIN),
    ("operation known", KNOWN),
    ("operation save", SAVE),
    ("operation finish", FINISH),
    ("operation one", ONE),
    ("operation list", LIST),
    ("operation unfinished", UNFINISHED),
    ("operation forget", FORGET),
];

#[async_trait]
impl OperationStore for SqliteStore {
    async fn begin_operation(&self, operation: &NewOperation, audit: &AuditOp) -> Result<bool, StoreError> {
        write!(self, conn => begin(conn, operation, audit, now()).await)
    }

    async fn save_operation(&self, id: Uuid, cursor: JobId, tally: Tally) -> Result<bool, StoreError> {
        write!(self, conn => save(conn, id, cursor, tally).await)
    }

    async fn finish_operation(
        &self,
        id: Uuid,
        state: OperationState,
        reason: Option<&str>,
    ) -> Result<bool, StoreError> {
        write!(self, conn => finish(conn, id, state, reason, now()).await)
    }

    async fn operation(&self, id: Uuid) -> Result<Option<OperationRow>, StoreError> {
        one(&self.readers, id).await
    }

    async fn operations(&self, cursor: Option<Uuid>, limit: i64) -> Result<Vec<OperationRow>, StoreError> {
        list(&self.readers, cursor, limit).await
    }

    async fn unfinished_operations(&self, limit: i64) -> Result<Vec<OperationRow>, StoreError> {
        unfinished(&self.readers, limit).await
    }
}

/// Forgets operations that ended before `before`.
pub(super) async fn forget(conn: &mut SqliteConnection, before: Timestamp) -> Result<(), StoreError> {
    sqlx::query(FORGET).bind(before.0).execute(conn).await.map_err(store_error)?;
    Ok(())
}

async fn begin(
    conn: &mut SqliteConnection,
    operation: &NewOperation,
    audit: &AuditOp,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let made = sqlx::query(BEGIN)
        .bind(operation.id)
        .bind(operation.action)
        .bind(operation.request.as_str())
        .bind(operation.actor.as_str())
        .bind(now.0)
        .bind(OPERATIONS_WAITING_MAX)
        .execute(&mut *conn)
        .await
        .map_err(store_error)?;
    if made.rows_affected() == 0 {
        return sqlx::query_scalar(KNOWN).bind(operation.id).fetch_one(conn).await.map_err(store_error);
    }
    let mut batch = Batch::new(conn, now);
    batch.audit(audit);
    batch.finish().await?;
    Ok(true)
}

async fn save(
    conn: &mut SqliteConnection,
    id: Uuid,
    cursor: JobId,
    tally: Tally,
) -> Result<bool, StoreError> {
    let is_running: Option<bool> = sqlx::query_scalar(SAVE)
        .bind(id)
        .bind(cursor.0)
        .bind(tally.matched)
        .bind(tally.changed)
        .bind(tally.skipped)
        .fetch_optional(conn)
        .await
        .map_err(store_error)?;
    Ok(is_running.unwrap_or(false))
}

async fn finish(
    conn: &mut SqliteConnection,
    id: Uuid,
    state: OperationState,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let query = sqlx::query(FINISH).bind(id).bind(state.name()).bind(reason).bind(now.0);
    Ok(query.execute(conn).await.map_err(store_error)?.rows_affected() > 0)
}

async fn one(pool: &SqlitePool, id: Uuid) -> Result<Option<OperationRow>, StoreError> {
    let found = sqlx::query(ONE).bind(id).fetch_optional(pool).await.map_err(store_error)?;
    found.as_ref().map(read).transpose()
}

async fn list(pool: &SqlitePool, cursor: Option<Uuid>, limit: i64) -> Result<Vec<OperationRow>, StoreError> {
    let rows = sqlx::query(LIST).bind(cursor).bind(limit).fetch_all(pool).await.map_err(store_error)?;
    rows.iter().map(read).collect()
}

async fn unfinished(pool: &SqlitePool, limit: i64) -> Result<Vec<OperationRow>, StoreError> {
    let rows = sqlx::query(UNFINISHED).bind(limit).fetch_all(pool).await.map_err(store_error)?;
    rows.iter().map(read).collect()
}

fn read(row: &SqliteRow) -> Result<OperationRow, StoreError> {
    let mut cols = Cols::of(row);
    let (id, action) = (cols.get()?, cols.get()?);
    let state = OperationState::of(&cols.get::<String>()?).ok_or_else(|| unreadable("operation's state"))?;
    Ok(OperationRow {
        id,
        action,
        state,
        request: cols.get()?,
        actor: cols.get()?,
        bound: cols.job()?,
        cursor: cols.get::<Option<Uuid>>()?.map(JobId),
        tally: Tally { matched: cols.get()?, changed: cols.get()?, skipped: cols.get()? },
        started_at: cols.time()?,
        finished_at: cols.opt_time()?,
        reason: cols.get()?,
    })
}
