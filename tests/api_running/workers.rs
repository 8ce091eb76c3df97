//! Who runs jobs, and who is not given any.

use std::time::Duration;

use serde_json::json;

use crate::rig::{Rig, SOON, TTL, of_kind};
use crate::support::wait::elapse;
use crate::support::wait_for;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cordoned_worker_finishes_what_it_runs_and_takes_no_more_until_it_is_resumed() {
    let rig = Rig::start(2).await;
    let mut events = rig.follow("topics=kind:worker.*").await;
    let running = rig.running(json!({"type": "noop", "payload": {"durationMs": 800}})).await;
    let worker = rig.worker().await;
    assert_eq!((&worker["status"], &worker["activeLeaseCount"]), (&json!("running"), &json!(1)));
    assert_eq!((&worker["oldestLeaseJobId"], &worker["nodeId"]), (&json!(running), &json!("one")));
    assert_eq!((&worker["queues"], &worker["transport"]), (&json!(["*"]), &json!("in_process")));
    assert_eq!((&worker["concurrency"], &worker["version"]), (&json!(2), &json!(env!("CARGO_PKG_VERSION"))));
    assert!(worker["types"].as_array().unwrap().contains(&json!("polite")));
    assert!(worker["heartbeatAgeMs"].as_i64() < Some(2_000) && worker["oldestLeaseAgeMs"].is_i64());
    assert_eq!(rig.api.get("/api/v1/workers?limit=1").await.expect(200).as_array().unwrap().len(), 1);

    let cordoned = rig.api.post("/api/v1/workers/one:local/cordon", &json!({})).await.expect(202);
    assert_eq!(cordoned["status"], "cordoned");
    assert_eq!(events.until("worker.cordoned").await.last().unwrap()["workerId"], "one:local");
    let waiting = rig.submit(json!({"type": "noop"})).await;
    rig.wait(&running, |job| job["state"] == "completed").await;
    // Its slots were lent before: they went back.
    elapse(Duration::from_millis(600)).await;
    let job = rig.job(&waiting).await;
    assert_eq!((&job["state"], &job["waitingFor"]), (&json!("queued"), &json!("worker")), "{job}");

    // It holds over a restart of the session.
    rig.node.platform().restart("node/workers/local").unwrap();
    wait_for("the session is back", SOON, || async {
        let actor = rig.api.get("/api/v1/supervision?path=node/workers/local").await.expect(200);
        if actor["status"] == "running" && actor["restarts"] == 1 { Ok(()) } else { Err(actor) }
    })
    .await;
    elapse(Duration::from_millis(400)).await;
    assert_eq!(rig.worker().await["status"], "cordoned");
    assert_eq!(rig.job(&waiting).await["state"], "queued");

    let resumed = rig.api.post("/api/v1/workers/one:local/resume", &json!({})).await.expect(202);
    assert_eq!(resumed["status"], "running");
    rig.wait(&waiting, |job| job["state"] == "completed").await;
    events.until("worker.resumed").await;
    assert_eq!(rig.api.get("/api/v1/workers/nobody").await.status, 404);
    assert_eq!(rig.api.post("/api/v1/workers/nobody/drain", &json!({})).await.status, 404);
    assert_eq!(rig.api.get("/api/v1/workers/%ff").await.status, 404);
    assert_eq!(rig.api.get("/api/v1/workers?cursor=x").await.status, 422);
    rig.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_drained_worker_is_stopped_when_it_runs_nothing_and_comes_back() {
    let rig = Rig::start(2).await;
    let mut events = rig.follow("topics=kind:worker.*").await;
    let running = rig.running(json!({"type": "noop", "payload": {"durationMs": 600}})).await;
    let draining = rig.api.post("/api/v1/workers/one:local/drain", &json!({})).await.expect(202);
    assert_eq!(draining["status"], "draining");
    let messages = events.until("worker.drained").await;
    assert_eq!(of_kind(&messages, "worker.draining").len(), 1);
    assert_eq!(rig.job(&running).await["state"], "completed", "what ran has ended first");
    assert_eq!(rig.worker().await["status"], "stopped");
    let again = rig.api.post("/api/v1/workers/one:local/drain", &json!({})).await.expect(202);
    assert_eq!(again["status"], "stopped", "asked again it stays so");
    rig.api.post("/api/v1/workers/one:local/resume", &json!({})).await.expect(202);
    let job = rig.submit(json!({"type": "noop"})).await;
    rig.wait(&job, |job| job["state"] == "completed").await;
    rig.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_job_of_a_type_that_no_worker_handles_waits_and_says_so_and_is_never_dead_lettered() {
    let rig = Rig::start(2).await;
    let id = rig.submit(json!({"type": "nobody.knows", "maxAttempts": 1})).await;
    let behind = rig.submit(json!({"type": "noop"})).await;
    rig.wait(&behind, |job| job["state"] == "completed").await;
    let job = rig.wait(&id, |job| job["waitingFor"] == "worker").await;
    assert_eq!((&job["state"], &job["attempts"]), (&json!("queued"), &json!(0)));
    elapse(TTL).await;
    let inspection = rig.api.get(&format!("/api/v1/jobs/{id}/inspection")).await.expect(200);
    assert_eq!((&inspection["job"]["state"], &inspection["attempts"]), (&json!("queued"), &json!([])));
    assert!(inspection.get("deadLetter").is_none());
    rig.node.shutdown().await.unwrap();
}
