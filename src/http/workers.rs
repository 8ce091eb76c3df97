//! Workers: looked at, cordoned, drained and resumed.

use axum::{
    Json,
    extract::{FromRequestParts, Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::{
    access::Principal,
    extract::Params,
    limits::{PAGE_DEFAULT, PAGE_MAX},
    problem::ApiError,
    state::HttpState,
};
use crate::{
    actors::{platform::WorkerView, worker::Steer},
    domain::Timestamp,
};

/// The `{id}` of a path. What cannot be decoded names no worker.
#[derive(Debug, Clone)]
pub struct WorkerPath(String);

impl<S: Send + Sync> FromRequestParts<S> for WorkerPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(id)| Self(id)).map_err(|_| no_such_worker())
    }
}

/// Lists the workers
///
/// Those with a live session, the newest first; from memory.
#[utoipa::path(
    get,
    path = "/api/v1/workers",
    tag = "workers",
    operation_id = "listWorkers",
    params(
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 1000, description = "The most workers of the page; 100"),
        ("cursor" = Option<String>, Query, description = "Where the page begins, from `Link`"),
    ),
    responses((status = 200, description = "The page", body = Vec<WorkerView>, headers(
        ("Link" = String, description = "The next page, as `<…>; rel=\"next\"`"),
    ))),
)]
pub async fn list(
    State(state): State<HttpState>,
    params: Params,
) -> Result<(HeaderMap, Json<Vec<WorkerView>>), ApiError> {
    let limit = params.number("limit", 1..=PAGE_MAX, PAGE_DEFAULT)?;
    let after = cursor(&params)?;
    let mut workers = state.platform.workers();
    if let Some((started_at, id)) = after {
        workers.retain(|worker| (worker.started_at, &*worker.worker_id.0) < (started_at, id.as_str()));
    }
    let mut headers = HeaderMap::new();
    if let Some(last) = workers.get(limit.saturating_sub(1)).filter(|_| workers.len() > limit) {
        let link = format!("</api/v1/workers?limit={limit}&cursor={}>; rel=\"next\"", place(last));
        headers.extend(HeaderValue::from_str(&link).ok().map(|link| (header::LINK, link)));
    }
    workers.truncate(limit);
    Ok((headers, Json(workers)))
}

fn place(worker: &WorkerView) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("w{}:{}", worker.started_at.0, worker.worker_id))
}

fn cursor(params: &Params) -> Result<Option<(Timestamp, String)>, ApiError> {
    let Some(text) = params.one("cursor")? else { return Ok(None) };
    let read = || {
        let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (at, id) = text.strip_prefix('w')?.split_once(':')?;
        Some((Timestamp(at.parse().ok()?), id.to_owned()))
    };
    read().map(Some).ok_or_else(|| ApiError::invalid_field("/cursor", "not a cursor of this list"))
}

/// Shows a worker
#[utoipa::path(
    get,
    path = "/api/v1/workers/{id}",
    tag = "workers",
    operation_id = "getWorker",
    params(("id" = String, Path, description = "The worker")),
    responses((status = 200, description = "The worker", body = WorkerView)),
)]
pub async fn get(
    State(state): State<HttpState>,
    WorkerPath(id): WorkerPath,
) -> Result<Json<WorkerView>, ApiError> {
    state.platform.worker(&id).map(Json).ok_or_else(no_such_worker)
}

/// Gives a worker no more jobs
///
/// What it runs goes on. It holds until it is resumed, or its node ends.
#[utoipa::path(
    post,
    path = "/api/v1/workers/{id}/cordon",
    tag = "workers",
    operation_id = "cordonWorker",
    params(("id" = String, Path, description = "The worker")),
    responses((status = 202, description = "The worker, cordoned", body = WorkerView)),
)]
pub async fn cordon(
    State(state): State<HttpState>,
    principal: Principal,
    WorkerPath(id): WorkerPath,
) -> Result<(StatusCode, Json<WorkerView>), ApiError> {
    steer(&state, principal, id, Steer::Cordon).await
}

/// Gives a worker jobs again
#[utoipa::path(
    post,
    path = "/api/v1/workers/{id}/resume",
    tag = "workers",
    operation_id = "resumeWorker",
    params(("id" = String, Path, description = "The worker")),
    responses((status = 202, description = "The worker, running", body = WorkerView)),
)]
pub async fn resume(
    State(state): State<HttpState>,
    principal: Principal,
    WorkerPath(id): WorkerPath,
) -> Result<(StatusCode, Json<WorkerView>), ApiError> {
    steer(&state, principal, id, Steer::Resume).await
}

/// Gives a worker no more jobs, and stops it when it runs none
///
/// A worker in the node's own process stays there, `stopped`, and takes jobs again when it is resumed.
#[utoipa::path(
    post,
    path = "/api/v1/workers/{id}/drain",
    tag = "workers",
    operation_id = "drainWorker",
    params(("id" = String, Path, description = "The worker")),
    responses((status = 202, description = "The worker, draining", body = WorkerView)),
)]
pub async fn drain(
    State(state): State<HttpState>,
    principal: Principal,
    WorkerPath(id): WorkerPath,
) -> Result<(StatusCode, Json<WorkerView>), ApiError> {
    steer(&state, principal, id, Steer::Drain).await
}

async fn steer(
    state: &HttpState,
    principal: Principal,
    id: String,
    steer: Steer,
) -> Result<(StatusCode, Json<WorkerView>), ApiError> {
    let (platform, by) = (state.platform.clone(), principal.requester(None));
    let steered = state.change(async move { platform.steer_worker(&id, steer, by).await }).await??;
    let worker = steered.ok_or_else(no_such_worker)?;
    Ok((StatusCode::ACCEPTED, Json(worker)))
}

fn no_such_worker() -> ApiError {
    ApiError::not_found("worker_not_found", "there is no such worker here")
}
