//! A job and what belongs to it.

use axum::{Json, extract::State, http::HeaderMap};
use serde::Serialize;

use super::{cursor, live, view};
use crate::{
    domain::{AttemptRow, JobView, TimelineRow, Timestamp},
    http::{
        access::Principal,
        extract::{JobPath, Params},
        limits::PAGE_MAX,
        problem::ApiError,
        state::HttpState,
    },
    store::read::{DeadLetter, Graph, IdempotencyRecord},
};

/// All that is known of a job.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InspectionView {
    /// The job.
    pub job: JobView,
    /// Its attempts, oldest first; the newest 1,000.
    pub attempts: Vec<AttemptRow>,
    /// Its timeline, oldest first; the newest 1,000.
    pub events: Vec<TimelineRow>,
    /// Its dependency graph.
    pub graph: Graph,
    /// The record behind its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<IdempotencyRecord>,
    /// Its dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter>,
    /// How often it was replayed from the dead letters, over its whole life.
    pub replay_count: i32,
    /// When last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_replayed_at: Option<Timestamp>,
}

/// Shows a job
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{id}",
    tag = "jobs",
    operation_id = "getJob",
    params(("id" = String, Path, format = Uuid, description = "The job")),
    responses((status = 200, description = "The job", body = JobView)),
)]
pub async fn get(
    State(state): State<HttpState>,
    principal: Principal,
    JobPath(id): JobPath,
) -> Result<Json<JobView>, ApiError> {
    let job = state.read(state.platform.store().job(id)).await?.ok_or_else(ApiError::no_such_job)?;
    let job = live::whole(&state, job).await?;
    Ok(Json(view::live(&state, principal, job)))
}

/// Shows a job's timeline
///
/// Oldest first.
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{id}/events",
    tag = "jobs",
    operation_id = "getJobEvents",
    params(
        ("id" = String, Path, format = Uuid, description = "The job"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 1000, description = "The most rows of the page; 1,000"),
        ("cursor" = Option<String>, Query, description = "Where the page begins, from `Link`"),
    ),
    responses((status = 200, description = "The timeline", body = Vec<TimelineRow>, headers(
        ("Link" = String, description = "The next page, as `<…>; rel=\"next\"`"),
    ))),
)]
pub async fn events(
    State(state): State<HttpState>,
    JobPath(id): JobPath,
    params: Params,
) -> Result<(HeaderMap, Json<Vec<TimelineRow>>), ApiError> {
    let limit = params.number("limit", 1..=PAGE_MAX, PAGE_MAX)?;
    let after = cursor::seq(&params)?.unwrap_or(0);
    // One more than asked for tells whether there is a next page.
    let wanted = i64::try_from(limit + 1).unwrap_or(i64::MAX);
    let read = state.read(state.platform.store().events(id, after, wanted)).await?;
    let mut rows = read.ok_or_else(ApiError::no_such_job)?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let mut headers = HeaderMap::new();
    if let Some(last) = rows.last().filter(|_| more) {
        let path = format!("/api/v1/jobs/{id}/events");
        headers.extend(cursor::next_page(&path, &params, &["limit"], &cursor::of_seq(last.seq)));
    }
    Ok((headers, Json(rows)))
}

/// Shows a job's attempts
///
/// Oldest first.
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{id}/attempts",
    tag = "jobs",
    operation_id = "getJobAttempts",
    params(("id" = String, Path, format = Uuid, description = "The job")),
    responses((status = 200, description = "The attempts", body = Vec<AttemptRow>)),
)]
pub async fn attempts(
    State(state): State<HttpState>,
    JobPath(id): JobPath,
) -> Result<Json<Vec<AttemptRow>>, ApiError> {
    let rows = state.read(state.platform.store().attempts(id)).await?;
    rows.map(Json).ok_or_else(ApiError::no_such_job)
}

/// Shows a job's dependency graph
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{id}/graph",
    tag = "jobs",
    operation_id = "getJobGraph",
    params(("id" = String, Path, format = Uuid, description = "The job")),
    responses((status = 200, description = "Everything connected to the job", body = Graph)),
)]
pub async fn graph(State(state): State<HttpState>, JobPath(id): JobPath) -> Result<Json<Graph>, ApiError> {
    let graph = state.read(state.platform.store().graph(id)).await?;
    graph.map(Json).ok_or_else(ApiError::no_such_job)
}

/// Shows all that is known of a job
#[utoipa::path(
    get,
    path = "/api/v1/jobs/{id}/inspection",
    tag = "jobs",
    operation_id = "inspectJob",
    params(("id" = String, Path, format = Uuid, description = "The job")),
    responses((status = 200, description = "All of it", body = InspectionView)),
)]
pub async fn inspection(
    State(state): State<HttpState>,
    principal: Principal,
    JobPath(id): JobPath,
) -> Result<Json<InspectionView>, ApiError> {
    let found = state.read(state.platform.store().inspect(id)).await?.ok_or_else(ApiError::no_such_job)?;
    Ok(Json(InspectionView {
        job: view::live(&state, principal, live::with_rows(&state, found.job, &found.events)),
        attempts: found.attempts,
        events: found.events,
        graph: found.graph,
        idempotency: found.idempotency,
        dead_letter: found.dead_letter,
        replay_count: found.replay_count,
        last_replayed_at: found.last_replayed_at,
    }))
}
