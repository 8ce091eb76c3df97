//! `webhook.dispatch`: a signed request to a receiver, and what its answer means for the job.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::worker::{JobContext, JobError, LogLevel, OutboundRequest, OutboundResponse};

use super::Tools;

/// Methods that a webhook may use.
pub(super) const METHODS: [&str; 5] = ["POST", "PUT", "PATCH", "DELETE", "GET"];
/// A receiver cannot put a job off for longer than this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

#[derive(Deserialize)]
pub(super) struct Payload {
    url: String,
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    // Raw, so that the receiver gets the very bytes that the submitter sent.
    body: Option<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Delivery {
    status: u16,
    /// The first 64 KiB, as text.
    body: String,
    truncated: bool,
    latency_ms: u64,
    webhook_id: String,
}

pub(super) async fn run(tools: Arc<Tools>, ctx: JobContext, payload: Payload) -> Result<Delivery, JobError> {
    let method = payload.method.as_deref().unwrap_or("POST").to_ascii_uppercase();
    if !METHODS.contains(&method.as_str()) {
        return Err(JobError::invalid_payload(format!("method: {method} is not one of {METHODS:?}")));
    }
    let method = Method::from_bytes(method.as_bytes())?;
    let (body, content_type) = match payload.body {
        None => (Vec::new(), None),
        // Text is sent as it is; everything else as the JSON that it is.
        Some(raw) => match serde_json::from_str::<String>(raw.get()) {
            Ok(text) => (text.into_bytes(), Some("text/plain; charset=utf-8")),
            Err(_) => (raw.get().as_bytes().to_vec(), Some("application/json")),
        },
    };
    let mut request = OutboundRequest { url: payload.url, method, headers: HeaderMap::new(), body };
    if let Some(content_type) = content_type {
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    for (name, value) in &payload.headers {
        let added = request.add_header(name, value);
        added.map_err(|why| JobError::invalid_payload(format!("headers.{name}: {why}")))?;
    }
    deliver(&tools, &ctx, request).await
}

/// Signs `request` as this job's and sends it. The id is the job's, so that a receiver knows a repeated delivery.
pub(super) async fn deliver(
    tools: &Tools,
    ctx: &JobContext,
    mut request: OutboundRequest,
) -> Result<Delivery, JobError> {
    let webhook_id = ctx.job_id().to_string();
    let now = (tools.platform.clock)();
    for (name, value) in tools.platform.settings.webhook_signer.headers(&webhook_id, now, &request.body) {
        request.headers.insert(name, HeaderValue::try_from(value)?);
    }
    let sent = tools.platform.outbound.send(request).await;
    let response = sent.map_err(|error| error.into_job_error())?;
    let (status, took) = (response.status, response.latency.as_millis());
    let level = if status.is_success() { LogLevel::Info } else { LogLevel::Warn };
    ctx.log(level, format!("answered {} after {took} ms", status.as_u16()));
    judge(&response, now)?;
    Ok(Delivery {
        status: response.status.as_u16(),
        body: String::from_utf8_lossy(&response.body).into_owned(),
        truncated: response.truncated,
        latency_ms: u64::try_from(response.latency.as_millis()).unwrap_or(u64::MAX),
        webhook_id,
    })
}

/// What the receiver's answer means: 2xx is done; busy, slow and broken receivers are tried again; the rest,
/// redirects and 410 (the receiver is gone for good) included, never.
fn judge(response: &OutboundResponse, now: DateTime<Utc>) -> Result<(), JobError> {
    let status = response.status;
    if status.is_success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&response.body[..response.body.len().min(512)]).into_owned();
    let message = format!("the receiver answered {status}: {}", words.trim());
    let error_type = format!("http_{}", status.as_u16());
    let busy = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let again = busy
        || status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY);
    if !again {
        return Err(JobError::fatal(error_type, message));
    }
    let error = JobError::retryable(error_type, message);
    Err(match retry_after(&response.headers, now).filter(|_| busy) {
        Some(delay) => error.after(delay),
        None => error,
    })
}

/// `Retry-After`, in seconds or as a date.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let delay = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => (DateTime::parse_from_rfc2822(text).ok()?.to_utc() - now).to_std().unwrap_or_default(),
    };
    Some(delay.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms_and_bounded() {
        let now = DateTime::parse_from_rfc3339("2026-05-01T10:00:00Z").unwrap().to_utc();
        let read = |text: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            retry_after(&headers, now).map(|delay| delay.as_secs())
        };
        assert_eq!(read("120"), Some(120));
        assert_eq!(read("Fri, 01 May 2026 10:00:30 GMT"), Some(30));
        assert_eq!(read("Fri, 01 May 2026 09:00:00 GMT"), Some(0));
        assert_eq!(read("999999999"), Some(RETRY_AFTER_MAX.as_secs()));
        assert_eq!(read("soon"), None);
    }
}
