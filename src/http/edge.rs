//! The outermost layer: every response gets its request id and its security headers, a panic becomes
//! a problem, and a line is logged.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Instant};

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use tracing::Instrument;
use uuid::Uuid;

use super::problem::{ApiError, REQUEST_ID};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a browser may do with a response that says nothing else: nothing.
const SAFE_HEADERS: [(HeaderName, HeaderValue); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// Wraps every request.
pub(super) async fn edge(request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let started = Instant::now();
    let method = request.method().clone();
    // The path alone: a query may hold a ticket.
    let path = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| request.uri().path().to_owned(), |path| path.as_str().to_owned());
    // At the highest level, so that a line that is logged at all carries its request's id.
    let span = tracing::error_span!("request", id = %id);
    let mut response =
        REQUEST_ID.scope(Arc::clone(&id), served(request, next)).instrument(span.clone()).await;
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(X_REQUEST_ID, id);
    }
    for (name, value) in SAFE_HEADERS {
        headers.entry(name).or_insert(value);
    }
    let elapsed_micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    span.in_scope(|| {
        tracing::debug!(
            http.method = %method,
            http.path = path,
            http.status = response.status().as_u16(),
            elapsed_micros,
            "served a request"
        );
    });
    response
}

async fn served(request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        // The panic's own text is the hook's to log.
        Err(_) => ApiError::internal("a handler panicked").into_response(),
    }
}

/// The caller's id if it is a sane one, else a new one.
fn request_id(headers: &HeaderMap) -> Arc<str> {
    let given = headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|id| {
        (1..=128).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    });
    given.map_or_else(|| Uuid::now_v7().to_string().into(), Arc::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sane_request_id_is_echoed() {
        let id = |text: &str| {
            let value = HeaderValue::from_str(text).expect("a header");
            request_id(&HeaderMap::from_iter([(X_REQUEST_ID, value)])).to_string()
        };
        assert_eq!(id("a.B-9_"), "a.B-9_");
        assert_eq!(id(&"x".repeat(128)), "x".repeat(128));
        for bad in ["", "a b", "a;b", "<script>", &"x".repeat(129)] {
            assert_ne!(id(bad), bad);
            assert_eq!(id(bad).len(), 36);
        }
    }
}
