//! Canceling all that waits.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};

use super::name::{QueuePath, existing};
use crate::{
    actors::platform::{PurgeProgress, Purged},
    http::{
        access::Principal,
        extract::{self, OptionalJson},
        problem::{ApiError, Problem},
        state::HttpState,
    },
};

/// How long a purge is waited for. It goes on behind the answer.
const PURGE_WAIT: Duration = Duration::from_secs(20);

/// The body of a purge; may be left out.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PurgeRequest {
    /// Only count what waits.
    pub dry_run: bool,
    /// Why, for the audit log.
    pub reason: Option<String>,
}

/// Cancels all that waits in a queue
///
/// Queued, scheduled, retrying, blocked and throttled jobs that were there at its start; what runs goes on. The
/// queue starts nothing meanwhile. A purge that takes over 20 s goes on behind its answer.
#[utoipa::path(
    post,
    path = "/api/v1/queues/{queue}/purge",
    tag = "queues",
    operation_id = "purgeQueue",
    params(("queue" = String, Path, description = "The queue's name; a `/` in it as `%2F`")),
    request_body(content = Option<PurgeRequest>, content_type = "application/json"),
    responses(
        (status = 200, description = "All that waited is canceled, or was counted", body = Purged),
        (status = 202, description = "So many so far; it goes on", body = Purged),
        (status = 404, description = "There is no such queue", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn purge(
    State(state): State<HttpState>,
    principal: Principal,
    queue: QueuePath,
    OptionalJson(request): OptionalJson<PurgeRequest>,
) -> Result<(StatusCode, Json<Purged>), ApiError> {
    let queue = existing(&state, queue)?;
    let by = principal.requester(extract::reason(request.reason)?);
    let progress = Arc::new(PurgeProgress::default());
    let (platform, stop, counts) = (state.platform.clone(), state.stopping().clone(), progress.clone());
    // The shutdown waits for the page at hand, no longer.
    let task = state.tasks().spawn(async move {
        let done = platform.purge(&queue, request.dry_run, by, &counts, || !stop.is_cancelled()).await;
        if let Err(error) = &done {
            tracing::warn!(queue.name = queue, %error, "a purge ended early");
        }
        done
    });
    match tokio::time::timeout(PURGE_WAIT, task).await {
        Ok(Ok(done)) => {
            done?;
            Ok((StatusCode::OK, Json(progress.so_far(true))))
        }
        Ok(Err(panicked)) => Err(ApiError::internal(panicked)),
        Err(_) => Ok((StatusCode::ACCEPTED, Json(progress.so_far(false)))),
    }
}
