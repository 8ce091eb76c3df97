//! The supervision tree: looked into, and acted on.

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};

use super::{
    access::Principal,
    extract::{ApiJson, Params, job_id},
    limits::{ACTOR_PATH_BYTES_MAX, PAGE_DEFAULT, PAGE_MAX},
    problem::{ApiError, Problem, RETRY_SOON},
    state::HttpState,
};
use crate::actors::runtime::{OperatorError, Page, SupervisionNode};

/// Deeper than any tree is: what is shown when nothing is said.
const DEPTH_MAX: u32 = 16;

/// Shows the supervision tree
///
/// Every actor of the node with its restarts, mailbox and message times. Long lists of children are paged:
/// `childCount` says how many there are, `nextChild` where to go on.
#[utoipa::path(
    get,
    path = "/api/v1/supervision",
    tag = "node",
    operation_id = "getSupervision",
    params(
        ("node" = Option<String>, Query, description = "The node, which must be this one: its id, or its run"),
        ("path" = Option<String>, Query, description = "Where to begin: names from the root, joined by `/`"),
        ("job" = Option<String>, Query, format = Uuid, description = "Begin at the lease of this job, which must be active here"),
        ("depth" = Option<u32>, Query, minimum = 0, maximum = 16, description = "How many levels of children; all"),
        ("kind" = Option<String>, Query, description = "Actors of this kind only"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 1000, description = "The most children of an actor; 100"),
        ("after" = Option<u64>, Query, description = "Go on behind this `nextChild`, for the actor asked for"),
    ),
    responses((status = 200, description = "The actor and what is below it", body = SupervisionNode)),
)]
pub async fn tree(State(state): State<HttpState>, params: Params) -> Result<Json<SupervisionNode>, ApiError> {
    if let Some(node) = params.one("node")?
        && !state.platform.is_called(node)
    {
        return Err(ApiError::not_found("node_not_found", "there is no node of this name"));
    }
    let lease = match params.one("job")? {
        Some(_) if params.one("path")?.is_some() => {
            return Err(ApiError::invalid_field("/job", "cannot be given together with path"));
        }
        Some(text) => {
            let job = job_id::parse(text).ok_or_else(|| ApiError::invalid_field("/job", "not a job id"))?;
            Some(state.platform.lease_path(job).ok_or_else(no_such_actor)?)
        }
        None => None,
    };
    let path = match &lease {
        Some(path) => Some(path.as_str()),
        None => params.one("path")?,
    };
    let depth = params.number("depth", 0..=DEPTH_MAX, DEPTH_MAX)?;
    let kind = params.text("kind")?;
    let after = match params.one("after")? {
        Some(_) => Some(params.number("after", 0..=u64::MAX, 0)?),
        None => None,
    };
    let page = Page { limit: params.number("limit", 1..=PAGE_MAX, PAGE_DEFAULT)?, after };
    let tree = state.platform.supervision(path, depth, kind.as_deref(), page);
    tree.map(Json).ok_or_else(no_such_actor)
}

/// Which actor to start again.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RestartRequest {
    /// Names from the root, joined by `/`.
    #[schema(example = "node/shards/104/default/queue")]
    pub path: String,
}

/// Starts an actor again, with all below it
///
/// Nothing durable is lost: an actor reloads what it owns. It is a row in the audit log.
#[utoipa::path(
    post,
    path = "/api/v1/supervision/restart",
    tag = "node",
    operation_id = "restartActor",
    request_body(content = RestartRequest, content_type = "application/json"),
    responses(
        (status = 202, description = "It is being started again", body = RestartRequest),
        (status = 409, description = "It is the root", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn restart(
    State(state): State<HttpState>,
    principal: Principal,
    ApiJson(request): ApiJson<RestartRequest>,
) -> Result<(StatusCode, Json<RestartRequest>), ApiError> {
    if request.path.is_empty() || request.path.len() > ACTOR_PATH_BYTES_MAX {
        let detail = format!("must have 1 to {ACTOR_PATH_BYTES_MAX} bytes");
        return Err(ApiError::invalid_field("/path", detail));
    }
    let (platform, path, by) = (state.platform.clone(), request.path.clone(), principal.requester(None));
    match state.change(async move { platform.restart_for(&path, by).await }).await? {
        Ok(()) => Ok((StatusCode::ACCEPTED, Json(request))),
        Err(OperatorError::NotFound) => Err(no_such_actor()),
        Err(error @ OperatorError::NotRunning) => {
            Err(ApiError::unavailable("actor_not_running", error.to_string(), RETRY_SOON))
        }
        Err(error @ OperatorError::Root) => Err(ApiError::conflict("actor_is_root", error.to_string())),
    }
}

fn no_such_actor() -> ApiError {
    ApiError::not_found("actor_not_found", "there is no actor at this path")
}
