//! Cancel and retry.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};

use super::{live, view};
use crate::{
    domain::{JobId, JobState, JobView},
    http::{
        access::Principal,
        extract::{JobPath, OptionalJson},
        limits::REASON_BYTES_MAX,
        problem::{ApiError, Problem},
        state::HttpState,
    },
    store::ops::{Canceled, Retried},
};

/// The body of a cancel; may be left out.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CancelRequest {
    /// Why, for the timeline and the audit log.
    pub reason: Option<String>,
}

/// Cancels a job
///
/// A waiting job at once; a running one is asked to stop, and canceled when its worker has, or after one
/// more lease time.
#[utoipa::path(
    post,
    path = "/api/v1/jobs/{id}/cancel",
    tag = "jobs",
    operation_id = "cancelJob",
    params(("id" = String, Path, format = Uuid, description = "The job")),
    request_body(content = Option<CancelRequest>, content_type = "application/json"),
    responses(
        (status = 202, description = "Canceled, or asked to stop", body = JobView),
        (status = 409, description = "It is `completed` or `canceled`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn cancel(
    State(state): State<HttpState>,
    principal: Principal,
    JobPath(id): JobPath,
    OptionalJson(request): OptionalJson<CancelRequest>,
) -> Result<(StatusCode, Json<JobView>), ApiError> {
    let by = principal.requester(request.reason.clone());
    let reason = request.reason.unwrap_or_else(|| "canceled over the API".into());
    if reason.len() > REASON_BYTES_MAX || reason.contains('\0') {
        let detail = format!("at most {REASON_BYTES_MAX} bytes, without NUL");
        return Err(ApiError::invalid_field("/reason", detail));
    }
    let platform = state.platform.clone();
    match state.change(async move { platform.cancel(id, reason, by).await }).await?? {
        Canceled::Done { .. } | Canceled::Requested | Canceled::AlreadyRequested => {
            accepted(&state, principal, id).await
        }
        Canceled::Conflict(now) => Err(in_the_way(id, now, "canceled")),
        Canceled::NotFound => Err(ApiError::no_such_job()),
    }
}

/// Runs a failed or waiting job again, now
#[utoipa::path(
    post,
    path = "/api/v1/jobs/{id}/retry",
    tag = "jobs",
    operation_id = "retryJob",
    params(("id" = String, Path, format = Uuid, description = "The job")),
    responses(
        (status = 202, description = "Ready to run", body = JobView),
        (status = 409, description = "It is `completed`, `canceled`, `active` or `blocked`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn retry(
    State(state): State<HttpState>,
    principal: Principal,
    JobPath(id): JobPath,
) -> Result<(StatusCode, Json<JobView>), ApiError> {
    let (platform, by) = (state.platform.clone(), principal.requester(None));
    match state.change(async move { platform.retry(id, by).await }).await?? {
        Retried::Done { .. } | Retried::AlreadyQueued => accepted(&state, principal, id).await,
        Retried::Conflict(now) => Err(in_the_way(id, now, "retried")),
        Retried::NotFound => Err(ApiError::no_such_job()),
    }
}

pub(super) fn in_the_way(id: JobId, now: JobState, what: &str) -> ApiError {
    ApiError::conflict("state_conflict", format!("the job is {now} and cannot be {what}")).with_job(id)
}

async fn accepted(
    state: &HttpState,
    principal: Principal,
    id: JobId,
) -> Result<(StatusCode, Json<JobView>), ApiError> {
    let job = state.read(state.platform.store().job(id)).await?.ok_or_else(ApiError::no_such_job)?;
    let job = live::whole(state, job).await?;
    Ok((StatusCode::ACCEPTED, Json(view::live(state, principal, job))))
}
