//! The audit log: its reads, and rows that stand alone; the others are written by the change they belong to.

use async_trait::async_trait;
use uuid::Uuid;

use super::{SqliteStore, batch::Batch, error::store_error, rows::Cols};
use crate::{
    domain::RawJson,
    store::{
        StoreError,
        audit::{AuditFilter, AuditReads, AuditRow},
        ops::{AuditOp, OpResult},
    },
};

const LIST: &str = "
    select id, at, actor, action, object_type, object_id, before, after, reason, request_id
    from audit
    where (?1 is null or id < ?1) and (?2 is null or actor = ?2) and (?3 is null or action = ?3)
      and (?4 is null or object_type = ?4) and (?5 is null or object_id = ?5)
      and (?6 is null or at >= ?6) and (?7 is null or at < ?7)
    order by id desc limit ?8";

/// Of one thing: by its index.
const OF_OBJECT: &str = "
    select id, at, actor, action, object_type, object_id, before, after, reason, request_id
    from audit indexed by audit_object
    where (?1 is null or id < ?1) and (?2 is null or actor = ?2) and (?3 is null or action = ?3)
      and object_type = ?4 and object_id = ?5 and (?6 is null or at >= ?6) and (?7 is null or at < ?7)
    order by id desc limit ?8";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[("audit list", LIST), ("audit of object", OF_OBJECT)];

#[async_trait]
impl AuditReads for SqliteStore {
    async fn audit(
        &self,
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
            .bind(filter.created_after.map(|at| at.0))
            .bind(filter.created_before.map(|at| at.0))
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
        rows.iter()
            .map(|row| {
                let mut cols = Cols::of(row);
                Ok(AuditRow {
                    id: cols.get()?,
                    at: cols.time()?,
                    actor: cols.get()?,
                    action: cols.get()?,
                    object_type: cols.get()?,
                    object_id: cols.get()?,
                    before: cols.get::<Option<String>>()?.map(RawJson::trusted),
                    after: cols.get::<Option<String>>()?.map(RawJson::trusted),
                    reason: cols.get()?,
                    request_id: cols.get()?,
                })
            })
            .collect()
    }
}

pub(super) fn run(batch: &mut Batch<'_>, ops: &[(usize, &AuditOp)], results: &mut [Option<OpResult>]) {
    for (index, op) in ops {
        batch.audit(op);
        results[*index] = Some(OpResult::Audited);
    }
}
