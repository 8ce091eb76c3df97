//! Waiting for a job's end.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use tokio::time::{Instant, timeout_at};

use super::view;
use crate::{
    actors::console::{StreamItem, Subscription, Topics},
    domain::{JobId, JobView},
    http::{
        access::Principal,
        extract::{JobPath, Params},
        limits::{WAIT_SECONDS_DEFAULT, WAIT_SECONDS_MAX},
        problem::ApiError,
        state::HttpState,
    },
};

/// The first look behind the events' back, in case one was lost; each later one waits twice as long.
const SWEEP_FIRST: Duration = Duration::from_secs(1);
/// The longest time between two looks: many may wait at once, and events rarely are lost.
const SWEEP_MAX: Duration = Duration::from_secs(8);

/// Waits for a job's end
///
/// Answered when the job is `completed`, `failed` or `canceled`, or when the time is over.
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{id}/wait",
    tag = "jobs",
    operation_id = "waitForJob",
    params(
        ("id" = String, Path, format = Uuid, description = "The job"),
        ("timeoutSeconds" = Option<f64>, Query, minimum = 0, maximum = 60, description = "How long to wait; 30"),
    ),
    responses(
        (status = 200, description = "It has ended", body = JobView),
        (status = 202, description = "It has not ended yet", body = JobView),
    ),
)]
pub async fn wait(
    State(state): State<HttpState>,
    principal: Principal,
    JobPath(id): JobPath,
    params: Params,
) -> Result<(StatusCode, Json<JobView>), ApiError> {
    let seconds = params.number("timeoutSeconds", 0.0..=WAIT_SECONDS_MAX, WAIT_SECONDS_DEFAULT)?;
    let deadline = Instant::now() + Duration::from_secs_f64(seconds);
    let topics = Topics::parse(&format!("job:{id}")).map_err(ApiError::internal)?;
    // Before the first look, so that an end between the two is not missed.
    let mut events = state.platform.hub().subscribe(topics, None);
    let mut sweep = SWEEP_FIRST;
    loop {
        let job = look(&state, id).await?;
        let ended = job.state.is_terminal();
        if ended || Instant::now() >= deadline || state.stopping().is_cancelled() {
            let status = if ended { StatusCode::OK } else { StatusCode::ACCEPTED };
            let job = super::live::whole(&state, job).await?;
            return Ok((status, Json(view::live(&state, principal, job))));
        }
        let until = deadline.min(Instant::now() + sweep);
        sweep = (sweep * 2).min(SWEEP_MAX);
        tokio::select! {
            _ = timeout_at(until, ended_event(&mut events)) => (),
            () = state.stopping().cancelled() => (),
        }
    }
}

async fn look(state: &HttpState, id: JobId) -> Result<JobView, ApiError> {
    state.read(state.platform.store().job(id)).await?.ok_or_else(ApiError::no_such_job)
}

/// Returns at an event that may be the job's end. A hub that has closed tells nothing more: the sweeps
/// have to do.
async fn ended_event(events: &mut Subscription) {
    loop {
        match events.next().await {
            StreamItem::Event(event) if event.state.is_some_and(|state| state.is_terminal()) => return,
            StreamItem::Reset { .. } => return,
            StreamItem::Event(_) | StreamItem::Heartbeat { .. } => (),
            StreamItem::Closed => std::future::pending().await,
        }
    }
}
