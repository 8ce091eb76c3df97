//! What a page of another site may do: nothing, but for the one dashboard origin.
//!
//! Before any route: secrets in URLs are refused, foreign origins are kept from streams and unsafe
//! methods, and the dashboard's pages are told that they may read the answers.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::AuthConfig;
use crate::http::{extract::Params, problem::ApiError, state::HttpState};

/// Names under which callers put a long-lived key into a URL, where it ends up in logs and histories.
const SECRET_PARAMS: [&str; 7] =
    ["token", "key", "access_token", "api_key", "apikey", "admin_token", "authorization"];

/// Turns away what must not reach any route.
pub async fn frontier(State(state): State<HttpState>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let dashboard = origin.as_ref().is_some_and(|origin| is_dashboard(&state.auth, origin));
    let mut response = match check(&state.auth, &request, dashboard) {
        Err(error) => error.into_response(),
        Ok(()) if is_preflight(&request) && dashboard => preflight(),
        Ok(()) => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin.filter(|_| dashboard) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static("Link, Retry-After, X-Request-Id, X-Search-Scope"),
        );
    }
    response
}

fn check(auth: &AuthConfig, request: &Request, dashboard: bool) -> Result<(), ApiError> {
    let headers = request.headers();
    if auth.development && !names_loopback(headers) {
        return Err(ApiError::forbidden(
            "host_not_allowed",
            "with the development key a node answers to localhost alone; set ADMIN_TOKEN to use other names",
        ));
    }
    let secret = Params::parse(request.uri().query().unwrap_or_default()).is_some_and(|params| {
        params.names().any(|name| SECRET_PARAMS.iter().any(|secret| name.eq_ignore_ascii_case(secret)))
    });
    if secret {
        return Err(ApiError::malformed(
            "secret_in_url",
            "keys are never taken from a URL: send `Authorization: Bearer KEY`, or use a ticket for a stream",
        ));
    }
    if let Some(origin) = headers.get(header::ORIGIN)
        && (is_unsafe(request.method()) || is_stream(request.uri().path()) || is_preflight(request))
        && !dashboard
        && !is_own(headers, origin)
    {
        return Err(ApiError::forbidden("foreign_origin", "pages of this origin may not use this node"));
    }
    Ok(())
}

fn is_unsafe(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn is_stream(path: &str) -> bool {
    path.starts_with("/ws/") || path.starts_with("/sse/")
}

fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, HEAD, POST, PUT, PATCH, DELETE"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Traceparent, X-Admin-Token, X-Request-Id",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

fn is_dashboard(auth: &AuthConfig, origin: &HeaderValue) -> bool {
    let allowed = auth.dashboard_origin.as_deref().map(|allowed| allowed.trim_end_matches('/'));
    allowed.zip(origin.to_str().ok()).is_some_and(|(allowed, origin)| allowed.eq_ignore_ascii_case(origin))
}

/// Whether the page comes from this node: its origin has the host and port that the request names.
fn is_own(headers: &HeaderMap, origin: &HeaderValue) -> bool {
    let own = || {
        let (scheme, authority) = origin.to_str().ok()?.split_once("://")?;
        let default_port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let origin: Authority = authority.parse().ok()?;
        let host = host(headers)?;
        // Behind a proxy that ends TLS the node does not see the scheme, so the port alone decides.
        Some(
            origin.host().eq_ignore_ascii_case(host.host())
                && origin.port_u16().unwrap_or(default_port) == host.port_u16().unwrap_or(default_port),
        )
    };
    own().unwrap_or(false)
}

fn host(headers: &HeaderMap) -> Option<Authority> {
    headers.get(header::HOST)?.to_str().ok()?.parse().ok()
}

/// Whether the request is addressed to this machine by a loopback name; HTTP/1.0 names none.
fn names_loopback(headers: &HeaderMap) -> bool {
    if !headers.contains_key(header::HOST) {
        return true;
    }
    host(headers).is_some_and(|host| {
        let name = host.host().trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(host: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::HOST, host.parse().expect("a header"))])
    }

    #[test]
    fn an_origin_is_own_when_host_and_port_agree() {
        let own = |host: &str, origin: &str| is_own(&headers(host), &origin.parse().expect("a header"));
        assert!(own("node:8080", "http://node:8080"));
        assert!(
            own("Node", "https://node") && own("node:443", "https://node") && own("[::1]:80", "http://[::1]")
        );
        for (host, origin) in [
            ("node:8080", "http://node"),
            ("node:8080", "http://node:8081"),
            ("node", "http://evil"),
            ("node", "http://node.evil"),
            ("node", "null"),
            ("node", "file://node"),
            ("node", "http://evil@node.example"),
            ("node", ""),
        ] {
            assert!(!own(host, origin), "{host} {origin}");
        }
    }

    #[test]
    fn loopback_has_few_names() {
        for good in
            ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080", "127.8.9.1", "[::ffff:127.0.0.1]"]
        {
            assert!(names_loopback(&headers(good)), "{good}");
        }
        for bad in ["evil.example", "localhost.evil.example", "10.0.0.1", "127.0.0.1.nip.io", "0.0.0.0"] {
            assert!(!names_loopback(&headers(bad)), "{bad}");
        }
        assert!(names_loopback(&HeaderMap::new()));
    }
}
