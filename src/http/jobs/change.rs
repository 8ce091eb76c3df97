//! Changes of a waiting job, and the end of a terminal one's record.

use axum::{Json, extract::State, http::StatusCode};

use super::{control::in_the_way, submit::check_payload, view};
use crate::{
    domain::{JobView, PatchRequest},
    http::{
        access::Principal,
        extract::{ApiJson, JobPath},
        problem::{ApiError, Problem},
        state::HttpState,
    },
    store::ops::Changed,
};

/// Changes a waiting job
///
/// What is left out stays, and so does what is null, but for the payload, which may be null. In another queue the job
/// waits at the place that its priority and `runAt` give it. A later `runAt` makes it `scheduled`, one that is past
/// makes it ready; a blocked job stays blocked.
#[utoipa::path(
    patch,
    path = "/api/v1/jobs/{id}",
    tag = "jobs",
    operation_id = "updateJob",
    params(("id" = String, Path, format = Uuid, description = "The job")),
    request_body(content = PatchRequest, content_type = "application/json",
        example = json!({"priority": 9, "queue": "urgent"})),
    responses(
        (status = 200, description = "The job as it is now", body = JobView),
        (status = 409, description = "It is `active`, `completed`, `failed` or `canceled`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn update(
    State(state): State<HttpState>,
    principal: Principal,
    JobPath(id): JobPath,
    ApiJson(request): ApiJson<PatchRequest>,
) -> Result<(StatusCode, Json<JobView>), ApiError> {
    let patch = request.check(state.platform.clock().now()).map_err(ApiError::invalid)?;
    let job = state.read(state.platform.store().job(id)).await?.ok_or_else(ApiError::no_such_job)?;
    if let Some(payload) = &patch.payload {
        check_payload(&state, &job.kind, payload, "/payload")?;
    }
    let (platform, by) = (state.platform.clone(), principal.requester(None));
    match state.change(async move { platform.update(id, patch, by).await }).await?? {
        Changed::Done(_) | Changed::InPlace(_) | Changed::Same(_) => {
            let job = state.read(state.platform.store().job(id)).await?.ok_or_else(ApiError::no_such_job)?;
            Ok((StatusCode::OK, Json(view::shown(principal, job))))
        }
        Changed::AttemptsUsed(used) => {
            let detail = format!("the job has used {used} attempts already");
            Err(ApiError::invalid_field("/maxAttempts", detail))
        }
        Changed::Conflict(now) => Err(in_the_way(id, now, "changed")),
        Changed::DependedOn | Changed::NotFound => Err(ApiError::no_such_job()),
    }
}

/// Forgets a terminal job
///
/// With its timeline, attempts, log lines, result and idempotency key. A row of the audit log stays.
#[utoipa::path(
    delete,
    path = "/api/v1/jobs/{id}",
    tag = "jobs",
    operation_id = "forgetJob",
    params(("id" = String, Path, format = Uuid, description = "The job")),
    responses(
        (status = 204, description = "It is gone"),
        (status = 409, description = "It has not ended, or an unfinished job depends on it", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn forget(
    State(state): State<HttpState>,
    principal: Principal,
    JobPath(id): JobPath,
) -> Result<StatusCode, ApiError> {
    let (platform, by) = (state.platform.clone(), principal.requester(None));
    match state.change(async move { platform.forget(id, by).await }).await?? {
        Changed::Done(_) | Changed::InPlace(_) | Changed::Same(_) => Ok(StatusCode::NO_CONTENT),
        Changed::DependedOn => {
            let detail = "an unfinished job depends on it, and needs to know how it ended";
            Err(ApiError::conflict("depended_on", detail).with_job(id))
        }
        Changed::Conflict(now) => Err(in_the_way(id, now, "forgotten")),
        Changed::AttemptsUsed(_) | Changed::NotFound => Err(ApiError::no_such_job()),
    }
}
