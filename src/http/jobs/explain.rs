//! Why a job is not running, or is.

use axum::{Json, extract::State};

use crate::{
    actors::platform::Explanation,
    http::{extract::JobPath, problem::ApiError, state::HttpState},
};

/// Says why a job is not running
///
/// Or that it is, or has ended. The first reason is the one to look at first.
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{id}/explain",
    tag = "jobs",
    operation_id = "explainJob",
    params(("id" = String, Path, format = Uuid, description = "The job")),
    responses((status = 200, description = "What keeps it", body = Explanation)),
)]
pub async fn explain(
    State(state): State<HttpState>,
    JobPath(id): JobPath,
) -> Result<Json<Explanation>, ApiError> {
    let explained = state.read(state.platform.explain(id)).await?;
    explained.map(Json).ok_or_else(ApiError::no_such_job)
}
