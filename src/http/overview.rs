//! The counts.

use axum::{Json, extract::State};

use super::state::HttpState;
use crate::actors::platform::Overview;

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
