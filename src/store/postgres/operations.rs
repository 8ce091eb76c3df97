//! Bulk operations, as they are kept.

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::{PostgresStore, bounded, commit, error::store_error, rows::Columns};
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

/// The readers' connections read only, unless they are told otherwise.
const WRITE: &str = "begin read write";

const BEGIN: &str = "insert into operation (id, action, state, request, actor, bound, started_at)
select $1, $2, 'running', $3, $4,
       coalesce((select id from job order by id desc limit 1), '00000000-0000-0000-0000-000000000000'::uuid),
       clock_timestamp()
where (select count(*) from (select from operation where finished_at is null limit $5) w) < $5
on conflict (id) do nothing
returning started_at";

const KNOWN: &str = "select exists (select from operation where id = $1)";

const SAVE: &str = "update operation set cursor = $2, matched = $3, changed = $4, skipped = $5
where id = $1
returning finished_at is null";

const FINISH: &str =
    "update operation set state = $2, reason = coalesce($3, reason), finished_at = clock_timestamp()
where id = $1 and finished_at is null
returning id";

const ONE: &str =
    "select id, action, state, request, actor, bound, cursor, matched, changed, skipped, started_at,
       finished_at, reason
from operation where id = $1";

const LIST: &str =
    "select id, action, state, '', actor, bound, cursor, matched, changed, skipped, started_at,
       finished_at, reason
from operation
where $1::uuid is null or id < $1
order by id desc
limit $2";

const UNFINISHED: &str =
    "select id, action, state, request, actor, bound, cursor, matched, changed, skipped, started_at,
       finished_at, reason
from operation
where finished_at is null
order by id
limit $1";

pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("operation begin", BEGIN),
    ("operation known", KNOWN),
    ("operation save", SAVE),
    ("operation finish", FINISH),
    ("operation one", ONE),
    ("operation list", LIST),
    ("operation unfinished", UNFINISHED),
];

#[async_trait]
impl OperationStore for PostgresStore {
    async fn begin_operation(&self, operation: &NewOperation, audit: &AuditOp) -> Result<bool, StoreError> {
        bounded(begin(self, operation, audit)).await
    }

    async fn save_operation(&self, id: Uuid, cursor: JobId, tally: Tally) -> Result<bool, StoreError> {
        bounded(async {
            let mut transaction = self.readers.begin_with(WRITE).await.map_err(store_error)?;
            let is_running = sqlx::query_scalar(SAVE)
                .bind(id)
                .bind(cursor.0)
                .bind(tally.matched)
                .bind(tally.changed)
                .bind(tally.skipped)
                .fetch_optional(&mut *transaction)
                .await
                .map_err(store_error)?;
            transaction.commit().await.map_err(store_error)?;
            Ok(is_running.unwrap_or(false))
        })
        .await
    }

    async fn finish_operation(
        &self,
        id: Uuid,
        state: OperationState,
        reason: Option<&str>,
    ) -> Result<bool, StoreError> {
        bounded(async {
            let mut transaction = self.readers.begin_with(WRITE).await.map_err(store_error)?;
            let ended = sqlx::query(FINISH)
                .bind(id)
                .bind(state.name())
                .bind(reason)
                .fetch_optional(&mut *transaction)
                .await
                .map_err(store_error)?;
            transaction.commit().await.map_err(store_error)?;
            Ok(ended.is_some())
        })
        .await
    }

    async fn operation(&self, id: Uuid) -> Result<Option<OperationRow>, StoreError> {
        bounded(async {
            let found = sqlx::query(ONE).bind(id).fetch_optional(&self.readers).await.map_err(store_error)?;
            found.as_ref().map(read).transpose()
        })
        .await
    }

    async fn operations(&self, cursor: Option<Uuid>, limit: i64) -> Result<Vec<OperationRow>, StoreError> {
        bounded(async {
            let query = sqlx::query(LIST).bind(cursor).bind(limit);
            query.fetch_all(&self.readers).await.map_err(store_error)?.iter().map(read).collect()
        })
        .await
    }

    async fn unfinished_operations(&self, limit: i64) -> Result<Vec<OperationRow>, StoreError> {
        bounded(async {
            let query = sqlx::query(UNFINISHED).bind(limit);
            query.fetch_all(&self.readers).await.map_err(store_error)?.iter().map(read).collect()
        })
        .await
    }
}

async fn begin(store: &PostgresStore, operation: &NewOperation, audit: &AuditOp) -> Result<bool, StoreError> {
    let mut transaction = store.readers.begin_with(WRITE).await.map_err(store_error)?;
    let started = sqlx::query(BEGIN)
        .bind(operation.id)
        .bind(operation.action)
        .bind(operation.request.as_str())
        .bind(operation.actor.as_str())
        .bind(OPERATIONS_WAITING_MAX)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(store_error)?;
    let Some(row) = started else {
        let known = sqlx::query_scalar(KNOWN).bind(operation.id);
        return known.fetch_one(&mut *transaction).await.map_err(store_error);
    };
    let now: Timestamp = Columns::of(&row).time()?;
    commit::write_audit(&mut transaction, now, std::slice::from_ref(audit)).await?;
    transaction.commit().await.map_err(store_error)?;
    Ok(true)
}

fn read(row: &PgRow) -> Result<OperationRow, StoreError> {
    let mut columns = Columns::of(row);
    let (id, action) = (columns.next()?, columns.next()?);
    let state: String = columns.next()?;
    Ok(OperationRow {
        id,
        action,
        state: OperationState::of(&state)
            .ok_or_else(|| StoreError::Refused(format!("unknown state {state} of an operation")))?,
        request: columns.next()?,
        actor: columns.next()?,
        bound: columns.job()?,
        cursor: columns.next::<Option<Uuid>>()?.map(JobId),
        tally: Tally { matched: columns.next()?, changed: columns.next()?, skipped: columns.next()? },
        started_at: columns.time()?,
        finished_at: columns.time_or_none()?,
        reason: columns.next()?,
    })
}
