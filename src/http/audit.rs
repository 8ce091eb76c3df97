//! The audit log.

use axum::{Json, extract::State, http::HeaderMap};

use super::{
    extract::Params,
    jobs::cursor,
    limits::{AUDIT_STEP, PAGE_BYTES_MAX, PAGE_DEFAULT, PAGE_MAX},
    problem::ApiError,
    state::HttpState,
};
use crate::store::audit::{AuditFilter, AuditRow};

/// The parameters that a link to the next page keeps.
const FILTERS: [&str; 7] =
    ["actor", "action", "objectType", "objectId", "createdAfter", "createdBefore", "limit"];

/// Lists the audit log
///
/// Who changed what, newest first. A row is written in the transaction of the change it tells of. A page may be
/// shorter than `limit` when its rows are large: follow `Link` until there is none.
#[utoipa::path(
    get,
    path = "/api/v1/audit",
    tag = "node",
    operation_id = "listAudit",
    params(
        ("actor" = Option<String>, Query, description = "Who did it"),
        ("action" = Option<String>, Query, description = "What was done, such as `job.updated`"),
        ("objectType" = Option<String>, Query, description = "To what kind of thing"),
        ("objectId" = Option<String>, Query, description = "To which"),
        ("createdAfter" = Option<String>, Query, format = DateTime, description = "At or after"),
        ("createdBefore" = Option<String>, Query, format = DateTime, description = "Before"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 1000, description = "The most rows of the page; 100"),
        ("cursor" = Option<String>, Query, description = "Where the page begins, from `Link`"),
    ),
    responses((status = 200, description = "The page", body = Vec<AuditRow>, headers(
        ("Link" = String, description = "The next page, as `<…>; rel=\"next\"`"),
    ))),
)]
pub async fn list(
    State(state): State<HttpState>,
    params: Params,
) -> Result<(HeaderMap, Json<Vec<AuditRow>>), ApiError> {
    let filter = AuditFilter {
        actor: params.text("actor")?,
        action: params.text("action")?,
        object_type: params.text("objectType")?,
        object_id: params.text("objectId")?,
        created_after: params.time("createdAfter")?,
        created_before: params.time("createdBefore")?,
    };
    let limit = params.number("limit", 1..=PAGE_MAX, PAGE_DEFAULT)?;
    let mut after = cursor::uuid(&params, cursor::AUDIT)?;
    let mut rows: Vec<AuditRow> = Vec::new();
    let mut bytes = 0;
    loop {
        // One more than asked for tells whether there is a next page.
        let step = (limit + 1 - rows.len()).min(AUDIT_STEP);
        let store = state.platform.store();
        let read = state.read(store.audit(&filter, after, i64::try_from(step).unwrap_or(1))).await?;
        let ended = read.len() < step;
        for row in read {
            let weight = |value: &Option<_>| {
                value.as_ref().map_or(0, |value: &crate::domain::RawJson| value.text().len())
            };
            let weight = weight(&row.before) + weight(&row.after);
            if rows.len() == limit || (bytes + weight > PAGE_BYTES_MAX && !rows.is_empty()) {
                let mut headers = HeaderMap::new();
                if let Some(last) = rows.last() {
                    let next = cursor::of_uuid(cursor::AUDIT, last.id);
                    headers.extend(cursor::next_page("/api/v1/audit", &params, &FILTERS, &next));
                }
                return Ok((headers, Json(rows)));
            }
            bytes += weight;
            after = Some(row.id);
            rows.push(row);
        }
        if ended {
            return Ok((HeaderMap::new(), Json(rows)));
        }
    }
}
