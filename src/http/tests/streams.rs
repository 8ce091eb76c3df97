//! Streams, as far as they go without a socket.

use axum::body::Body;
use futures_util::StreamExt;

use crate::{
    domain::BootId,
    http::{
        HttpLimits,
        testing::{Stage, request},
    },
};

async fn ticket(stage: &Stage) -> String {
    let answer = stage.post("/api/v1/tickets", "").await;
    assert_eq!(answer.status, 201);
    answer.json()["ticket"].as_str().expect("a ticket").to_owned()
}

/// The next chunk of a stream, as text.
async fn chunk(body: &mut axum::body::BodyDataStream) -> String {
    let bytes = body.next().await.expect("goes on").expect("is whole");
    String::from_utf8(bytes.to_vec()).expect("is text")
}

#[tokio::test(start_paused = true)]
async fn a_ticket_opens_one_stream() {
    let stage = Stage::new();
    let path = format!("/sse/events?ticket={}", ticket(&stage).await);
    let response = stage.raw(request("GET", &path, &[], "")).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    let mut body = response.into_body().into_data_stream();
    let hello = chunk(&mut body).await;
    assert!(hello.starts_with("event: system\ndata: {\"kind\":\"stream.hello\",\"streamId\":"), "{hello}");
    assert!(!hello.contains("\nid:"), "a hello is no place to go on from");
    assert!(chunk(&mut body).await.contains("stream.heartbeat"));
    assert_eq!(stage.send(request("GET", &path, &[], "")).await.status, 401);
    let elsewhere = format!("/api/v1/jobs?ticket={}", ticket(&stage).await);
    assert_eq!(
        stage.send(request("GET", &elsewhere, &[], "")).await.status,
        401,
        "streams alone take tickets"
    );
}

#[tokio::test(start_paused = true)]
async fn a_place_that_is_gone_is_answered_with_a_reset() {
    let stage = Stage::new();
    let other = format!("{}:7", BootId::new());
    let key = ("x-admin-token", crate::http::testing::KEY);
    for (path, headers) in [
        (format!("/sse/events?since={other}"), vec![key]),
        ("/sse/events".to_owned(), vec![key, ("last-event-id", other.as_str())]),
        ("/sse/events".to_owned(), vec![key, ("last-event-id", "nonsense")]),
    ] {
        let response = stage.raw(request("GET", &path, &headers, "")).await;
        let mut body = response.into_body().into_data_stream();
        assert!(chunk(&mut body).await.contains("stream.hello"));
        let reset = chunk(&mut body).await;
        let id = format!("id: {}:", stage.state.platform.boot());
        assert!(reset.contains("stream.reset") && reset.contains(&id), "{reset}");
    }
}

#[tokio::test(start_paused = true)]
async fn streams_are_counted_while_they_are_open_and_end_with_the_node() {
    let stage = Stage::with(HttpLimits { streams_max: 1, ..HttpLimits::default() }, None, false);
    let open =
        || request("GET", "/sse/events", &[("x-admin-token", crate::http::testing::KEY)], Body::empty());
    let first = stage.raw(open()).await;
    assert_eq!(first.status(), 200);
    assert_eq!(stage.raw(open()).await.status(), 503);
    drop(first);
    let second = stage.raw(open()).await;
    assert_eq!(second.status(), 200);
    let mut body = second.into_body().into_data_stream();
    assert!(chunk(&mut body).await.contains("stream.hello"));
    assert!(!stage.state.drained(std::time::Duration::from_millis(10)).await);
    stage.state.stop();
    assert!(body.next().await.is_none());
    drop(body);
    assert!(stage.state.drained(std::time::Duration::from_millis(10)).await);
}
