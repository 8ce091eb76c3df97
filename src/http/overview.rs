//! The counts, and the console's snapshot.

use axum::{Json, extract::State};

use super::{
    extract::Params,
    problem::{ApiError, Problem},
    state::HttpState,
};
use crate::actors::platform::{BUCKET_SECONDS_DEFAULT, Dashboard, Overview};

/// Shows the counts
///
/// From the owners' memory: no table is read.
#[utoipa::path(
    get,
    path = "/api/v1/overview",
    tag = "node",
    operation_id = "getOverview",
    responses((status = 200, description = "The counts", body = Overview)),
)]
pub async fn overview(State(state): State<HttpState>) -> Json<Overview> {
    Json(state.platform.overview())
}

/// Shows what a console shows first
///
/// Counts, the last hour and the workers from memory; the newest dead letters, blocked and throttled jobs from
/// the store, read at most once a second for all readers together.
#[utoipa::path(
    get,
    path = "/api/v1/dashboard",
    tag = "node",
    operation_id = "getDashboard",
    params(
        ("bucketSeconds" = Option<u16>, Query, minimum = 5, maximum = 3600, description = "The width of the trend's buckets, rounded up to a multiple of 5; 300"),
    ),
    responses(
        (status = 200, description = "The snapshot", body = Dashboard),
        (status = 422, description = "No such width", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn dashboard(State(state): State<HttpState>, params: Params) -> Result<Json<Dashboard>, ApiError> {
    let width = params.number("bucketSeconds", 5..=3_600, BUCKET_SECONDS_DEFAULT)?;
    Ok(Json(state.platform.dashboard(width).await))
}
