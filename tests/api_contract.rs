//! Small promises of the contract that a user trips over, before a real node.

#![expect(clippy::expect_used, reason = "a failed step fails the test")]

#[path = "support/mod.rs"]
mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{Api, NodeProcess, wait_for};

/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(20);

async fn node() -> (NodeProcess, Api) {
    let node = NodeProcess::builder().env("WORKER_CONCURRENCY", 2).start().await;
    node.wait_ready(SOON).await;
    let api = node.api();
    (node, api)
}

async fn submit(api: &Api, body: Value) -> String {
    let made = api.post("/api/v1/jobs", &body).await.expect(202);
    made["job"]["id"].as_str().expect("an id").to_owned()
}

async fn wait_state(api: &Api, id: &str, state: &str) -> Value {
    wait_for(state, SOON, || async {
        let job = api.get(&format!("/api/v1/jobs/{id}")).await.expect(200);
        if job["state"] == state { Ok(job) } else { Err(job) }
    })
    .await
}

/// A job that failed for good, without a stack trace.
async fn dead(api: &Api, queue: &str) -> String {
    let id = submit(
        api,
        json!({"type": "noop", "queue": queue, "maxAttempts": 1, "payload": {"forceError": "boom"}}),
    );
    let id = id.await;
    wait_state(api, &id, "failed").await;
    id
}

async fn newest_row(api: &Api, query: &str) -> Value {
    let rows = api.get(&format!("/api/v1/audit?{query}")).await.expect(200);
    rows[0].clone()
}

#[tokio::test]
async fn a_cancel_and_a_retry_are_in_the_audit_log() {
    let (_node, api) = node().await;
    let id = dead(&api, "mail").await;
    api.post(&format!("/api/v1/jobs/{id}/retry"), &json!({})).await.expect(202);
    let row = newest_row(&api, &format!("objectId={id}")).await;
    assert_eq!((&row["action"], &row["actor"]), (&json!("job.retried"), &json!("admin")), "{row}");
    assert_eq!((&row["before"]["state"], &row["after"]["state"]), (&json!("failed"), &json!("queued")));
    wait_state(&api, &id, "failed").await;
    api.post(&format!("/api/v1/jobs/{id}/cancel"), &json!({"reason": "not needed"})).await.expect(202);
    let row = newest_row(&api, &format!("objectId={id}")).await;
    assert_eq!((&row["action"], &row["reason"]), (&json!("job.canceled"), &json!("not needed")), "{row}");
}

#[tokio::test]
async fn a_bulk_operations_row_names_its_filter_as_the_caller_did() {
    let (_node, api) = node().await;
    let filter = json!({"type": "none", "tenantId": "acme", "state": ["queued"], "q": "x"});
    api.post("/api/v1/jobs/bulk", &json!({"action": "cancel", "filter": filter})).await.expect(200);
    let row = newest_row(&api, "action=jobs.bulk_canceled").await;
    let mut told = row["after"]["filter"].clone();
    let bound = told.as_object_mut().and_then(|told| told.remove("createdBefore"));
    assert!(bound.is_some_and(|bound| bound.is_string()), "what it was bound to is told: {row}");
    assert_eq!(told, filter);
}

#[tokio::test]
async fn a_full_queue_says_so_from_the_moment_on() {
    let (_node, api) = node().await;
    api.put("/api/v1/queues/one", &json!({"concurrency": 1})).await.expect(200);
    let running =
        submit(&api, json!({"type": "noop", "queue": "one", "payload": {"durationMs": 60_000}})).await;
    wait_state(&api, &running, "active").await;
    let waiting = submit(&api, json!({"type": "noop", "queue": "one"})).await;
    let explained = api.get(&format!("/api/v1/jobs/{waiting}/explain")).await.expect(200);
    assert_eq!(explained["reasons"][0]["code"], "concurrency_limited", "{explained}");
}

#[tokio::test]
async fn shapes_have_every_field_that_the_contract_names() {
    let (_node, api) = node().await;
    let id = dead(&api, "mail").await;
    let letters = api.get("/api/v1/dlq").await.expect(200);
    assert_eq!((&letters[0]["jobId"], &letters[0]["stackTrace"]), (&json!(id), &json!("")));
    let worker = api.get("/api/v1/workers").await.expect(200)[0].clone();
    let queue = api.get("/api/v1/queues/mail").await.expect(200);
    assert_eq!(queue["owner"], worker["nodeId"], "a queue's owner is a node");
    wait_for("the leader's heartbeat", SOON, || async {
        let leader = api.get("/api/v1/dashboard").await.expect(200)["leader"].clone();
        let fields = ["schedulerId", "acquiredAt", "lastHeartbeatAt", "leaseExpiresAt"];
        if fields.iter().all(|field| leader[field].is_string()) { Ok(()) } else { Err(leader) }
    })
    .await;
}

#[tokio::test]
async fn the_supervision_tree_of_another_node_is_not_this_ones() {
    let (_node, api) = node().await;
    let worker = api.get("/api/v1/workers").await.expect(200)[0].clone();
    let own = worker["nodeId"].as_str().expect("a node").to_owned();
    let tree = api.get(&format!("/api/v1/supervision?node={own}&depth=0")).await.expect(200);
    assert_eq!(tree["path"], "node");
    let problem = api.get("/api/v1/supervision?node=elsewhere").await.expect(404);
    assert_eq!(problem["code"], "node_not_found");
}

#[tokio::test]
async fn big_integers_that_differ_are_other_payloads() {
    let (_node, api) = node().await;
    let body = |number: &str| {
        format!(r#"{{"type":"none","queue":"q","idempotencyKey":"k","payload":{{"id":{number}}}}}"#)
            .into_bytes()
    };
    let json = [("content-type", "application/json")];
    let first = "123456789012345678901234567890";
    api.post_raw("/api/v1/jobs", &json, body(first)).await.expect(202);
    api.post_raw("/api/v1/jobs", &json, body(first)).await.expect(200);
    let problem =
        api.post_raw("/api/v1/jobs", &json, body("123456789012345678901234567891")).await.expect(409);
    assert_eq!(problem["code"], "idempotency_key_mismatch");
}
