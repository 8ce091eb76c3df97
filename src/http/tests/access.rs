//! Credentials, origins, and what every answer carries.

use std::net::SocketAddr;

use axum::extract::ConnectInfo;

use crate::http::{
    HttpLimits,
    access::{Needs, RULES},
    testing::{KEY, Stage, request},
};

fn concrete(path: &str) -> String {
    path.replace("{id}", "01890000-0000-7000-8000-000000000000").replace("{file}", "start.js")
}

#[tokio::test]
async fn every_route_but_the_open_ones_asks_for_a_key() {
    let stage = Stage::new();
    for rule in RULES {
        for headers in [
            &[][..],
            &[("authorization", "Bearer wrong")],
            &[("authorization", "Basic dGVzdA==")],
            &[("authorization", "Bearer")],
            &[("x-admin-token", "wrong")],
            &[("x-admin-token", "")],
            &[("x-admin-token", KEY), ("authorization", "Bearer wrong")],
        ] {
            let answer = stage.send(request(rule.method, &concrete(rule.path), headers, "")).await;
            let open = rule.needs == Needs::Nothing;
            assert_eq!(answer.status != 401, open, "{} {} {headers:?}", rule.method, rule.path);
            if !open {
                assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
                assert_eq!(answer.code(), "unauthorized");
            }
        }
        for headers in [[("authorization", "bearer test-admin-key")], [("x-admin-token", KEY)]] {
            let (status, _) = stage.status(request(rule.method, &concrete(rule.path), &headers, "")).await;
            assert!(!matches!(status, 401 | 403), "{} {}", rule.method, rule.path);
        }
    }
}

#[tokio::test]
async fn a_key_in_a_url_is_refused_on_every_route() {
    let stage = Stage::new();
    for name in ["token", "key", "access_token", "api_key", "Token", "%74oken"] {
        for path in ["/api/v1/jobs", "/ws/events", "/sse/events", "/healthz", "/nowhere"] {
            let answer = stage.get(&format!("{path}?{name}={KEY}")).await;
            assert_eq!((answer.status, answer.code().as_str()), (400, "secret_in_url"), "{path} {name}");
            assert!(!answer.text.contains(KEY));
        }
    }
}

#[tokio::test]
async fn foreign_pages_reach_no_stream_and_no_unsafe_method() {
    let stage = Stage::with(HttpLimits::default(), Some("https://console.example"), false);
    let cases = [
        ("https://evil.example", 403),
        ("null", 403),
        ("https://console.example.evil", 403),
        ("http://console.example", 403),
        ("http://node:8080", 201),
        ("https://console.example", 201),
    ];
    for (origin, status) in cases {
        let headers = [("origin", origin), ("host", "node:8080")];
        let answer = stage.ask("POST", "/api/v1/tickets", &headers, b"").await;
        assert_eq!(answer.status, status, "{origin}");
        assert!(answer.headers.get_all("vary").iter().any(|value| value == "Origin"));
        let shared = origin == "https://console.example";
        assert_eq!(answer.header("access-control-allow-origin"), shared.then_some(origin));
        for path in ["/sse/events", "/ws/events"] {
            let ticket = stage.post("/api/v1/tickets", "").await.json()["ticket"].as_str().map(str::to_owned);
            let path = format!("{path}?ticket={}", ticket.expect("a ticket"));
            let response = stage.raw(request("GET", &path, &headers, "")).await;
            assert_eq!(response.status() == 403, status == 403, "{origin} {path}");
        }
    }
    // Reads are kept from foreign pages by the browser: nothing tells it to show them.
    let answer = stage.ask("GET", "/api/v1/jobs", &[("origin", "https://evil.example")], b"").await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None));
}

#[tokio::test]
async fn the_dashboard_s_pages_may_ask_first() {
    let stage = Stage::with(HttpLimits::default(), Some("https://console.example"), false);
    let ask = |origin| {
        request(
            "OPTIONS",
            "/api/v1/jobs",
            &[("origin", origin), ("access-control-request-method", "POST"), ("host", "node")],
            "",
        )
    };
    let answer = stage.send(ask("https://console.example")).await;
    assert_eq!(answer.status, 204);
    assert!(answer.header("access-control-allow-headers").is_some_and(|all| all.contains("Idempotency-Key")));
    let answer = stage.send(ask("https://evil.example")).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (403, None));
}

#[tokio::test]
async fn a_development_node_answers_to_loopback_names_only() {
    let stage = Stage::with(HttpLimits::default(), None, true);
    for (host, status) in [("localhost:8080", 200), ("127.0.0.1", 200), ("evil.example:8080", 403)] {
        assert_eq!(
            stage.ask("GET", "/api/v1/overview", &[("host", host)], b"").await.status,
            status,
            "{host}"
        );
    }
}

#[tokio::test]
async fn metrics_are_open_to_this_machine_alone() {
    let stage = Stage::new();
    let from = |peer: &str, headers: &[(&str, &str)]| {
        let mut request = request("GET", "/metrics", headers, "");
        request.extensions_mut().insert(ConnectInfo(peer.parse::<SocketAddr>().expect("an address")));
        request
    };
    assert_eq!(stage.send(from("127.0.0.1:5", &[])).await.status, 200);
    assert_eq!(stage.send(from("[::ffff:127.0.0.1]:5", &[])).await.status, 200);
    assert_eq!(stage.send(from("10.0.0.1:5", &[])).await.status, 401);
    assert_eq!(stage.send(from("127.0.0.1:5", &[("x-forwarded-for", "10.0.0.1")])).await.status, 401);
    assert_eq!(stage.send(from("10.0.0.1:5", &[("x-admin-token", KEY)])).await.status, 200);
}

#[tokio::test]
async fn every_answer_has_its_request_id_and_is_safe_to_a_browser() {
    let stage = Stage::new();
    for path in ["/healthz", "/api/v1/jobs", "/nowhere", "/docs", "/docs/swagger-ui.css", "/metrics"] {
        let answer = stage.ask("GET", path, &[("x-request-id", "abc-1")], b"").await;
        assert_eq!(answer.header("x-request-id"), Some("abc-1"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert!(
            answer.header("content-security-policy").is_some_and(|csp| csp.contains("default-src 'none'"))
        );
        assert!(answer.header("cache-control").is_some());
    }
    let answer = stage.ask("GET", "/nowhere", &[("x-request-id", "bad id")], b"").await;
    let id = answer.header("x-request-id").expect("a new one");
    assert_eq!(id.len(), 36);
    assert_eq!(answer.json()["requestId"], id);
}

#[tokio::test]
async fn overload_is_said_and_spares_the_probes() {
    let limits = HttpLimits { requests_max: 0, waits_max: 0, streams_max: 0 };
    let stage = Stage::with(limits, None, false);
    let id = "01890000-0000-7000-8000-000000000000";
    for path in ["/api/v1/jobs", &format!("/api/v1/jobs/{id}/wait"), "/sse/events"] {
        let answer = stage.get(path).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"), "{path}");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert_eq!(stage.get("/healthz").await.status, 200);
    assert_eq!(stage.get("/metrics").await.status, 200);
}
