//! What a node is sent by those who mean it ill: every request is answered by a documented 4xx, none by a 5xx, and
//! what is stored comes back byte for byte. `hostile/cases.rs` is the list to add to.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed step fails the test"
)]

mod hostile;
mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use hostile::cases::{bad, harmless};
use hostile::{Answer, Case, request, send};
use serde_json::{Value, json};
use support::{Api, NodeProcess};

const SOON: Duration = Duration::from_secs(20);

/// A node that runs no jobs, so that what is submitted stays as it is; its address.
async fn node() -> (NodeProcess, Api, String) {
    let node = NodeProcess::builder().env("WORKER_CONCURRENCY", 0).env("LOG_LEVEL", "warn").start().await;
    node.wait_ready(SOON).await;
    let (api, address) = (node.api(), node.base().trim_start_matches("http://").to_owned());
    (node, api, address)
}

/// What is wrong with the answer, if anything is.
fn fault(case: &Case, answer: Option<&Answer>) -> Option<String> {
    let Some(answer) = answer else { return Some("closed without a word".to_owned()) };
    let told = String::from_utf8_lossy(&answer.body[..answer.body.len().min(300)]).into_owned();
    if answer.status != case.status {
        return Some(format!("{} instead of {}: {told}", answer.status, case.status));
    }
    if case.bare || answer.status < 400 {
        return None;
    }
    let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let is_problem = answer.header("content-type") == Some("application/problem+json")
        && problem["status"] == answer.status
        && problem["code"]
            .as_str()
            .is_some_and(|code| problem["type"] == format!("urn:ganger:problem:{code}"))
        && problem["title"].is_string()
        && problem["detail"].is_string()
        && answer.header("x-request-id").is_some();
    (!is_problem).then(|| format!("no problem: {}\n{told}", answer.head))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_hostile_request_is_answered_by_its_4xx_and_changes_nothing() {
    let (mut node, api, address) = node().await;
    let cases = bad();
    assert!(cases.len() >= 100, "{} kinds", cases.len());
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert!(names.len() >= 100);
    let mut faults = Vec::new();
    for case in &cases {
        assert!((400..500).contains(&case.status), "{}: only 4xx are documented", case.name);
        let answer = send(&address, &case.bytes).await;
        faults.extend(fault(case, answer.as_ref()).map(|fault| format!("{}: {fault}", case.name)));
    }
    support::nightly::figure("api-hostile", "kinds", cases.len());
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), cases.len(), faults.join("\n"));
    assert_eq!(api.get("/api/v1/jobs").await.expect(200), json!([]), "nothing was made");
    assert!(node.is_running());
    assert!(!node.log().contains("panicked"), "{}", node.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_requests_are_served() {
    let (_node, _api, address) = node().await;
    let mut faults = Vec::new();
    for case in harmless() {
        let answer = send(&address, &case.bytes).await;
        faults.extend(fault(&case, answer.as_ref()).map(|fault| format!("{}: {fault}", case.name)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_is_good_once() {
    let (_node, api, address) = node().await;
    let ticket = api.post("/api/v1/tickets", &json!({})).await.expect(201)["ticket"].clone();
    let path = format!("/sse/events?ticket={}", ticket.as_str().expect("a ticket"));
    let bytes = hostile::unsigned("GET", &path, "", b"");
    assert_eq!(send(&address, &bytes).await.expect("answered").status, 200);
    assert_eq!(send(&address, &bytes).await.expect("answered").status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_one_behind_the_other_are_answered_in_order() {
    let (_node, _api, address) = node().await;
    let keep = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer dev-admin-token\r\n\r\n")
    };
    let mut bytes = [keep("/healthz"), keep("/api/v1/nothing"), keep("/readyz")].concat().into_bytes();
    bytes.extend(request("GET", "/api/v1/jobs/x", "", b""));
    let answers = hostile::send_all(&address, &bytes).await;
    let statuses: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "404", "200", "404"], "{answers}");
}

/// Values as a payload may write them: each is one text of many for its value.
const PAYLOADS: [&str; 36] = [
    "null",
    "true",
    "0",
    "-0",
    "-0.0",
    "0e0",
    "1E2",
    "1e+2",
    "1.50",
    "1e-400",
    "5e-324",
    "1.7976931348623157e308",
    "9007199254740993",
    "123456789012345678901234567890",
    "-9223372036854775809",
    "0.1000000000000000055511151231257827",
    r#""""#,
    r#""\u0000""#,
    r#""\u0041\/\b\f\n\r\t\"\\""#,
    r#""\ud83d\ude00""#,
    "\"😀 é ü 漢\"",
    "\"\u{2028}\u{2029}\u{feff}\u{202e}\"",
    r#""</script><img src=x>""#,
    "[]",
    "{}",
    "[ ]",
    "{ }",
    "[1,2 , 3]",
    "[\n\t1\r\n]",
    r#"{"b":1,"a":2}"#,
    r#"{"a":1,"a":2}"#,
    r#"{ "a" : { "b" : [ { } ] } }"#,
    r#"{"":"","\u0000":0}"#,
    r#"{"__proto__":{"x":1},"constructor":null}"#,
    r#""'; drop table job; --""#,
    r#"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"#,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payloads_come_back_byte_for_byte() {
    let (node, api, address) = node().await;
    let deepest = format!("{}{}", "[".repeat(64), "]".repeat(64));
    let largest = format!("\"{}\"", "x".repeat((1 << 20) - 2));
    let mut ids = Vec::new();
    for payload in PAYLOADS.into_iter().chain([deepest.as_str(), largest.as_str()]) {
        let body = format!(r#"{{"type":"t", "payload" : {payload} , "queue":"q"}}"#);
        let bytes = request("POST", "/api/v1/jobs", "content-type: application/json\r\n", body.as_bytes());
        let made = send(&address, &bytes).await.expect("answered");
        let shown = &payload[..payload.len().min(80)];
        assert_eq!(made.status, 202, "{shown}: {}", String::from_utf8_lossy(&made.body));
        assert!(holds(&made.body, payload), "{shown}: {}", String::from_utf8_lossy(&made.body));
        let made: Value = serde_json::from_slice(&made.body).unwrap_or_default();
        // The reader of the test may refuse what the node takes; the id is asked for another way then.
        ids.extend(made["job"]["id"].as_str().map(|id| (id.to_owned(), payload)));
    }
    assert_eq!(ids.len(), PAYLOADS.len() + 2);
    for (id, payload) in &ids {
        for part in ["", "/inspection"] {
            let path = format!("/api/v1/jobs/{id}{part}");
            let read = send(&address, &request("GET", &path, "", b"")).await.expect("answered");
            let shown = String::from_utf8_lossy(&read.body[..read.body.len().min(400)]).into_owned();
            assert!(holds(&read.body, payload), "{part} {}: {shown}", &payload[..payload.len().min(80)]);
        }
    }
    assert_eq!(
        api.get("/api/v1/jobs?limit=1000").await.expect(200).as_array().map(Vec::len),
        Some(ids.len())
    );
    drop(node);
}

fn holds(body: &[u8], payload: &str) -> bool {
    let wanted = format!("\"payload\":{payload},");
    let text = std::str::from_utf8(body).unwrap_or_default();
    text.contains(&wanted)
}
