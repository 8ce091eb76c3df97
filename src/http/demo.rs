//! The demo workflow: real work on a real image.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};

use super::{extract::OptionalJson, jobs::refused, problem::ApiError, state::HttpState};
use crate::{actors::platform::SubmitError, domain::name::is_name, store::read::Graph};

/// The body of the demo; may be left out.
#[derive(Debug, Default, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DemoRequest {
    /// Whose jobs they are; `default`.
    pub tenant_id: Option<String>,
    /// The image: `file://` under the inbox, `data:`, or `http(s)://`; one of the node's own by default.
    pub source: Option<String>,
}

/// Seeds the demo workflow
///
/// `file.ingest` → 3 × `image.thumbnail` → `metadata.aggregate` → `user.notify`, all or none of them.
#[utoipa::path(
    post,
    path = "/api/v1/workflows/demo/thumbnail",
    tag = "workflows",
    operation_id = "seedDemo",
    request_body(content = Option<DemoRequest>, content_type = "application/json"),
    responses((status = 202, description = "Its dependency graph", body = Graph)),
)]
pub async fn thumbnail(
    State(state): State<HttpState>,
    OptionalJson(request): OptionalJson<DemoRequest>,
) -> Result<(StatusCode, Json<Graph>), ApiError> {
    let tenant = request.tenant_id.as_deref().unwrap_or("default");
    if !is_name(tenant) {
        return Err(ApiError::invalid_field("/tenantId", "must match [A-Za-z0-9][A-Za-z0-9._:/-]{0,127}"));
    }
    let jobs = state.demo.jobs(tenant, request.source.as_deref()).map_err(ApiError::invalid)?;
    let root = jobs.first().map(|job| job.id).ok_or_else(|| ApiError::internal("the demo has no jobs"))?;
    let platform = state.platform.clone();
    match state.change(async move { platform.births(jobs).await }).await? {
        Ok(_) => {
            let graph = state.read(state.platform.store().graph(root)).await?;
            let graph = graph.ok_or_else(|| ApiError::internal("the demo's jobs are gone"))?;
            Ok((StatusCode::ACCEPTED, Json(graph)))
        }
        Err(SubmitError::Refused(refusal)) => Err(refused(refusal, &[])),
        Err(SubmitError::Ask(error)) => Err(error.into()),
    }
}
