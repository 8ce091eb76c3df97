//! Rows of the audit log.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    super::{error::store_error, rows::clean},
    batch::{Batch, Placed, Results},
};
use crate::{
    domain::{RawJson, Timestamp},
    store::{
        StoreError,
        ops::{AuditOp, OpResult},
    },
};

const AUDITS: &str = "insert into audit (id, at, actor, action, object_type, object_id, request_id, reason, before, after)
select u.id, $2, u.actor, u.action, u.object_type, u.object_id, u.request_id, u.reason, u.before::json, u.after::json
from unnest($1::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
            $10::text[])
  as u (id, actor, action, object_type, object_id, request_id, reason, before, after)";

pub(super) const STATEMENTS: &[(&str, &str)] = &[("audit rows", AUDITS)];

/// Audit rows that stand alone.
pub(super) async fn run(
    batch: &mut Batch<'_>,
    ops: &Placed<'_, AuditOp>,
    results: &mut Results,
) -> Result<(), StoreError> {
    for (place, op) in ops {
        batch.effects.audit((*op).clone());
        results.set(*place, OpResult::Audited);
    }
    Ok(())
}

/// Writes the rows, in the order given.
pub(in super::super) async fn write(
    connection: &mut PgConnection,
    now: Timestamp,
    rows: &[AuditOp],
) -> Result<(), StoreError> {
    let json = |value: &Option<RawJson>| value.as_ref().map(|value| value.text().to_owned());
    sqlx::query(AUDITS)
        .bind(rows.iter().map(|_| Uuid::now_v7()).collect::<Vec<Uuid>>())
        .bind(now.to_datetime())
        .bind(rows.iter().map(|row| clean(&row.by.actor)).collect::<Vec<String>>())
        .bind(rows.iter().map(|row| row.action).collect::<Vec<&str>>())
        .bind(rows.iter().map(|row| row.object_type).collect::<Vec<&str>>())
        .bind(rows.iter().map(|row| clean(&row.object_id)).collect::<Vec<String>>())
        .bind(rows.iter().map(|row| clean(&row.by.request_id)).collect::<Vec<String>>())
        .bind(rows.iter().map(|row| row.by.reason.as_deref().map(clean)).collect::<Vec<Option<String>>>())
        .bind(rows.iter().map(|row| json(&row.before)).collect::<Vec<Option<String>>>())
        .bind(rows.iter().map(|row| json(&row.after)).collect::<Vec<Option<String>>>())
        .execute(connection)
        .await
        .map_err(store_error)?;
    Ok(())
}
