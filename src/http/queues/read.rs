//! Queues as they are.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, header},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::name::{QueuePath, no_such_queue};
use crate::{
    actors::platform::QueueView,
    domain::name,
    http::{
        extract::Params,
        limits::{PAGE_DEFAULT, PAGE_MAX},
        problem::{ApiError, Problem},
        state::HttpState,
    },
};

/// Leads each cursor, so that those of another list are not taken.
const QUEUES: u8 = b'q';

/// Lists queues
///
/// In the order of their names, from memory. A queue is there once it had a job or a setting.
#[utoipa::path(
    get,
    path = "/api/v1/queues",
    tag = "queues",
    operation_id = "listQueues",
    params(
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 1000, description = "The most queues of the page; 100"),
        ("cursor" = Option<String>, Query, description = "Where the page begins, from `Link`"),
    ),
    responses((status = 200, description = "The page", body = Vec<QueueView>, headers(
        ("Link" = String, description = "The next page, as `<…>; rel=\"next\"`"),
    ))),
)]
pub async fn list(
    State(state): State<HttpState>,
    params: Params,
) -> Result<(HeaderMap, Json<Vec<QueueView>>), ApiError> {
    let limit = params.number("limit", 1..=PAGE_MAX, PAGE_DEFAULT)?;
    let (queues, is_more) = state.platform.queues(cursor(&params)?.as_deref(), limit);
    let mut headers = HeaderMap::new();
    if let Some(last) = queues.last().filter(|_| is_more) {
        let cursor = BASE64_URL_SAFE_NO_PAD.encode([&[QUEUES], last.name.as_bytes()].concat());
        let link = format!("</api/v1/queues?limit={limit}&cursor={cursor}>; rel=\"next\"");
        headers.insert(header::LINK, HeaderValue::from_str(&link).map_err(ApiError::internal)?);
    }
    Ok((headers, Json(queues)))
}

fn cursor(params: &Params) -> Result<Option<String>, ApiError> {
    let Some(text) = params.one("cursor")? else { return Ok(None) };
    let place = BASE64_URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| {
        let (first, place) = bytes.split_first()?;
        let place = String::from_utf8(place.to_vec()).ok()?;
        (*first == QUEUES && name::is_name(&place)).then_some(place)
    });
    place.map(Some).ok_or_else(|| ApiError::invalid_field("/cursor", "not a cursor of this list"))
}

/// Shows a queue
#[utoipa::path(
    get,
    path = "/api/v1/queues/{queue}",
    tag = "queues",
    operation_id = "getQueue",
    params(("queue" = String, Path, description = "The queue's name; a `/` in it as `%2F`")),
    responses(
        (status = 200, description = "The queue", body = QueueView),
        (status = 404, description = "There is no such queue", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn get(
    State(state): State<HttpState>,
    QueuePath(name): QueuePath,
) -> Result<Json<QueueView>, ApiError> {
    state.platform.queue(&name).map(Json).ok_or_else(no_such_queue)
}
