//! Bad requests: each refused with its own status, none with a 5xx.

use std::time::Duration;

use axum::body::Body;
use futures_util::stream;

use crate::http::{
    limits::{BODY_BYTES_MAX, BODY_DEADLINE, BODY_STALL_MAX},
    problem::PROBLEM_JSON,
    testing::{Stage, is_refusal, request},
};

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn bodies_are_refused_by_what_is_wrong_with_them() {
    let stage = Stage::new();
    let deep = format!(r#"{{"type":"t","payload":{}}}"#, "[".repeat(65) + &"]".repeat(65));
    let cases: &[(&str, &[u8], u16, &str)] = &[
        ("empty", b"", 400, "empty_body"),
        ("blank", b"  \n ", 400, "malformed_json"),
        ("cut off", br#"{"type":"#, 400, "malformed_json"),
        ("not UTF-8", b"{\"type\":\"\xff\"}", 400, "malformed_json"),
        ("two values", b"{} {}", 400, "malformed_json"),
        ("trailing comma", br#"{"type":"t",}"#, 400, "malformed_json"),
        ("control character", b"{\"type\":\"\x01\"}", 400, "malformed_json"),
        ("an array", b"[]", 422, "validation_failed"),
        ("null", b"null", 422, "validation_failed"),
        ("no type", b"{}", 422, "validation_failed"),
        ("a number as type", br#"{"type":1}"#, 422, "validation_failed"),
        ("twice the type", br#"{"type":"a","type":"b"}"#, 422, "validation_failed"),
        ("a lone surrogate", br#"{"type":"t","payload":"\ud800"}"#, 422, "validation_failed"),
        ("too large a number", br#"{"type":"t","payload":1e400}"#, 422, "validation_failed"),
        ("too deep", deep.as_bytes(), 422, "validation_failed"),
        ("payload of a built-in type", br#"{"type":"email.send","payload":{}}"#, 422, "validation_failed"),
    ];
    for (name, body, status, code) in cases {
        let answer = stage.ask("POST", "/api/v1/jobs", &[JSON], body).await;
        assert_eq!((answer.status, answer.code().as_str()), (*status, *code), "{name}: {}", answer.text);
        assert_eq!(answer.header("content-type"), Some(PROBLEM_JSON), "{name}");
        assert_eq!(answer.json()["type"], format!("urn:ganger:problem:{code}"));
    }
    let answer = stage.post("/api/v1/jobs", r#"{"type":"email.send","payload":{}}"#).await;
    assert_eq!(answer.json()["errors"][0]["pointer"], "/payload/recipient");
    let answer = stage.post("/api/v1/jobs", "{\n  \"type\": }").await;
    assert!(answer.json()["detail"].as_str().is_some_and(|detail| detail.contains("line 2 column 11")));
}

#[tokio::test]
async fn media_types_are_checked_before_the_body_is_read() {
    let stage = Stage::new();
    for headers in [
        &[][..],
        &[("content-type", "text/plain")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[("content-type", "application/json; charset=utf-16")],
        &[JSON, ("content-encoding", "gzip")],
        &[JSON, JSON],
    ] {
        let answer = stage.ask("POST", "/api/v1/jobs", headers, br#"{"type":"t"}"#).await;
        assert_eq!((answer.status, answer.code().as_str()), (415, "unsupported_media_type"), "{headers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_may_be_as_large_as_the_limit_and_no_larger() {
    let stage = Stage::new();
    let body = |size: usize| {
        let mut body = br#"{"type":"t"}"#.to_vec();
        body.resize(size, b' ');
        body
    };
    for (size, refused) in [(BODY_BYTES_MAX - 1, false), (BODY_BYTES_MAX, false), (BODY_BYTES_MAX + 1, true)]
    {
        let answer = stage.ask("POST", "/api/v1/jobs", &[JSON], &body(size)).await;
        assert_eq!(answer.status == 413, refused, "{size}: {}", answer.status);
    }
    // Announced, and not sent: refused at once.
    let length = (BODY_BYTES_MAX + 1).to_string();
    let headers = [JSON, ("content-length", &length)];
    assert_eq!(stage.ask("POST", "/api/v1/jobs", &headers, b"").await.status, 413);
    // Not announced.
    let endless = Body::from_stream(stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 4_096])));
    let headers = [("authorization", "Bearer test-admin-key"), JSON];
    assert_eq!(stage.send(request("POST", "/api/v1/jobs", &headers, endless)).await.status, 413);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_given_up() {
    let stage = Stage::new();
    let silent = Body::from_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let headers = [("authorization", "Bearer test-admin-key"), JSON];
    let started = tokio::time::Instant::now();
    let answer = stage.send(request("POST", "/api/v1/jobs", &headers, silent)).await;
    assert_eq!((answer.status, answer.code().as_str()), (408, "body_timeout"));
    assert_eq!(started.elapsed(), BODY_STALL_MAX);
    // One that trickles has longer, and not for ever.
    let trickle = stream::unfold((), |()| async {
        tokio::time::timeout(Duration::from_secs(1), std::future::pending::<()>()).await.ok();
        Some((Ok::<_, std::io::Error>(vec![b' ']), ()))
    });
    let started = tokio::time::Instant::now();
    let answer = stage.send(request("POST", "/api/v1/jobs", &headers, Body::from_stream(trickle))).await;
    assert_eq!((answer.status, answer.code().as_str()), (408, "body_timeout"));
    assert_eq!(started.elapsed(), BODY_DEADLINE);
}

#[tokio::test]
async fn queries_and_paths_are_refused_by_what_is_wrong_with_them() {
    let stage = Stage::new();
    let long = format!("/api/v1/jobs?q={}", "x".repeat(256));
    for (path, status) in [
        ("/api/v1/jobs?limit=0", 422),
        ("/api/v1/jobs?limit=1001", 422),
        ("/api/v1/jobs?limit=ten", 422),
        ("/api/v1/jobs?limit=1&limit=2", 422),
        ("/api/v1/jobs?state=asleep", 422),
        ("/api/v1/jobs?queue=a%20b", 422),
        ("/api/v1/jobs?queue=%00", 422),
        ("/api/v1/jobs?worker=%00", 422),
        ("/api/v1/jobs?q=%00", 422),
        (long.as_str(), 422),
        ("/api/v1/jobs?q=%ff", 400),
        ("/api/v1/jobs?createdAfter=yesterday", 422),
        ("/api/v1/jobs?workflowId=1", 422),
        ("/api/v1/jobs?cursor=nonsense", 422),
        ("/api/v1/jobs/1", 404),
        ("/api/v1/jobs/%ff", 404),
        ("/api/v1/jobs/%00", 404),
        ("/api/v1/jobs/..%2f..%2fetc", 404),
        ("/api/v1/jobs/01890000-0000-7000-8000-000000000000", 404),
        ("/api/v1/jobs/01890000-0000-7000-8000-000000000000/graph", 404),
        ("/api/v1/jobs/01890000000070008000000000000000", 404),
        ("/api/v1/jobs/01890000-0000-7000-8000-000000000000/wait?timeoutSeconds=61", 422),
        ("/api/v1/jobs/01890000-0000-7000-8000-000000000000/wait?timeoutSeconds=NaN", 422),
        ("/api/v1/supervision?depth=17", 422),
        ("/api/v1/supervision?path=nowhere", 404),
        ("/sse/events?since=x", 422),
        ("/sse/events?topics=x", 422),
        ("/ws/events", 400),
        ("/api/v1", 404),
        ("/api/v1/jobs/", 404),
        ("//api/v1/jobs", 404),
        ("/API/v1/jobs", 404),
    ] {
        let answer = stage.get(path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        assert!(is_refusal(answer.status));
        assert_eq!(answer.header("content-type"), Some(PROBLEM_JSON), "{path}");
        assert!(!answer.code().is_empty());
    }
}

#[tokio::test]
async fn the_wrong_method_is_told_the_right_ones() {
    let stage = Stage::new();
    for (method, path, allow) in [
        ("DELETE", "/api/v1/jobs", "POST, GET, HEAD"),
        ("GET", "/api/v1/tickets", "POST"),
        ("OPTIONS", "/healthz", "GET, HEAD"),
        ("BREW", "/readyz", "GET, HEAD"),
        ("PUT", "/api/v1/jobs/x/cancel", "POST"),
    ] {
        let answer = stage.ask(method, path, &[], b"").await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{method} {path}");
        assert_eq!(answer.code(), "method_not_allowed");
    }
    let answer = stage.ask("HEAD", "/healthz", &[], b"").await;
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
}

#[tokio::test]
async fn keys_in_header_and_body_must_agree() {
    let stage = Stage::new();
    let headers = [JSON, ("idempotency-key", "a")];
    let answer = stage.ask("POST", "/api/v1/jobs", &headers, br#"{"type":"t","idempotencyKey":"b"}"#).await;
    assert_eq!(
        (answer.status, answer.json()["errors"][0]["pointer"].as_str()),
        (422, Some("/idempotencyKey"))
    );
}

#[tokio::test]
async fn what_needs_the_actors_says_so_without_them() {
    let stage = Stage::new();
    let answer = stage.post("/api/v1/jobs", r#"{"type":"t"}"#).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "unavailable"), "{}", answer.text);
    assert_eq!(answer.header("retry-after"), Some("1"));
    for what in ["cancel", "retry"] {
        let path = format!("/api/v1/jobs/01890000-0000-7000-8000-000000000000/{what}");
        let answer = stage.post(&path, "").await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "job_not_found"));
    }
    assert_eq!(
        stage.post("/api/v1/workflows/demo/thumbnail", "").await.status,
        422,
        "its body may be left out"
    );
    let answer = stage.post("/api/v1/supervision/restart", r#"{"path":"nowhere"}"#).await;
    assert_eq!((answer.status, answer.code().as_str()), (404, "actor_not_found"));
    let answer = stage.get("/readyz").await;
    assert_eq!((answer.status, answer.json()["parts"][0]["part"].as_str()), (503, Some("actors")));
}
