//! Submission.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::Serialize;

use super::view;
use crate::{
    actors::platform::{Replaced, SubmitError},
    domain::{
        FieldError, JobId, JobView, NewJob, OnConflict, RawJson, SubmitRequest, submit::is_traceparent,
    },
    http::{
        access::Principal,
        extract::ApiJson,
        problem::{ApiError, Problem},
        state::HttpState,
    },
    store::{
        ops::{SubmitRefusal, Submitted},
        read::IdempotencyRecord,
    },
};

/// When to try a queue that drains again: an operator has to resume it.
const DRAINING_RETRY: Duration = Duration::from_secs(30);
/// When to try a full queue again.
const FULL_RETRY: Duration = Duration::from_secs(5);

/// The job of a submission.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubmitResponse {
    /// The job: the new one, or the first one of its key.
    pub job: JobView,
    /// Whether the key named an earlier job, and none was made.
    pub duplicate_suppressed: bool,
    /// The record behind the key, for a repeat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<IdempotencyRecord>,
}

/// Submits a job
///
/// Answered when the job is durable. With a key, a repeat within the window is answered with the first job.
#[utoipa::path(
    post,
    path = "/api/v1/jobs",
    tag = "jobs",
    operation_id = "submitJob",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "The same as the field `idempotencyKey`"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context, handed to the worker; one that is not valid is ignored"),
    ),
    request_body(content = SubmitRequest, content_type = "application/json",
        example = json!({"type": "email.send", "queue": "mail", "payload": {"recipient": "ada@example.org"}, "priority": 7})),
    responses(
        (status = 202, description = "Made, and durable", body = SubmitResponse),
        (status = 200, description = "A repeat of its key: the first job; or the job that has its unique key", body = SubmitResponse),
        (status = 409, description = "The key names a job with another type, queue or payload, or another job has the unique key", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`queue_full`: as many jobs wait in the queue as its `maxDepth` allows", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`queue_draining`, overloaded or not ready: come back after `Retry-After`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn submit(
    State(state): State<HttpState>,
    principal: Principal,
    headers: HeaderMap,
    ApiJson(mut request): ApiJson<SubmitRequest>,
) -> Result<(StatusCode, Json<SubmitResponse>), ApiError> {
    request.idempotency_key = idempotency_key(&headers, request.idempotency_key)?;
    let dependencies = request.dependencies.clone();
    let job = checked(&state, request, &headers)?;
    let platform = state.platform.clone();
    let asked = job.clone();
    let by = principal.requester(Some("replaced by a submission with its unique key".to_owned()));
    let submitted = state.change(async move {
        match &asked.unique {
            Some(unique) if unique.on_conflict == OnConflict::Replace => {
                platform.submit_or_replace(asked, by).await
            }
            _ => platform.submit(asked).await.map(Replaced::Submitted),
        }
    });
    let submitted = submitted.await?.map(|submitted| match submitted {
        Replaced::Submitted(submitted) => submitted,
        Replaced::Payload(first) => Submitted::Duplicate(first),
    });
    match submitted {
        Ok(Submitted::Made { entry, created_at, blocked_reason }) => {
            let job = super::live::overlaid(&state, view::made(job, &entry, created_at, blocked_reason));
            let job = view::live(&state, principal, job);
            let body = SubmitResponse { job, duplicate_suppressed: false, idempotency: None };
            Ok((StatusCode::ACCEPTED, Json(body)))
        }
        Ok(Submitted::Duplicate(first)) => {
            Ok((StatusCode::OK, Json(repeat(&state, principal, first).await?)))
        }
        Err(SubmitError::Refused(refusal)) => Err(refused(refusal, &dependencies)),
        Err(SubmitError::Ask(error)) => Err(error.into()),
    }
}

/// Checks a submission, its payload included.
pub(super) fn checked(
    state: &HttpState,
    request: SubmitRequest,
    headers: &HeaderMap,
) -> Result<NewJob, ApiError> {
    let mut job = request.check(&state.defaults, state.platform.clock().now()).map_err(ApiError::invalid)?;
    check_payload(state, &job.kind, &job.payload, "/payload")?;
    let traceparent = headers.get("traceparent").and_then(|value| value.to_str().ok());
    job.options.traceparent = traceparent.filter(|value| is_traceparent(value)).map(str::to_owned);
    Ok(job)
}

/// Checks a payload of a built-in type; `pointer` is where it is in the body.
pub(in crate::http) fn check_payload(
    state: &HttpState,
    kind: &str,
    payload: &RawJson,
    pointer: &str,
) -> Result<(), ApiError> {
    if !state.checked_types.contains(&kind) {
        return Ok(());
    }
    let payload = serde_json::from_str(payload.text())
        .map_err(|_| ApiError::invalid_field(pointer, "cannot be read as a JSON value"))?;
    let faults = state.check_payload.faults(kind, &payload);
    if faults.is_empty() {
        return Ok(());
    }
    let fault = |(within, detail)| FieldError::new(format!("{pointer}{within}"), detail);
    Err(ApiError::invalid(faults.into_iter().map(fault).collect()))
}

/// The key, from the header or the field; both must agree.
fn idempotency_key(headers: &HeaderMap, field: Option<String>) -> Result<Option<String>, ApiError> {
    let mut key = field;
    for value in headers.get_all("idempotency-key") {
        let Ok(value) = value.to_str() else {
            return Err(ApiError::invalid_field(
                "/idempotencyKey",
                "must be 1 to 255 printable ASCII characters",
            ));
        };
        match &key {
            Some(key) if key != value => {
                let detail = "the header Idempotency-Key and the field name different keys";
                return Err(ApiError::invalid_field("/idempotencyKey", detail));
            }
            _ => key = Some(value.to_owned()),
        }
    }
    Ok(key)
}

/// The answer to a repeat.
async fn repeat(state: &HttpState, principal: Principal, first: JobId) -> Result<SubmitResponse, ApiError> {
    let store = state.platform.store();
    // Removed between the two: the caller may submit again.
    let found = state.read(store.inspect(first)).await?.ok_or_else(|| {
        ApiError::conflict("key_in_flight", "the first job of this key has just been removed").with_job(first)
    })?;
    Ok(SubmitResponse {
        job: view::live(state, principal, found.job),
        duplicate_suppressed: true,
        idempotency: found.idempotency,
    })
}

/// Why the store made no job, in the caller's terms. `dependencies` are those of the request, in their
/// order there.
pub(in crate::http) fn refused(refusal: SubmitRefusal, dependencies: &[String]) -> ApiError {
    match refusal {
        SubmitRefusal::UnknownDependency { dependency, .. } => {
            let place = dependencies.iter().position(|id| id.parse() == Ok(dependency));
            let pointer =
                place.map_or_else(|| "/dependencies".into(), |place| format!("/dependencies/{place}"));
            ApiError::invalid_field(pointer, format!("there is no job {dependency}"))
        }
        SubmitRefusal::KeyMismatch { job, .. } => {
            let detail = format!("the key names job {job}, which has another type, queue or payload");
            ApiError::conflict("idempotency_key_mismatch", detail).with_job(job)
        }
        SubmitRefusal::NotUnique { job, .. } => {
            let detail = format!("job {job} has the unique key");
            ApiError::conflict("not_unique", detail).with_job(job)
        }
        SubmitRefusal::Draining { queue, .. } => {
            let detail = format!("queue {queue} drains and takes no new jobs until it is resumed");
            ApiError::unavailable("queue_draining", detail, DRAINING_RETRY)
        }
        SubmitRefusal::QueueFull { queue, max_depth, .. } => {
            let detail = format!("{max_depth} jobs wait in queue {queue}, as many as its maxDepth allows");
            ApiError::throttled("queue_full", detail, FULL_RETRY)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(keys: &[&str]) -> HeaderMap {
        let name = axum::http::HeaderName::from_static("idempotency-key");
        keys.iter().map(|key| (name.clone(), key.parse().expect("a header"))).collect()
    }

    #[test]
    fn header_and_field_name_one_key() {
        let key =
            |keys: &[&str], field: Option<&str>| idempotency_key(&headers(keys), field.map(str::to_owned));
        assert_eq!(key(&[], None).expect("none"), None);
        assert_eq!(key(&["a"], None).expect("one").as_deref(), Some("a"));
        assert_eq!(key(&["a"], Some("a")).expect("one").as_deref(), Some("a"));
        assert!(key(&["a"], Some("b")).is_err());
        assert!(key(&["é"], None).is_err());
    }

    #[test]
    fn an_unknown_dependency_is_named_by_its_place_in_the_request() {
        let known = JobId::new();
        let unknown = JobId::new();
        let refusal = SubmitRefusal::UnknownDependency { index: 0, dependency: unknown };
        let error = refused(refusal, &[known.to_string(), unknown.to_string()]);
        assert!(format!("{error:?}").contains("\"/dependencies/1\""));
    }
}
