//! Settings, pause, resume and drain.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};

use super::name::{QueuePath, existing, possible};
use crate::{
    actors::{platform::QueueView, queue::core::QueueOrder},
    domain::QueuePatch,
    http::{
        access::Principal,
        extract::{self, ApiJson, OptionalJson},
        problem::{ApiError, Problem},
        state::HttpState,
    },
};

/// The body of a pause, resume or drain; may be left out.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OrderRequest {
    /// Why, for the audit log.
    pub reason: Option<String>,
}

/// Sets a queue
///
/// Makes it, if it is not there. What the body does not name stays; `null` goes back to the node's default. In
/// force when answered, without a restart.
#[utoipa::path(
    put,
    path = "/api/v1/queues/{queue}",
    tag = "queues",
    operation_id = "configureQueue",
    params(("queue" = String, Path, description = "The queue's name; a `/` in it as `%2F`")),
    request_body(content = QueuePatch, content_type = "application/json",
        example = json!({"concurrency": 10, "maxDepth": 100_000, "agingSeconds": 60})),
    responses(
        (status = 200, description = "The queue, as it is now", body = QueueView),
        (status = 409, description = "The node has as many queues as it can", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn configure(
    State(state): State<HttpState>,
    principal: Principal,
    queue: QueuePath,
    ApiJson(patch): ApiJson<QueuePatch>,
) -> Result<Json<QueueView>, ApiError> {
    let queue = possible(&state, queue)?;
    let change = patch.check(&state.defaults).map_err(ApiError::invalid)?;
    order(&state, principal, queue, QueueOrder::Configure(Box::new(change)), None).await
}

/// Pauses a queue
///
/// No job of it starts any more; what runs goes on. Makes the queue, if it is not there.
#[utoipa::path(
    post,
    path = "/api/v1/queues/{queue}/pause",
    tag = "queues",
    operation_id = "pauseQueue",
    params(("queue" = String, Path, description = "The queue's name; a `/` in it as `%2F`")),
    request_body(content = Option<OrderRequest>, content_type = "application/json"),
    responses(
        (status = 200, description = "The queue, paused", body = QueueView),
        (status = 409, description = "The node has as many queues as it can", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn pause(
    State(state): State<HttpState>,
    principal: Principal,
    queue: QueuePath,
    OptionalJson(request): OptionalJson<OrderRequest>,
) -> Result<Json<QueueView>, ApiError> {
    let queue = possible(&state, queue)?;
    order(&state, principal, queue, QueueOrder::Pause, request.reason).await
}

/// Resumes a queue
///
/// Ends a pause and a drain.
#[utoipa::path(
    post,
    path = "/api/v1/queues/{queue}/resume",
    tag = "queues",
    operation_id = "resumeQueue",
    params(("queue" = String, Path, description = "The queue's name; a `/` in it as `%2F`")),
    request_body(content = Option<OrderRequest>, content_type = "application/json"),
    responses(
        (status = 200, description = "The queue, running", body = QueueView),
        (status = 404, description = "There is no such queue", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn resume(
    State(state): State<HttpState>,
    principal: Principal,
    queue: QueuePath,
    OptionalJson(request): OptionalJson<OrderRequest>,
) -> Result<Json<QueueView>, ApiError> {
    let queue = existing(&state, queue)?;
    order(&state, principal, queue, QueueOrder::Resume, request.reason).await
}

/// Drains a queue
///
/// New submissions are refused with 503 `queue_draining`. What is queued, retrying, throttled or running is finished;
/// what is scheduled or blocked stays. Then the queue is paused, and goes on refusing, until it is resumed. A paused
/// queue runs again to be drained.
#[utoipa::path(
    post,
    path = "/api/v1/queues/{queue}/drain",
    tag = "queues",
    operation_id = "drainQueue",
    params(("queue" = String, Path, description = "The queue's name; a `/` in it as `%2F`")),
    request_body(content = Option<OrderRequest>, content_type = "application/json"),
    responses(
        (status = 200, description = "The queue, draining", body = QueueView),
        (status = 404, description = "There is no such queue", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn drain(
    State(state): State<HttpState>,
    principal: Principal,
    queue: QueuePath,
    OptionalJson(request): OptionalJson<OrderRequest>,
) -> Result<Json<QueueView>, ApiError> {
    let queue = existing(&state, queue)?;
    order(&state, principal, queue, QueueOrder::Drain, request.reason).await
}

async fn order(
    state: &HttpState,
    principal: Principal,
    queue: String,
    order: QueueOrder,
    reason: Option<String>,
) -> Result<Json<QueueView>, ApiError> {
    let by = principal.requester(extract::reason(reason)?);
    let platform = state.platform.clone();
    Ok(Json(state.change(async move { platform.order(&queue, order, by).await }).await??))
}
