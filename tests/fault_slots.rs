//! What a queue forgets, its worker gets back: slots lent to a memory that was dropped are lent anew, and a stop
//! in the middle of a grant charges nobody.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed step fails the test"
)]

mod support;

use std::path::Path;
use std::time::Duration;

use clap::Parser;
use ganger::config::Config;
use ganger::system::{Node, NodeBuilder};
use serde_json::{Value, json};
use support::{Api, wait_for};

const SOON: Duration = Duration::from_secs(20);
const SLOTS: i64 = 4;

async fn start(data: &Path) -> (Node, Api) {
    let arguments = ["ganger-node", "--http-addr", "127.0.0.1:0", "--worker-concurrency", "4", "--data-dir"];
    let arguments = arguments.into_iter().chain([data.to_str().unwrap()]);
    let node = NodeBuilder::new(Config::parse_from(arguments)).start().await.unwrap();
    let api = Api::new(&format!("http://{}", node.address()), support::http::DEV_TOKEN);
    (node, api)
}

async fn submit(api: &Api, body: Value) -> String {
    let made = api.post("/api/v1/jobs", &body).await.expect(202);
    made["job"]["id"].as_str().unwrap().to_owned()
}

async fn wait_state(api: &Api, id: &str, state: &str) {
    wait_for(state, SOON, || async {
        let job = api.get(&format!("/api/v1/jobs/{id}")).await.expect(200);
        if job["state"] == state { Ok(()) } else { Err(job) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_lent_to_a_queue_that_lost_its_memory_are_lent_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (node, api) = start(&folder.path().join("data")).await;
    let shard = ganger::domain::ShardId::of_queue("mail").0;
    let path = format!("node/shards/{shard}/mail/queue");
    for round in 1..=6_u32 {
        // One job makes the session lend all its slots; the queue dies with the other three.
        let id = submit(&api, json!({"type": "noop", "queue": "mail"})).await;
        wait_state(&api, &id, "completed").await;
        node.platform().restart(&path).unwrap();
        wait_for("the queue's restart", SOON, || async {
            let tree = api.get(&format!("/api/v1/supervision?path={path}")).await.expect(200);
            if tree["status"] == "running" && tree["restarts"].as_u64() >= Some(u64::from(round)) {
                Ok(())
            } else {
                Err(tree)
            }
        })
        .await;
    }
    for _ in 0..SLOTS {
        submit(&api, json!({"type": "noop", "queue": "mail", "payload": {"durationMs": 3_000}})).await;
    }
    wait_for("every slot to be taken", Duration::from_secs(2), || async {
        let overview = api.get("/api/v1/overview").await.expect(200);
        if overview["activeJobs"].as_i64() == Some(SLOTS) { Ok(()) } else { Err(overview) }
    })
    .await;
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_the_middle_of_grants_charges_no_job() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut ids = Vec::new();
    for _ in 0..4 {
        let (node, api) = start(&data).await;
        for _ in 0..60 {
            ids.push(submit(&api, json!({"type": "noop", "queue": "mail"})).await);
        }
        node.shutdown().await.unwrap();
    }
    let (node, api) = start(&data).await;
    for id in &ids {
        wait_state(&api, id, "completed").await;
        let attempts = api.get(&format!("/api/v1/jobs/{id}/attempts")).await.expect(200);
        let lost = attempts.as_array().unwrap().iter().find(|attempt| attempt["status"] == "lease_expired");
        assert_eq!(lost, None, "a clean stop is no death");
    }
    node.shutdown().await.unwrap();
}
