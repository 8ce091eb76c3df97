//! Many jobs at once: an array, all or nothing, or lines without end, each for itself.

mod array;
mod lines;
mod refs;
mod stream;

use std::{fmt, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, SeqAccess, Visitor},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use stream::{BatchLine, BatchLineJob};

use super::SubmitResponse;
use crate::{
    domain::{NewJob, OnConflict, SubmitRequest},
    http::{
        access::Principal,
        extract::media_type,
        limits::BATCH_JOBS_MAX,
        problem::{ApiError, Problem, RETRY_SOON},
        state::HttpState,
    },
};

/// The body of `POST /api/v1/jobs/batch`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BatchRequest {
    /// The jobs, at most 10,000. Besides ids, their `dependencies` may name one another by place: `"#0"` is the
    /// first.
    #[serde(deserialize_with = "at_most")]
    #[schema(max_items = 10_000)]
    pub jobs: Vec<SubmitRequest>,
}

/// Stops at the bound: a body of 32 MiB could hold millions of the smallest jobs.
fn at_most<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<SubmitRequest>, D::Error> {
    struct Jobs;
    impl<'de> Visitor<'de> for Jobs {
        type Value = Vec<SubmitRequest>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array of jobs")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut jobs = Vec::new();
            while jobs.len() < BATCH_JOBS_MAX {
                match seq.next_element()? {
                    Some(job) => jobs.push(job),
                    None => return Ok(jobs),
                }
            }
            match seq.next_element::<serde::de::IgnoredAny>()? {
                None => Ok(jobs),
                Some(_) => Err(A::Error::custom(format!("at most {BATCH_JOBS_MAX} jobs"))),
            }
        }
    }
    from.deserialize_seq(Jobs)
}

/// Submits many jobs
///
/// As JSON: up to 10,000 jobs in one transaction, all or none; the answer has one element for each, in their order.
/// A fault is named by its place, such as `/jobs/17/payload/recipient`.
///
/// As `application/x-ndjson`: one job a line, any number of lines, written as they come; the answer is one line for
/// each (an array, with `Accept: application/json`), sent when its job is durable. A line that is refused is
/// answered with its problem and does not keep the others from being made. A line must arrive within 30 seconds.
#[utoipa::path(
    post,
    path = "/api/v1/jobs/batch",
    tag = "jobs",
    operation_id = "submitJobs",
    params(
        ("traceparent" = Option<String>, Header, description = "W3C trace context, handed to the workers; one that is not valid is ignored"),
        ("Accept" = Option<String>, Header, description = "`application/json` to have lines answered as an array"),
    ),
    request_body(content(
        (BatchRequest = "application/json", example = json!({"jobs": [{"type": "file.ingest", "payload": {"fileId": "f1", "source": "data:,hello"}}, {"type": "metadata.aggregate", "payload": {"fileId": "f1"}, "dependencies": ["#0"]}]})),
        (String = "application/x-ndjson", example = json!("{\"type\":\"noop\"}\n{\"type\":\"noop\",\"dependencies\":[\"#0\"]}\n")),
    )),
    responses(
        (status = 202, description = "Made, and durable; or a line for each line", content(
            (Vec<SubmitResponse> = "application/json"),
            (BatchLine = "application/x-ndjson"),
        )),
        (status = 409, description = "A key names a job with another type, queue or payload, or another job has a unique key; none was made", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is larger than 32 MiB", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is neither `application/json` nor `application/x-ndjson`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "A queue is as full as its settings allow; none was made", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn batch(
    State(state): State<HttpState>,
    principal: Principal,
    request: Request,
) -> Result<Response, ApiError> {
    let media = media_type(request.headers());
    if request.headers().contains_key("idempotency-key") {
        let detail =
            "each job of a batch has an idempotencyKey of its own; the header would name one for all";
        return Err(ApiError::invalid_field("", detail));
    }
    match media.as_deref() {
        Some("application/json") => {
            let place = place(&state.places.batches)?;
            array::submit(state, principal, request, place).await
        }
        Some("application/x-ndjson" | "application/ndjson" | "application/jsonl") => {
            let place = place(&state.places.line_batches)?;
            stream::submit(state, request, place).await
        }
        _ => Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "the body must be `Content-Type: application/json` or `application/x-ndjson`",
        )),
    }
}

fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ApiError> {
    let place = Arc::clone(places).try_acquire_owned();
    place.map_err(|_| ApiError::unavailable("overloaded", "too many batches at once", RETRY_SOON))
}

/// Checks a job of a batch as if it came alone, but for what only one alone may ask.
fn checked(state: &HttpState, request: SubmitRequest, headers: &HeaderMap) -> Result<NewJob, ApiError> {
    let job = super::submit::checked(state, request, headers)?;
    if job.unique.as_ref().is_some_and(|unique| unique.on_conflict == OnConflict::Replace) {
        let detail = "in a batch `existing` and `reject` alone: `replace` changes a job that is there";
        return Err(ApiError::invalid_field("/unique/onConflict", detail));
    }
    Ok(job)
}

/// Whether lines are to be answered as an array.
fn wants_array(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(axum::http::header::ACCEPT);
    let texts: Vec<&str> = accepted.iter().filter_map(|value| value.to_str().ok()).collect();
    let named = |what: &str| texts.iter().any(|text| text.to_lowercase().contains(what));
    named("application/json") && !named("ndjson") && !named("jsonl")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::extract::parse;

    #[test]
    fn a_batch_has_at_most_ten_thousand_jobs() {
        let body = |n: usize| format!(r#"{{"jobs":[{}]}}"#, vec![r#"{"type":"t"}"#; n].join(","));
        let read = |n: usize| parse::<BatchRequest>(body(n).as_bytes()).map(|batch| batch.jobs.len());
        assert_eq!(read(0).expect("none"), 0);
        assert_eq!(read(BATCH_JOBS_MAX).expect("as many as may be"), BATCH_JOBS_MAX);
        for n in [BATCH_JOBS_MAX + 1, 3 * BATCH_JOBS_MAX] {
            let error = read(n).expect_err("too many");
            assert_eq!(error.status(), 422);
            assert_eq!(error.errors()[0].pointer, "/jobs");
        }
    }

    #[test]
    fn faults_are_named_by_their_place() {
        for (body, pointer) in [
            (r#"{"jobs":[{"type":"t"},{"type":7}]}"#, "/jobs/1/type"),
            (r#"{"jobs":[{"type":"t"},{}]}"#, "/jobs/1/type"),
            (r#"{"jobs":[{"type":"t","tags":[1]}]}"#, "/jobs/0/tags/0"),
            (r#"{"jobs":[null]}"#, "/jobs/0"),
            (r#"{"jobs":{}}"#, "/jobs"),
            (r#"{"jobs":[],"jobs":[]}"#, "/jobs"),
            ("{}", "/jobs"),
        ] {
            let error = parse::<BatchRequest>(body.as_bytes()).expect_err(body);
            assert_eq!(
                (error.status().as_u16(), error.errors()[0].pointer.as_str()),
                (422, pointer),
                "{body}"
            );
        }
    }

    #[test]
    fn an_array_is_for_those_who_ask_for_json_alone() {
        let wants = |text: &str| {
            let value = text.parse().expect("a header");
            wants_array(&HeaderMap::from_iter([(axum::http::header::ACCEPT, value)]))
        };
        assert!(wants("application/json") && wants("Application/JSON, */*"));
        assert!(!wants("*/*") && !wants("application/x-ndjson, application/json") && !wants("text/plain"));
        assert!(!wants_array(&HeaderMap::new()));
    }
}
