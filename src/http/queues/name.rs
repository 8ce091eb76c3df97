//! The queue that a path names.

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};

use crate::{
    actors::shard::handle::QUEUES_MAX,
    domain::name,
    http::{problem::ApiError, state::HttpState},
};

/// The `{queue}` of a path, with its escapes undone (a `/` within a name is written `%2F`). Not checked: what cannot
/// be a name is no queue.
#[derive(Debug, Clone)]
pub struct QueuePath(pub String);

impl<S: Send + Sync> FromRequestParts<S> for QueuePath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(|_| no_such_queue())?;
        let name = params.iter().find(|(name, _)| *name == "queue").map(|(_, value)| value.to_owned());
        name.map(Self).ok_or_else(no_such_queue)
    }
}

/// 404 for a queue.
pub(super) fn no_such_queue() -> ApiError {
    ApiError::not_found("queue_not_found", "there is no queue of this name")
}

/// The name of a queue that is there.
pub(super) fn existing(state: &HttpState, QueuePath(name): QueuePath) -> Result<String, ApiError> {
    if state.platform.shards().queues().get(&name).is_none() {
        return Err(no_such_queue());
    }
    Ok(name)
}

/// The name of a queue that is there or can be made.
pub(super) fn possible(state: &HttpState, QueuePath(queue): QueuePath) -> Result<String, ApiError> {
    if !name::is_name(&queue) {
        return Err(ApiError::invalid_field("/queue", "must match [A-Za-z0-9][A-Za-z0-9._:/-]{0,127}"));
    }
    let queues = state.platform.shards().queues();
    if queues.get(&queue).is_none() && queues.len() >= QUEUES_MAX {
        let detail = format!("this node runs {QUEUES_MAX} queues already");
        return Err(ApiError::conflict("too_many_queues", detail));
    }
    Ok(queue)
}
