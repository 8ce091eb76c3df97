//! A batch as an array: one transaction, all or none.

use std::collections::HashMap;

use axum::{
    Json,
    extract::Request,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use tokio::sync::OwnedSemaphorePermit;

use super::{BatchRequest, checked, refs};
use crate::{
    actors::platform::SubmitError,
    domain::{JobId, NewJob, SubmitRequest},
    http::{
        access::Principal,
        extract::{parse, read_up_to},
        jobs::{SubmitResponse, submit::refused, view},
        limits::{BATCH_BODY_DEADLINE, BATCH_BYTES_MAX, BATCH_FAULTS_MAX, PAGE_MAX},
        problem::ApiError,
        state::HttpState,
    },
    store::ops::Submitted,
};

/// After so many checks the others on this thread get their turn.
const CHECKS_AT_ONCE: usize = 64;

pub(super) async fn submit(
    state: HttpState,
    principal: Principal,
    request: Request,
    place: OwnedSemaphorePermit,
) -> Result<Response, ApiError> {
    let headers = request.headers().clone();
    let bytes = read_up_to(request, BATCH_BYTES_MAX, BATCH_BODY_DEADLINE).await?;
    if bytes.is_empty() {
        return Err(ApiError::malformed("empty_body", "the body is empty"));
    }
    // 32 MiB take a while, and a worker of the runtime has others to serve.
    let parsed = tokio::task::spawn_blocking(move || parse::<BatchRequest>(&bytes)).await;
    let mut requests = parsed.map_err(ApiError::internal)??.jobs;
    let ids: Vec<JobId> = requests.iter().map(|_| JobId::new()).collect();
    let order = refs::resolve(&mut requests, &ids).map_err(ApiError::invalid)?;
    let dependencies: Vec<Vec<String>> =
        requests.iter().map(|request| request.dependencies.clone()).collect();
    let jobs = check(&state, requests, &ids, &headers).await?;

    let ordered: Vec<NewJob> = order.iter().map(|index| jobs[*index].clone()).collect();
    let platform = state.platform.clone();
    let made = match state.change(async move { platform.births(ordered).await }).await? {
        Ok(made) => made,
        Err(SubmitError::Refused(refusal)) => {
            let index = order.get(refusal.index()).copied().unwrap_or_default();
            let named = dependencies.get(index).map(Vec::as_slice).unwrap_or_default();
            return Err(refused(refusal, named).within(&format!("/jobs/{index}")));
        }
        Err(SubmitError::Ask(error)) => return Err(error.into()),
    };
    let mut answers: Vec<(usize, Submitted)> = order.into_iter().zip(made).collect();
    answers.sort_unstable_by_key(|(index, _)| *index);
    let response = show(&state, principal, jobs, answers).await?;
    drop(place);
    Ok((StatusCode::ACCEPTED, Json(response)).into_response())
}

/// Checks each as `POST /jobs` does.
async fn check(
    state: &HttpState,
    requests: Vec<SubmitRequest>,
    ids: &[JobId],
    headers: &HeaderMap,
) -> Result<Vec<NewJob>, ApiError> {
    let mut jobs = Vec::with_capacity(requests.len());
    let mut faults = Vec::new();
    for (index, request) in requests.into_iter().enumerate() {
        match checked(state, request, headers) {
            Ok(job) => jobs.push(NewJob { id: ids[index], ..job }),
            Err(error) => faults.extend(error.within(&format!("/jobs/{index}")).into_errors()),
        }
        if faults.len() >= BATCH_FAULTS_MAX {
            faults.truncate(BATCH_FAULTS_MAX);
            break;
        }
        if index % CHECKS_AT_ONCE == CHECKS_AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
    }
    if faults.is_empty() { Ok(jobs) } else { Err(ApiError::invalid(faults)) }
}

/// The jobs as they were made, and those that repeats are answered with.
async fn show(
    state: &HttpState,
    principal: Principal,
    jobs: Vec<NewJob>,
    answers: Vec<(usize, Submitted)>,
) -> Result<Vec<SubmitResponse>, ApiError> {
    let mut firsts: Vec<JobId> = answers
        .iter()
        .filter_map(|(_, answer)| match answer {
            Submitted::Duplicate(first) => Some(*first),
            Submitted::Made { .. } => None,
        })
        .collect();
    firsts.sort_unstable();
    firsts.dedup();
    let mut known = HashMap::with_capacity(firsts.len());
    for some in firsts.chunks(PAGE_MAX) {
        for (job, key) in state.read(state.platform.store().submitted(some)).await? {
            known.insert(job.id, (view::shown(principal, job), key));
        }
    }
    let mut response = Vec::with_capacity(jobs.len());
    for (job, (_, answer)) in jobs.into_iter().zip(answers) {
        response.push(match answer {
            Submitted::Made { entry, created_at, blocked_reason } => SubmitResponse {
                job: view::made(job, &entry, created_at, blocked_reason),
                duplicate_suppressed: false,
                idempotency: None,
            },
            Submitted::Duplicate(first) => {
                let (job, idempotency) = known.get(&first).cloned().ok_or_else(|| {
                    let detail = "the batch was made, but the first job of a key has just been removed";
                    ApiError::conflict("key_in_flight", detail).with_job(first)
                })?;
                SubmitResponse { job, duplicate_suppressed: true, idempotency }
            }
        });
    }
    Ok(response)
}
