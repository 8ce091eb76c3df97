//! Changes of many jobs: at once, or in the background.

use std::time::Duration;

use axum::{
    Json,
    extract::{FromRequestParts, RawPathParams, State},
    http::{HeaderMap, StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    access::Principal,
    extract::{ApiJson, OptionalJson, Params, reason},
    jobs::{CancelRequest, check_payload, cursor},
    limits::{BULK_IDS_MAX, FILTER_BYTES_MAX, PAGE_DEFAULT, PAGE_MAX},
    problem::{ApiError, Problem},
    state::HttpState,
};
use crate::{
    actors::{
        operations::messages::{BulkAction, Order, Selection},
        platform::bulk::BulkError,
    },
    domain::{FieldError, JobId, JobPatch, JobState, PatchRequest, Timestamp, WorkflowId, name},
    store::{
        operations::{OPERATIONS_WAITING_MAX, OperationRow, OperationState},
        read::JobFilter,
    },
};

/// When to begin another operation while too many have not ended.
const FULL_RETRY: Duration = Duration::from_secs(5);

/// One state, or several.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum States {
    /// One.
    One(JobState),
    /// Any of these.
    Any(Vec<JobState>),
}

/// Which jobs, as the parameters of `GET /api/v1/jobs`; without any, all.
#[derive(Debug, Clone, Default, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BulkFilter {
    /// One of these states.
    pub state: Option<States>,
    /// The queue.
    pub queue: Option<String>,
    /// The worker that runs it or ran it last.
    pub worker: Option<String>,
    /// The tenant.
    pub tenant_id: Option<String>,
    /// The workflow.
    pub workflow_id: Option<WorkflowId>,
    /// The type.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// A tag it has.
    pub tag: Option<String>,
    /// Made at or after.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_after: Option<Timestamp>,
    /// Made before.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_before: Option<Timestamp>,
    /// Any part of its id, type or last error, in any case.
    pub q: Option<String>,
}

/// The body of `POST /api/v1/jobs/bulk`.
#[derive(Debug, Clone, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BulkRequest {
    /// What is done to each job.
    pub action: BulkAction,
    /// The jobs that match; or `jobIds`.
    pub filter: Option<BulkFilter>,
    /// These jobs, at most 10,000.
    pub job_ids: Option<Vec<JobId>>,
    /// How they are changed, for `update`.
    pub patch: Option<PatchRequest>,
    /// Only count them.
    #[serde(default)]
    pub dry_run: bool,
    /// Do it in the background.
    #[serde(default, rename = "async")]
    pub in_background: bool,
    /// Why, for timelines and the audit log.
    pub reason: Option<String>,
}

/// What a bulk operation did.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BulkResponse {
    /// Jobs that exist and match.
    pub matched: i64,
    /// Jobs that were changed.
    pub changed: i64,
    /// Jobs that were left as they are, and ids without a job.
    pub skipped: i64,
    /// What kept the node from changing some, if not their state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// An operation that goes on in the background.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationBegun {
    /// Ask for it at `/api/v1/operations/{id}`.
    #[schema(value_type = String, format = Uuid)]
    pub operation_id: Uuid,
}

/// A bulk operation.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OperationView {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    pub id: Uuid,
    /// How far it is.
    pub state: OperationState,
    /// What is done to each job.
    pub action: String,
    /// Who asked.
    pub actor: String,
    /// Jobs that matched so far.
    pub matched: i64,
    /// Jobs that were changed.
    pub changed: i64,
    /// Jobs that were left as they are, and ids without a job.
    pub skipped: i64,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// Why it ended, or what kept it from changing some jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl From<OperationRow> for OperationView {
    fn from(row: OperationRow) -> Self {
        Self {
            id: row.id,
            state: row.state,
            action: row.action,
            actor: row.actor,
            matched: row.tally.matched,
            changed: row.tally.changed,
            skipped: row.tally.skipped,
            started_at: row.started_at,
            finished_at: row.finished_at,
            reason: row.reason,
        }
    }
}

/// The `{id}` of a path. What cannot be an id names no operation: 404, not 400.
#[derive(Debug, Clone, Copy)]
pub struct OperationPath(Uuid);

impl<S: Send + Sync> FromRequestParts<S> for OperationPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params =
            RawPathParams::from_request_parts(parts, state).await.map_err(|_| no_such_operation())?;
        let id = params.iter().find(|(name, _)| *name == "id").and_then(|(_, value)| value.parse().ok());
        id.map(Self).ok_or_else(no_such_operation)
    }
}

fn no_such_operation() -> ApiError {
    ApiError::not_found("operation_not_found", "there is no operation with this id")
}

/// Changes many jobs
///
/// Those that match and exist when it begins, each once, from the newest to the oldest. What their state does not
/// allow is left as it is. At most 10,000 while the caller waits; any number with `async`. A dry run counts what
/// matches and changes nothing.
#[utoipa::path(
    post,
    path = "/api/v1/jobs/bulk",
    tag = "jobs",
    operation_id = "bulkJobs",
    request_body(content = BulkRequest, content_type = "application/json",
        example = json!({"action": "retry", "filter": {"state": "failed", "queue": "mail"}, "dryRun": true})),
    responses(
        (status = 200, description = "Done, or counted", body = BulkResponse),
        (status = 202, description = "Goes on in the background", body = OperationBegun),
        (status = 429, description = "Too many operations have not ended", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn bulk(
    State(state): State<HttpState>,
    principal: Principal,
    ApiJson(request): ApiJson<BulkRequest>,
) -> Result<Response, ApiError> {
    let (dry_run, in_background) = (request.dry_run, request.in_background);
    if dry_run && in_background {
        return Err(ApiError::invalid_field("/async", "a dry run is answered at once"));
    }
    let order = order(&state, principal, request)?;
    let platform = state.platform.clone();
    if in_background {
        let begun = state.change(async move { platform.begin_bulk(order).await }).await?.map_err(fault)?;
        return Ok((StatusCode::ACCEPTED, Json(OperationBegun { operation_id: begun })).into_response());
    }
    let (tally, reason) = if dry_run {
        let counted = state.change(async move { platform.count_bulk(&order).await }).await?.map_err(fault)?;
        (counted, None)
    } else {
        let done = state.change(async move { platform.bulk(order).await }).await?.map_err(fault)?;
        (done.tally, done.trouble)
    };
    let (matched, changed, skipped) = (tally.matched, tally.changed, tally.skipped);
    Ok(Json(BulkResponse { matched, changed, skipped, reason }).into_response())
}

fn fault(error: BulkError) -> ApiError {
    match error {
        BulkError::TooMany(most) => {
            let detail = format!("over {most} jobs match: narrow the filter, or use `async`");
            ApiError::invalid_field("/filter", detail)
        }
        BulkError::Full => {
            let detail = format!("{OPERATIONS_WAITING_MAX} operations have not ended yet");
            ApiError::throttled("operations_full", detail, FULL_RETRY)
        }
        BulkError::Store(error) => error.into(),
        BulkError::Ask(error) => error.into(),
    }
}

/// Checks what is asked.
fn order(state: &HttpState, principal: Principal, request: BulkRequest) -> Result<Order, ApiError> {
    let patch = patch(state, &request)?;
    let selection = match (request.filter, request.job_ids) {
        (Some(filter), None) => Selection::Filter(filter.check()?),
        (None, Some(mut jobs)) if jobs.len() <= BULK_IDS_MAX => {
            jobs.sort_unstable();
            jobs.dedup();
            Selection::Jobs(jobs)
        }
        (None, Some(_)) => {
            return Err(ApiError::invalid_field("/jobIds", format!("at most {BULK_IDS_MAX} jobs")));
        }
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid_field("/jobIds", "give either filter or jobIds, not both"));
        }
        (None, None) => {
            let detail = "filter or jobIds is needed; an empty filter is all jobs";
            return Err(ApiError::invalid_field("/filter", detail));
        }
    };
    let by = principal.requester(reason(request.reason)?);
    Ok(Order { action: request.action, selection, patch, by })
}

/// The change of an `update`; a payload is checked when the filter says of what type the jobs are.
fn patch(state: &HttpState, request: &BulkRequest) -> Result<Option<JobPatch>, ApiError> {
    match (request.action, &request.patch) {
        (BulkAction::Update, Some(patch)) => {
            let within =
                |fault: FieldError| FieldError::new(format!("/patch{}", fault.pointer), fault.detail);
            let patch = patch
                .clone()
                .check(state.platform.clock().now())
                .map_err(|faults| ApiError::invalid(faults.into_iter().map(within).collect()))?;
            let kind = request.filter.as_ref().and_then(|filter| filter.kind.as_deref());
            if let (Some(kind), Some(payload)) = (kind, &patch.payload) {
                check_payload(state, kind, payload, "/patch/payload")?;
            }
            Ok(Some(patch))
        }
        (BulkAction::Update, None) => Err(ApiError::invalid_field("/patch", "is needed for update")),
        (_, Some(_)) => Err(ApiError::invalid_field("/patch", "is for update alone")),
        (_, None) => Ok(None),
    }
}

impl BulkFilter {
    fn check(self) -> Result<JobFilter, ApiError> {
        let mut faults = Vec::new();
        let mut names = |pointer: &str, value: Option<String>| {
            if value.as_ref().is_some_and(|value| !name::is_name(value)) {
                faults.push(FieldError::new(pointer, "must match [A-Za-z0-9][A-Za-z0-9._:/-]{0,127}"));
            }
            value
        };
        let (queue, tenant) = (names("/filter/queue", self.queue), names("/filter/tenantId", self.tenant_id));
        let (kind, tag) = (names("/filter/type", self.kind), names("/filter/tag", self.tag));
        let mut texts = |pointer: &str, value: Option<String>| {
            let is_bad = |text: &String| text.len() > FILTER_BYTES_MAX || text.chars().any(char::is_control);
            if value.as_ref().is_some_and(is_bad) {
                let detail = format!("at most {FILTER_BYTES_MAX} bytes, without control characters");
                faults.push(FieldError::new(pointer, detail));
            }
            value.filter(|text| !text.is_empty())
        };
        let (worker, text) = (texts("/filter/worker", self.worker), texts("/filter/q", self.q));
        if !faults.is_empty() {
            return Err(ApiError::invalid(faults));
        }
        let states = match self.state {
            Some(States::One(state)) => vec![state],
            Some(States::Any(states)) => states,
            None => Vec::new(),
        };
        Ok(JobFilter {
            states,
            queue,
            worker,
            tenant,
            workflow: self.workflow_id.map(|workflow| workflow.0),
            kind,
            tag,
            created_after: self.created_after,
            created_before: self.created_before,
            text,
        })
    }
}

/// Lists bulk operations
///
/// Those that were begun with `async`, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/operations",
    tag = "jobs",
    operation_id = "listOperations",
    params(
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 1000, description = "The most operations of the page; 100"),
        ("cursor" = Option<String>, Query, description = "Where the page begins, from `Link`"),
    ),
    responses((status = 200, description = "The page", body = Vec<OperationView>, headers(
        ("Link" = String, description = "The next page, as `<…>; rel=\"next\"`"),
    ))),
)]
pub async fn list(
    State(state): State<HttpState>,
    params: Params,
) -> Result<(HeaderMap, Json<Vec<OperationView>>), ApiError> {
    let limit = params.number("limit", 1..=PAGE_MAX, PAGE_DEFAULT)?;
    let after = cursor::uuid(&params, cursor::OPERATIONS)?;
    // One more than asked for tells whether there is a next page.
    let wanted = i64::try_from(limit + 1).unwrap_or(i64::MAX);
    let mut rows = state.read(state.platform.store().operations(after, wanted)).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let mut headers = HeaderMap::new();
    if let Some(last) = rows.last().filter(|_| more) {
        let next = cursor::of_uuid(cursor::OPERATIONS, last.id);
        headers.extend(cursor::next_page("/api/v1/operations", &params, &["limit"], &next));
    }
    Ok((headers, Json(rows.into_iter().map(OperationView::from).collect())))
}

/// Shows a bulk operation
#[utoipa::path(
    get,
    path = "/api/v1/operations/{id}",
    tag = "jobs",
    operation_id = "getOperation",
    params(("id" = String, Path, format = Uuid, description = "The operation")),
    responses((status = 200, description = "The operation", body = OperationView)),
)]
pub async fn get(
    State(state): State<HttpState>,
    OperationPath(id): OperationPath,
) -> Result<Json<OperationView>, ApiError> {
    let row = state.read(state.platform.store().operation(id)).await?.ok_or_else(no_such_operation)?;
    Ok(Json(row.into()))
}

/// Stops a bulk operation
///
/// What it has changed stays changed.
#[utoipa::path(
    post,
    path = "/api/v1/operations/{id}/abort",
    tag = "jobs",
    operation_id = "abortOperation",
    params(("id" = String, Path, format = Uuid, description = "The operation")),
    request_body(content = Option<CancelRequest>, content_type = "application/json"),
    responses(
        (status = 202, description = "It stops; what is under way is counted yet", body = OperationView),
        (status = 409, description = "It has ended", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn abort(
    State(state): State<HttpState>,
    principal: Principal,
    OperationPath(id): OperationPath,
    OptionalJson(request): OptionalJson<CancelRequest>,
) -> Result<(StatusCode, Json<OperationView>), ApiError> {
    let by = principal.requester(reason(request.reason)?);
    let platform = state.platform.clone();
    let is_stopped =
        state.change(async move { platform.abort_operation(id, by).await }).await?.map_err(fault)?;
    let row = state.read(state.platform.store().operation(id)).await?.ok_or_else(no_such_operation)?;
    if !is_stopped {
        let detail = format!("the operation is {} already", row.state.name());
        return Err(ApiError::conflict("state_conflict", detail));
    }
    Ok((StatusCode::ACCEPTED, Json(row.into())))
}
