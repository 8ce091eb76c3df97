//! What orchestrators and monitors ask.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{
    extract::Params,
    problem::{ApiError, Problem},
    state::HttpState,
};
use crate::actors::platform::PartReadiness;

/// How the node is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Health {
    /// `ok`, or `ready`.
    pub status: &'static str,
    /// The parts, for `?verbose`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartReadiness>,
}

/// Says that the process lives
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "node",
    operation_id = "healthz",
    responses((status = 200, description = "It lives", body = Health)),
)]
pub async fn healthz() -> Json<Health> {
    Json(Health { status: "ok", parts: Vec::new() })
}

/// Says whether the node can serve
///
/// A queue that is set aside does not make the node unready: its own requests are refused.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "node",
    operation_id = "readyz",
    params(("verbose" = Option<String>, Query, description = "Whether to list all parts, queues that are set aside too")),
    responses(
        (status = 200, description = "It is ready", body = Health),
        (status = 503, description = "It is not; `parts` says which part", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn readyz(State(state): State<HttpState>, params: Params) -> Result<Json<Health>, ApiError> {
    let parts = state.platform.readiness();
    let verbose = params.names().any(|name| name == "verbose");
    // A queue or actor that is set aside is shown, and does not take the whole node with it.
    let whole = |part: &&PartReadiness| !part.part.starts_with("queue:") && !part.part.starts_with("actor:");
    let missing: Vec<_> = parts.iter().filter(|part| !part.ready).filter(whole).cloned().collect();
    if missing.is_empty() {
        return Ok(Json(Health { status: "ready", parts: if verbose { parts } else { Vec::new() } }));
    }
    let names = missing.iter().map(|part| part.part.as_str()).collect::<Vec<_>>().join(", ");
    let error = ApiError::unavailable("not_ready", format!("not ready: {names}"), Duration::from_secs(1));
    Err(error.with_parts(if verbose { parts } else { missing }))
}

/// Shows the metrics
///
/// In Prometheus' text format. Open to this machine; others need a key.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "node",
    operation_id = "metrics",
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain")),
)]
pub async fn metrics() -> Response {
    let text = crate::metrics::render();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
