//! The HTTP layer over real sockets, before a real node: what callers and attackers send.

#![expect(clippy::expect_used, reason = "a failed step fails the test")]

#[path = "support/mod.rs"]
mod support;

use std::{collections::BTreeSet, time::Duration};

use futures_util::{SinkExt, StreamExt};
use insta::assert_json_snapshot;
use serde_json::{Value, json};
use support::{Api, NodeProcess};
use tokio_tungstenite::{connect_async, tungstenite::Message};

const JSON: (&str, &str) = ("content-type", "application/json");

/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// Makes a body of some size.
type Make<'a> = &'a dyn Fn(usize) -> String;

/// A node that runs no jobs, so that what is submitted stays as it is.
async fn node() -> (NodeProcess, Api) {
    let node = NodeProcess::builder().env("WORKER_CONCURRENCY", 0).start().await;
    node.wait_ready(SOON).await;
    let api = node.api();
    (node, api)
}

#[tokio::test]
async fn no_malformed_request_is_answered_with_a_5xx() {
    let (_node, api) = node().await;
    let deep = |n: usize| format!(r#"{{"type":"t","payload":{}{}}}"#, "[".repeat(n), "]".repeat(n));
    let field = |field: &str| format!(r#"{{"type":"t",{field}}}"#);
    let long = "x".repeat(129);
    let bodies: Vec<(Vec<u8>, u16)> = [
        (String::new(), 400),
        ("{".into(), 400),
        ("nul".into(), 400),
        ("{} {}".into(), 400),
        ("\u{feff}{}".into(), 400),
        ("{\"type\":\"a\nb\"}".into(), 400),
        ("[1,]".into(), 400),
        ("{}".into(), 422),
        ("[]".into(), 422),
        ("null".into(), 422),
        ("7".into(), 422),
        (r#"{"type":null}"#.into(), 422),
        (r#"{"type":""}"#.into(), 422),
        (r#"{"type":"a b"}"#.into(), 422),
        (r#"{"type":"\u0000"}"#.into(), 422),
        (r#"{"type":"\ud800"}"#.into(), 422),
        (r#"{"type":"a","type":"b"}"#.into(), 422),
        (format!(r#"{{"type":"{long}"}}"#), 422),
        (field(r#""queue":"../x y""#), 422),
        (field(r#""tenantId":"-""#), 422),
        (field(r#""priority":10"#), 422),
        (field(r#""priority":-1"#), 422),
        (field(r#""priority":1e99"#), 422),
        (field(r#""maxAttempts":0"#), 422),
        (field(r#""maxAttempts":101"#), 422),
        (field(r#""timeoutSeconds":604801"#), 422),
        (field(r#""delaySeconds":-1"#), 422),
        (field(r#""delaySeconds":1e18"#), 422),
        (field(r#""scheduledAt":"tomorrow""#), 422),
        (field(r#""idempotencyKey":"\u0007""#), 422),
        (field(r#""dependencies":["x"]"#), 422),
        (field(r#""dependencies":["01890000-0000-7000-8000-000000000000"]"#), 422),
        (field(r#""dependencies":{}"#), 422),
        (field(r#""dependencyPolicy":"maybe""#), 422),
        (field(r#""retry":{"jitter":2}"#), 422),
        (field(r#""tags":["a b"]"#), 422),
        (field(r#""metadata":[]"#), 422),
        (field(r#""payload":1e400"#), 422),
        (field(r#""payload":"\udc00""#), 422),
        (deep(65), 422),
        (deep(100_000), 422),
        (r#"{"type":"email.send","payload":{}}"#.into(), 422),
    ]
    .into_iter()
    .map(|(body, status)| (body.into_bytes(), status))
    .chain([(b"{\"type\":\"\xff\"}".to_vec(), 400), (vec![0; 64], 400)])
    .collect();
    assert!(bodies.len() >= 40);
    for (body, status) in bodies {
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        let answer = api.post_raw("/api/v1/jobs", &[JSON], body).await;
        assert_eq!(answer.status, status, "{shown}: {}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{shown}");
    }
    assert_eq!(api.get("/api/v1/jobs").await.expect(200), json!([]), "nothing was made");
}

#[tokio::test]
async fn limits_hold_one_step_before_at_and_past_their_edge() {
    let (_node, api) = node().await;
    let payload = |size: usize| format!(r#"{{"type":"t","payload":"{}"}}"#, "x".repeat(size - 2));
    let depth = |n: usize| format!(r#"{{"type":"t","payload":{}{}}}"#, "[".repeat(n), "]".repeat(n));
    let name = |n: usize| format!(r#"{{"type":"{}"}}"#, "x".repeat(n));
    let key = |n: usize| format!(r#"{{"type":"t","idempotencyKey":"{}"}}"#, "k".repeat(n));
    let body = |n: usize| r#"{"type":"t"}"#.to_owned() + &" ".repeat(n - 12);
    let cases: [(&str, Make<'_>, usize, u16); 5] = [
        ("payload", &payload, 1 << 20, 422),
        ("depth", &depth, 64, 422),
        ("name", &name, 128, 422),
        ("key", &key, 255, 422),
        ("body", &body, 2 << 20, 413),
    ];
    for (what, make, edge, refused) in cases {
        for (size, status) in [(edge - 1, 202), (edge, 202), (edge + 1, refused)] {
            let answer = api.post_raw("/api/v1/jobs", &[JSON], make(size)).await;
            assert_eq!(answer.status, status, "{what} {size}: {}", answer.body["detail"]);
        }
    }
    assert_eq!(api.get("/api/v1/jobs?limit=1000").await.status, 200);
    assert_eq!(api.get("/api/v1/jobs?limit=1001").await.status, 422);
}

#[tokio::test]
async fn a_payload_comes_back_byte_for_byte() {
    let (node, api) = node().await;
    let payload =
        r#"{ "big": 123456789012345678901234567890, "nul":"\u0000", "e":1E+2, "b":1, "a":1, "a":2 }"#;
    let body = format!(r#"{{"type":"t","payload":{payload}}}"#);
    let id = api.post_raw("/api/v1/jobs", &[JSON], body).await.expect(202)["job"]["id"].clone();
    let url = format!("{}/api/v1/jobs/{}", node.base(), id.as_str().expect("an id"));
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let text = client.get(url).bearer_auth(support::http::DEV_TOKEN).send().await.expect("answered");
    let text = text.text().await.expect("a body");
    assert!(text.contains(&format!("\"payload\":{payload},")), "{text}");
}

#[tokio::test]
async fn a_submission_is_answered_as_it_is_read() {
    let (_node, api) = node().await;
    let body = json!({"type": "t", "queue": "q", "payload": {"n": 1}, "tags": ["a"], "delaySeconds": 3600, "cost": 2});
    let made = api.post("/api/v1/jobs", &body).await.expect(202);
    assert_eq!(made["duplicateSuppressed"], false);
    let path = format!("/api/v1/jobs/{}", made["job"]["id"].as_str().expect("an id"));
    assert_eq!(api.get(&path).await.expect(200), made["job"]);
}

#[tokio::test]
async fn pages_are_stable_while_jobs_are_added() {
    let (_node, api) = node().await;
    let mut made = Vec::new();
    for _ in 0..25 {
        made.push(api.post("/api/v1/jobs", &json!({"type": "t"})).await.expect(202)["job"]["id"].clone());
    }
    made.reverse();
    let (mut seen, mut next) = (Vec::new(), Some("/api/v1/jobs?limit=10&state=queued".to_owned()));
    while let Some(path) = next {
        let page = api.get(&path).await;
        next = page.next_page();
        seen.extend(page.expect(200).as_array().expect("a list").iter().map(|job| job["id"].clone()));
        api.post("/api/v1/jobs", &json!({"type": "t"})).await.expect(202);
    }
    assert_eq!(seen, made);
}

#[tokio::test]
async fn a_repeat_of_a_key_is_answered_with_the_first_job() {
    let (_node, api) = node().await;
    let keyed = [JSON, ("idempotency-key", "k")];
    let first =
        api.post_raw("/api/v1/jobs", &keyed, r#"{"type":"t","payload":{"a":1,"b":2}}"#).await.expect(202);
    let again =
        api.post_raw("/api/v1/jobs", &keyed, r#"{"type":"t","payload":{"b":2, "a":1}}"#).await.expect(200);
    assert_eq!((&again["job"]["id"], &again["duplicateSuppressed"]), (&first["job"]["id"], &json!(true)));
    assert_eq!(again["idempotency"]["key"], "k");
    let other = api.post_raw("/api/v1/jobs", &keyed, r#"{"type":"t","payload":{"a":2}}"#).await.expect(409);
    assert_eq!((&other["code"], &other["jobId"]), (&json!("idempotency_key_mismatch"), &first["job"]["id"]));
    let both =
        api.post_raw("/api/v1/jobs", &keyed, r#"{"type":"t","idempotencyKey":"other"}"#).await.expect(422);
    assert_eq!(both["errors"][0]["pointer"], "/idempotencyKey");
}

#[tokio::test]
async fn every_described_route_asks_for_a_key() {
    let (_node, api) = node().await;
    let document = api.get("/api/v1/openapi.json").await.expect(200);
    let open = BTreeSet::from(["/healthz", "/readyz", "/metrics"]);
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("operations").keys() {
            let path = path.replace("{id}", "01890000-0000-7000-8000-000000000000");
            let method: reqwest::Method = method.to_uppercase().parse().expect("a method");
            for token in ["", "wrong"] {
                let answer = api.with_token(token).send(method.clone(), &path, None).await.expect("answered");
                assert_eq!(answer.status == 401, !open.contains(path.as_str()), "{path}");
            }
        }
    }
    assert_eq!(api.get("/api/v1/jobs?token=dev-admin-token").await.status, 400);
}

#[tokio::test]
async fn problems_have_one_shape() {
    let (_node, api) = node().await;
    let problem = api.post("/api/v1/jobs", &json!({"type": "a b"})).await.expect(422);
    assert_json_snapshot!(problem, { ".requestId" => "[id]" }, @r#"
    {
      "code": "validation_failed",
      "detail": "/type: must match [A-Za-z0-9][A-Za-z0-9._:/-]{0,127}",
      "errors": [
        {
          "detail": "must match [A-Za-z0-9][A-Za-z0-9._:/-]{0,127}",
          "pointer": "/type"
        }
      ],
      "requestId": "[id]",
      "status": 422,
      "title": "Unprocessable Entity",
      "type": "urn:ganger:problem:validation_failed"
    }
    "#);
}

async fn next(
    socket: &mut (impl StreamExt<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin),
) -> Value {
    loop {
        let message = tokio::time::timeout(SOON, socket.next()).await.expect("in time").expect("goes on");
        if let Message::Text(text) = message.expect("is whole") {
            return serde_json::from_str(&text).expect("is JSON");
        }
    }
}

#[tokio::test]
async fn a_stream_says_hello_goes_on_where_it_was_left_and_takes_a_ticket_once() {
    let (node, api) = node().await;
    let base = node.base().replacen("http", "ws", 1);
    let ticket = api.post("/api/v1/tickets", &json!({})).await.expect(201)["ticket"].clone();
    let url = format!("{base}/ws/events?ticket={}", ticket.as_str().expect("a ticket"));
    let (mut socket, _) = connect_async(&url).await.expect("a stream");
    let hello = next(&mut socket).await;
    assert_eq!(hello["kind"], "stream.hello");
    assert!(connect_async(&url).await.is_err(), "a ticket is good once");

    let job = api.post("/api/v1/jobs", &json!({"type": "t"})).await.expect(202)["job"]["id"].clone();
    let event = next(&mut socket).await;
    assert_eq!((&event["kind"], &event["jobId"]), (&json!("job.enqueued"), &job));
    assert_eq!(event["seq"].as_u64(), hello["seq"].as_u64().map(|seq| seq + 1));
    socket.close(None).await.expect("closed");

    for (stream, kind) in [(hello["streamId"].clone(), "job.enqueued"), (job, "stream.reset")] {
        let ticket = api.post("/api/v1/tickets", &json!({})).await.expect(201)["ticket"].clone();
        let (ticket, stream) = (ticket.as_str().expect("text"), stream.as_str().expect("text"));
        let url = format!("{base}/ws/events?ticket={ticket}&since={stream}:{}", hello["seq"]);
        let (mut socket, _) = connect_async(&url).await.expect("a stream");
        assert_eq!(next(&mut socket).await["kind"], "stream.hello");
        assert_eq!(next(&mut socket).await["kind"], kind);
        socket.send(Message::text("x".repeat(5_000))).await.expect("sent");
        while let Some(Ok(_)) = tokio::time::timeout(SOON, socket.next()).await.expect("ends") {}
    }
}
