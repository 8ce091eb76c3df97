//! A job's log.

use axum::{Json, extract::State, http::HeaderMap};

use crate::{
    http::{
        extract::{JobPath, Params},
        limits::{PAGE_DEFAULT, PAGE_MAX},
        problem::ApiError,
        state::HttpState,
    },
    store::{
        logs::{LogFilter, LogRow},
        ops::LogLevel,
    },
};

/// Shows a job's log
///
/// Oldest first. An attempt keeps 1,000 lines and 256 KiB; how many more there were is its last line. To follow a
/// job that runs, use a stream with the topic `job:{id}`.
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{id}/logs",
    tag = "jobs",
    operation_id = "getJobLogs",
    params(
        ("id" = String, Path, format = Uuid, description = "The job"),
        ("after" = Option<i64>, Query, minimum = 0, description = "Lines behind this `seq`"),
        ("attempt" = Option<i32>, Query, minimum = 1, description = "Of this attempt"),
        ("level" = Option<LogLevel>, Query, description = "At least this loud"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 1000, description = "The most lines of the page; 100"),
    ),
    responses((status = 200, description = "The page", body = Vec<LogRow>, headers(
        ("Link" = String, description = "The next page, as `<…>; rel=\"next\"`"),
    ))),
)]
pub async fn logs(
    State(state): State<HttpState>,
    JobPath(id): JobPath,
    params: Params,
) -> Result<(HeaderMap, Json<Vec<LogRow>>), ApiError> {
    let limit = params.number("limit", 1..=PAGE_MAX, PAGE_DEFAULT)?;
    let after = params.number("after", 0..=i64::MAX, 0)?;
    let attempt = match params.number("attempt", 0..=i32::MAX, 0)? {
        0 if params.one("attempt")?.is_some() => {
            return Err(ApiError::invalid_field("/attempt", "attempts are numbered from 1"));
        }
        0 => None,
        attempt => Some(attempt),
    };
    let filter = LogFilter { attempt, level: level(&params)? };
    // One more than asked for tells whether there is a next page.
    let wanted = i64::try_from(limit + 1).unwrap_or(i64::MAX);
    let read = state.read(state.platform.store().logs(id, filter, after, wanted)).await?;
    let mut rows = read.ok_or_else(ApiError::no_such_job)?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let mut headers = HeaderMap::new();
    if let Some(last) = rows.last().filter(|_| more) {
        headers.extend(next_page(&format!("/api/v1/jobs/{id}/logs"), &params, last.seq));
    }
    Ok((headers, Json(rows)))
}

fn level(params: &Params) -> Result<Option<LogLevel>, ApiError> {
    let Some(text) = params.one("level")? else { return Ok(None) };
    let level = serde_json::from_value(serde_json::Value::String(text.to_owned()));
    level
        .map(Some)
        .map_err(|_| ApiError::invalid_field("/level", "must be one of trace, debug, info, warn, error"))
}

/// The `Link` to the lines behind `after`. What is kept of the query was checked to be numbers and a level.
fn next_page(
    path: &str,
    params: &Params,
    after: i64,
) -> Option<(axum::http::HeaderName, axum::http::HeaderValue)> {
    let mut query = String::new();
    for name in ["attempt", "level", "limit"] {
        for value in params.all(name).filter(|value| !value.is_empty()) {
            query.push_str(&format!("{name}={value}&"));
        }
    }
    let link = format!("<{path}?{query}after={after}>; rel=\"next\"");
    let link = axum::http::HeaderValue::from_str(&link).ok()?;
    Some((axum::http::header::LINK, link))
}
