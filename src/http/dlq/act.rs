//! Dead letters run again, or deleted.

use std::collections::BTreeSet;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
};
use serde::{Deserialize, Serialize};

use super::select::{self, LetterFilterRequest, SelectionRequest, is_name};
use crate::{
    actors::platform::{LetterAction, Letters},
    domain::{
        FieldError, JobId, JobView, RawJson, json,
        submit::{JSON_DEPTH_MAX, PAYLOAD_BYTES_MAX},
    },
    http::{
        access::Principal,
        extract::ApiJson,
        jobs::view,
        limits::{PAGE_BYTES_MAX, PAGE_STEP, REASON_BYTES_MAX},
        problem::ApiError,
        state::HttpState,
    },
    store::{
        dead_letters::{LetterCursor, LetterFilter},
        ops::ReplayPatch,
    },
};

const X_TOTAL_MATCHED: HeaderName = HeaderName::from_static("x-total-matched");
const X_TOTAL_REPLAYED: HeaderName = HeaderName::from_static("x-total-replayed");

/// The dead letters that are to run again, by exactly one of `jobIds` and `filter`, and what is different then.
#[derive(Debug, Clone, Default, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplayRequest {
    /// Of these jobs, at most 1,000; those that are no dead letters are left out.
    pub job_ids: Option<Vec<String>>,
    /// All that match and are there now; `{}` is all there are.
    pub filter: Option<LetterFilterRequest>,
    /// Another queue.
    pub queue: Option<String>,
    /// What the handlers get instead; checked as in a submission. `null` is as good as none.
    pub payload: Option<RawJson>,
    /// Another type.
    pub job_type: Option<String>,
    /// 0 to 9, 9 first.
    pub priority: Option<i64>,
    /// Who asks, for the audit log, beside the caller's key.
    pub actor: Option<String>,
    /// Only count and show them.
    pub dry_run: Option<bool>,
}

/// What became of a deletion.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct LettersDeleted {
    /// Dead letters that were found.
    pub matched: u64,
    /// Those that were deleted; 0 in a `dryRun`.
    pub changed: u64,
    /// What was named or found and is not deleted: unknown jobs, jobs that are no dead letters, jobs that an
    /// unfinished one depends on.
    pub skipped: u64,
}

/// Runs dead letters again
///
/// Each becomes `queued` with its attempts and worker deaths anew, and with an audit row that has its definition
/// before and after. The answer shows the newest 1,000 that were replayed (fewer when they are large); the headers
/// count all. With many, the answer may be a 503 `timed_out` while the replay goes on; asked again, it takes those
/// that are left.
#[utoipa::path(
    post,
    path = "/api/v1/dlq/replay",
    tag = "dead letters",
    operation_id = "replayDeadLetters",
    request_body(content = ReplayRequest, content_type = "application/json",
        example = json!({"filter": {"fingerprint": "9cf09aa59628b9f2"}, "priority": 7, "actor": "ada, mail server is back"})),
    responses(
        (status = 202, description = "The jobs, which run again; with `dryRun`, those that would", body = Vec<JobView>, headers(
            ("X-Total-Matched" = u64, description = "Dead letters that were found"),
            ("X-Total-Replayed" = u64, description = "Those that run again"),
        )),
    ),
)]
pub async fn replay(
    State(state): State<HttpState>,
    principal: Principal,
    ApiJson(request): ApiJson<ReplayRequest>,
) -> Result<(StatusCode, HeaderMap, Json<Vec<JobView>>), ApiError> {
    let mut faults = Vec::new();
    let which = select::letters(request.job_ids, request.filter, &mut faults);
    is_name("/queue", request.queue.as_deref(), &mut faults);
    is_name("/jobType", request.job_type.as_deref(), &mut faults);
    if request.priority.is_some_and(|priority| !(0..=9).contains(&priority)) {
        faults.push(FieldError::new("/priority", "must be between 0 and 9"));
    }
    if let Some(payload) = &request.payload {
        if payload.text().len() > PAYLOAD_BYTES_MAX {
            faults.push(FieldError::new("/payload", format!("larger than {PAYLOAD_BYTES_MAX} bytes")));
        } else if let Err(fault) = json::check(payload.text(), JSON_DEPTH_MAX) {
            faults.push(FieldError::new("/payload", fault.to_string()));
        }
    }
    let actor = checked_actor(request.actor, &mut faults);
    if !faults.is_empty() {
        return Err(ApiError::invalid(faults));
    }
    let patch = ReplayPatch {
        queue: request.queue,
        payload: request.payload,
        kind: request.job_type,
        priority: request.priority.and_then(|priority| i16::try_from(priority).ok()),
    };
    let by = principal.requester(actor);
    let within = state.clone();
    let work = async move {
        payload_fits(&within, &which, &patch).await?;
        let action =
            if request.dry_run == Some(true) { LetterAction::Rehearse } else { LetterAction::Replay(patch) };
        Ok::<_, ApiError>(within.platform.act_on_letters(&which, &action, &by).await?)
    };
    let done = state.change(work).await??;
    let mut headers = HeaderMap::new();
    headers.insert(X_TOTAL_MATCHED, HeaderValue::from(done.matched));
    headers.insert(X_TOTAL_REPLAYED, HeaderValue::from(done.changed));
    let jobs = shown(&state, principal, &done.jobs).await?;
    Ok((StatusCode::ACCEPTED, headers, Json(jobs)))
}

/// Deletes dead letters
///
/// Each job is forgotten with all that belongs to it, and with an audit row that has its definition. Jobs that an
/// unfinished one depends on stay.
#[utoipa::path(
    post,
    path = "/api/v1/dlq/delete",
    tag = "dead letters",
    operation_id = "deleteDeadLetters",
    request_body(content = SelectionRequest, content_type = "application/json",
        example = json!({"filter": {"queue": "mail", "errorType": "timeout"}})),
    responses((status = 200, description = "How many", body = LettersDeleted)),
)]
pub async fn delete(
    State(state): State<HttpState>,
    principal: Principal,
    ApiJson(request): ApiJson<SelectionRequest>,
) -> Result<Json<LettersDeleted>, ApiError> {
    let mut faults = Vec::new();
    let which = select::letters(request.job_ids, request.filter, &mut faults);
    let actor = checked_actor(request.actor, &mut faults);
    if !faults.is_empty() {
        return Err(ApiError::invalid(faults));
    }
    let named = match &which {
        Letters::Of(jobs) => Some(jobs.len() as u64),
        Letters::Matching(_) => None,
    };
    let is_dry = request.dry_run == Some(true);
    let action = if is_dry { LetterAction::Rehearse } else { LetterAction::Forget };
    let (platform, by) = (state.platform.clone(), principal.requester(actor));
    let done = state.change(async move { platform.act_on_letters(&which, &action, &by).await }).await??;
    // A rehearsal leaves all as it is, and passes over only what it could not find: as in a bulk operation.
    let settled = if is_dry { done.matched } else { done.changed };
    let skipped = named.unwrap_or(done.matched).saturating_sub(settled);
    Ok(Json(LettersDeleted { matched: done.matched, changed: done.changed, skipped }))
}

fn checked_actor(actor: Option<String>, faults: &mut Vec<FieldError>) -> Option<String> {
    if actor.as_ref().is_some_and(|text| text.len() > REASON_BYTES_MAX || text.contains('\0')) {
        faults.push(FieldError::new("/actor", format!("at most {REASON_BYTES_MAX} bytes, without NUL")));
    }
    actor
}

/// Checks a payload for every type that it would be given to, before anything is changed.
async fn payload_fits(state: &HttpState, which: &Letters, patch: &ReplayPatch) -> Result<(), ApiError> {
    let Some(payload) = &patch.payload else { return Ok(()) };
    let Ok(value) = serde_json::from_str(payload.text()) else {
        return Err(ApiError::invalid_field("/payload", "cannot be read as a JSON value"));
    };
    let named = match (&patch.kind, which) {
        (Some(kind), _) => Some(BTreeSet::from([kind.clone()])),
        (None, Letters::Of(jobs)) => {
            let keys = state.read(state.platform.store().dead_letter_keys_of(jobs)).await?;
            Some(keys.into_iter().map(|key| key.kind).collect())
        }
        (None, Letters::Matching(_)) => None,
    };
    for kind in state.checked_types {
        if named.as_ref().is_some_and(|named| !named.contains(*kind)) {
            continue;
        }
        let faults = state.check_payload.faults(kind, &value);
        if faults.is_empty() || (named.is_none() && !is_met(state, which, kind).await?) {
            continue;
        }
        let fault =
            |(pointer, detail)| FieldError::new(format!("/payload{pointer}"), format!("{detail} ({kind})"));
        return Err(ApiError::invalid(faults.into_iter().map(fault).collect()));
    }
    Ok(())
}

/// Whether a filter matches a dead letter of this type.
async fn is_met(state: &HttpState, which: &Letters, kind: &str) -> Result<bool, ApiError> {
    let Letters::Matching(filter) = which else { return Ok(false) };
    if filter.kind.as_deref().is_some_and(|asked| asked != kind) {
        return Ok(false);
    }
    let filter = LetterFilter { kind: Some(kind.to_owned()), ..filter.clone() };
    let store = state.platform.store();
    let found = state.read(store.dead_letter_keys(&filter, LetterCursor::newest(), 1)).await?;
    Ok(!found.is_empty())
}

/// The jobs as they are now, in this order, as many as fit into an answer.
async fn shown(state: &HttpState, principal: Principal, ids: &[JobId]) -> Result<Vec<JobView>, ApiError> {
    let mut jobs = Vec::new();
    let mut bytes = 0;
    for step in ids.chunks(PAGE_STEP) {
        let read = state.read(state.platform.store().jobs_by_id(step)).await?;
        let mut by_id: std::collections::HashMap<JobId, JobView> =
            read.into_iter().map(|job| (job.id, job)).collect();
        for job in step.iter().filter_map(|id| by_id.remove(id)) {
            bytes += job.payload.text().len();
            if bytes > PAGE_BYTES_MAX && !jobs.is_empty() {
                return Ok(jobs);
            }
            jobs.push(view::shown(principal, job));
        }
    }
    Ok(jobs)
}
