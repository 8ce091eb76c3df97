//! The audit log.

use async_trait::async_trait;
use uuid::Uuid;

use super::super::{PostgresStore, bounded, error::store_error, rows::Columns};
use crate::{
    domain::{RawJson, Timestamp},
    store::{
        StoreError,
        audit::{AuditFilter, AuditReads, AuditRow},
    },
};

const LIST: &str =
    "select id, at, actor, action, object_type, object_id, before::text, after::text, reason, request_id
from audit
where ($1::uuid is null or id < $1)
  and ($2::text is null or actor = $2)
  and ($3::text is null or action = $3)
  and ($4::text is null or object_type = $4)
  and ($5::text is null or object_id = $5)
  and ($6::timestamptz is null or at >= $6)
  and ($7::timestamptz is null or at < $7)
order by id desc
limit $8";

/// Of one thing: by its index.
const OF_OBJECT: &str =
    "select id, at, actor, action, object_type, object_id, before::text, after::text, reason, request_id
from audit
where ($1::uuid is null or id < $1)
  and ($2::text is null or actor = $2)
  and ($3::text is null or action = $3)
  and object_type = $4
  and object_id = $5
  and ($6::timestamptz is null or at >= $6)
  and ($7::timestamptz is null or at < $7)
order by id desc
limit $8";

pub(super) const STATEMENTS: &[(&str, &str)] = &[("audit list", LIST), ("audit of object", OF_OBJECT)];

#[async_trait]
impl AuditReads for PostgresStore {
    async fn audit(
        &self,
        filter: &AuditFilter,
        cursor: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<AuditRow>, StoreError> {
        bounded(list(self, filter, cursor, limit)).await
    }
}

async fn list(
    store: &PostgresStore,
    filter: &AuditFilter,
    cursor: Option<Uuid>,
    limit: i64,
) -> Result<Vec<AuditRow>, StoreError> {
    let is_of_object = filter.object_type.is_some() && filter.object_id.is_some();
    let rows = sqlx::query(if is_of_object { OF_OBJECT } else { LIST })
        .bind(cursor)
        .bind(filter.actor.as_deref())
        .bind(filter.action.as_deref())
        .bind(filter.object_type.as_deref())
        .bind(filter.object_id.as_deref())
        .bind(filter.created_after.map(Timestamp::to_datetime))
        .bind(filter.created_before.map(Timestamp::to_datetime))
        .bind(limit)
        .fetch_all(&store.readers)
        .await
        .map_err(store_error)?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            Ok(AuditRow {
                id: columns.next()?,
                at: columns.time()?,
                actor: columns.next()?,
                action: columns.next()?,
                object_type: columns.next()?,
                object_id: columns.next()?,
                before: columns.next::<Option<String>>()?.map(RawJson::trusted),
                after: columns.next::<Option<String>>()?.map(RawJson::trusted),
                reason: columns.next()?,
                request_id: columns.next()?,
            })
        })
        .collect()
}
