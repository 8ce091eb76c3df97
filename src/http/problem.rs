//! The one shape of an error: `application/problem+json` (RFC 9457).
//!
//! `type` is `urn:ganger:problem:{code}` and `code` is stable: programs decide by it. A text of the
//! store or of a panic never gets out; it is logged once, with the request's id.

use std::{sync::Arc, time::Duration};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{
    actors::platform::{AskError, PartReadiness},
    domain::{FieldError, JobId},
    store::StoreError,
};

/// The media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

tokio::task_local! {
    /// The id of the request that is being answered.
    pub(super) static REQUEST_ID: Arc<str>;
}

/// An error, as it is sent.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// `urn:ganger:problem:{code}`.
    #[serde(rename = "type")]
    #[schema(example = "urn:ganger:problem:validation_failed")]
    pub kind: String,
    /// What the status means.
    pub title: &'static str,
    /// The status of the response.
    pub status: u16,
    /// What programs decide by.
    pub code: &'static str,
    /// What happened, for people.
    pub detail: String,
    /// The fields at fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// The job that is in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// The parts of the node that are not ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartReadiness>,
    /// The id of the request, as in `X-Request-Id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// Why a request was not served. Boxed, so that results stay small.
#[derive(Debug)]
pub struct ApiError(Box<Fault>);

#[derive(Debug)]
struct Fault {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    job: Option<JobId>,
    parts: Vec<PartReadiness>,
    retry_after: Option<Duration>,
}

impl ApiError {
    /// A problem with this status and code.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self(Box::new(Fault {
            status,
            code,
            detail: detail.into(),
            errors: Vec::new(),
            job: None,
            parts: Vec::new(),
            retry_after: None,
        }))
    }

    /// 400: cannot be understood.
    pub fn malformed(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 401: no credentials, or wrong ones; which of the two is not said.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "a valid key is needed: `Authorization: Bearer KEY`, or `X-Admin-Token: KEY`",
        )
    }

    /// 403: known, without the right.
    pub fn forbidden(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }

    /// 404: nothing there.
    pub fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// 404 for a job; another tenant's looks the same.
    #[must_use]
    pub fn no_such_job() -> Self {
        Self::not_found("job_not_found", "there is no job with this id")
    }

    /// 409: the state is in the way.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 422: understood, and not valid.
    #[must_use]
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] if only.pointer.is_empty() => only.detail.clone(),
            [only] => format!("{}: {}", only.pointer, only.detail),
            _ => format!("{} fields are not valid", errors.len()),
        };
        let mut error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", detail);
        error.0.errors = errors;
        error
    }

    /// 422 for one field.
    pub fn invalid_field(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::new(pointer, detail)])
    }

    /// 429: a limit is reached; later.
    pub fn throttled(code: &'static str, detail: impl Into<String>, retry_after: Duration) -> Self {
        let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail);
        error.0.retry_after = Some(retry_after);
        error
    }

    /// 503: later.
    pub fn unavailable(code: &'static str, detail: impl Into<String>, retry_after: Duration) -> Self {
        let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        error.0.retry_after = Some(retry_after);
        error
    }

    /// 500: a fault of ours. `cause` goes to the log and nowhere else.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        let request = request_id().unwrap_or_default();
        tracing::error!(request.id = request, %cause, "failed to serve a request");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "the node failed to serve this; its log names the cause under the request's id",
        )
    }

    /// Names the job that is in the way.
    #[must_use]
    pub fn with_job(mut self, job: JobId) -> Self {
        self.0.job = Some(job);
        self
    }

    /// Names the parts that are not ready.
    #[must_use]
    pub fn with_parts(mut self, parts: Vec<PartReadiness>) -> Self {
        self.0.parts = parts;
        self
    }

    /// The same, of a part of the body: its fields are below `pointer`, which is named in any case.
    #[must_use]
    pub fn within(mut self, pointer: &str) -> Self {
        let fault = &mut *self.0;
        for error in &mut fault.errors {
            error.pointer.insert_str(0, pointer);
        }
        if fault.errors.is_empty() {
            fault.errors.push(FieldError::new(pointer, fault.detail.clone()));
        }
        fault.detail =
            format!("{pointer}{}{}", if fault.detail.starts_with('/') { "" } else { ": " }, fault.detail);
        self
    }

    /// The fields at fault.
    #[must_use]
    pub fn errors(&self) -> &[FieldError] {
        &self.0.errors
    }

    /// The fields at fault, alone.
    #[must_use]
    pub fn into_errors(self) -> Vec<FieldError> {
        self.0.errors
    }

    /// As it is sent in a body.
    #[must_use]
    pub fn into_problem(self) -> Problem {
        let Fault { status, code, detail, errors, job, parts, retry_after: _ } = *self.0;
        Problem {
            kind: format!("urn:ganger:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code,
            detail,
            errors,
            job_id: job,
            parts,
            request_id: request_id(),
        }
    }

    /// The status it will have.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }
}

fn request_id() -> Option<String> {
    REQUEST_ID.try_with(|id| id.to_string()).ok()
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, retry_after) = (self.0.status, self.0.retry_after);
        let problem = self.into_problem();
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = retry_after {
            // Whole seconds, rounded up: a caller that comes back early is only refused again.
            let seconds = u32::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX).max(1);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE) {
            // What is left of the body is not read.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// When to come back to a store or an actor that did not answer.
pub const RETRY_SOON: Duration = Duration::from_secs(1);

impl From<AskError> for ApiError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Overloaded { retry_after } => {
                Self::unavailable("overloaded", "the node has too much to do", retry_after)
            }
            AskError::Unavailable { reason, retry_after } => {
                tracing::warn!(reason, "a part of the node is not ready");
                Self::unavailable("unavailable", "a part of the node is not ready", retry_after)
            }
            AskError::Quarantined { queue, reason } => {
                tracing::warn!(queue.name = queue, reason, "a quarantined queue was asked");
                let detail = format!("queue {queue} is set aside until it can be loaded");
                Self::unavailable("queue_quarantined", detail, Duration::from_secs(5))
            }
            AskError::Refused(cause) => Self::internal(cause),
            AskError::TimedOut => Self::unavailable(
                "timed_out",
                "no answer in time; the change may have happened, so repeat a submission with its key",
                RETRY_SOON,
            ),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        if error.is_transient() {
            tracing::warn!(%error, "failed to read from the store");
            Self::unavailable("store_unavailable", "the store is out of reach", RETRY_SOON)
        } else {
            Self::internal(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_s_text_never_gets_out() {
        for error in [
            StoreError::Unavailable("relation secret".into()),
            StoreError::Conflict("relation secret".into()),
            StoreError::Refused("relation secret".into()),
        ] {
            let error = ApiError::from(error);
            assert!(!error.0.detail.contains("secret"), "{error:?}");
        }
        let refused = ApiError::from(AskError::Refused("relation secret".into()));
        assert!(!refused.0.detail.contains("secret"));
    }

    #[test]
    fn a_wait_is_rounded_up_to_whole_seconds() {
        let after = |wait| {
            let response = ApiError::unavailable("x", "y", wait).into_response();
            response.headers()[header::RETRY_AFTER].to_str().map(str::to_owned).expect("is text")
        };
        assert_eq!(after(Duration::ZERO), "1");
        assert_eq!(after(Duration::from_millis(1_001)), "2");
    }
}
