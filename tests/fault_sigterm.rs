//! SIGTERM under load: exit 0, no attempt used up, everything acknowledged still there, on both engines.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed step fails the test"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use support::history::{Dump, JobDump, Recorder, assert_sound, load};
use support::wait::elapse;
use support::{Api, NodeProcess, PgServer, wait_for};
use tokio::task::JoinSet;

const SOON: Duration = Duration::from_secs(30);
/// What the node gives running jobs.
const GRACE: Duration = Duration::from_secs(2);
/// Well over the grace: given back. Short enough to be waited for after the restart.
const LONG_MS: u64 = 6_000;
/// Well within the grace: it ends, and its end counts.
const SHORT_MS: u64 = 700;
/// After the grace handlers are stopped, their reports written and the store closed.
const EXIT_DEADLINE: Duration = Duration::from_secs(15);
const CLIENTS: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_charges_and_loses_nothing_on_sqlite() {
    sigterm_charges_and_loses_nothing(NodeProcess::builder()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_charges_and_loses_nothing_on_postgres() {
    let database = PgServer::shared().create_database().await;
    sigterm_charges_and_loses_nothing(NodeProcess::builder().postgres(&database)).await;
}

async fn sigterm_charges_and_loses_nothing(settings: support::NodeBuilder) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let history = Arc::new(Recorder::create(&path));
    let grace = format!("{}ms", GRACE.as_millis());
    let mut node = settings.env("WORKER_CONCURRENCY", 6).env("SHUTDOWN_GRACE", grace).start().await;
    node.wait_ready(SOON).await;
    let api = node.api();
    let mut long = Vec::new();
    for number in 0..3 {
        long.push(submit(&api, &history, &format!("long-{number}"), LONG_MS).await.expect("submitted"));
    }
    let short = submit(&api, &history, "short", SHORT_MS).await.expect("submitted");
    for job in long.iter().chain([&short]) {
        wait_active(&api, job).await;
    }
    // More than the free slots can run, so that some wait when the node is stopped.
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(client_until_gone(api.clone(), history.clone(), client));
    }
    elapse(Duration::from_millis(300)).await;

    node.sigterm();
    let status = node.wait_exit(EXIT_DEADLINE).await;
    let acknowledged: usize = clients.join_all().await.into_iter().sum();

    assert!(status.success(), "{status:?}");
    node.restart().await;
    node.wait_ready(SOON).await;
    let api = node.api();
    let first = Dump::fetch(&api, false).await;
    let dump = completed(&api).await;
    assert_sound(&load(&path), &dump);
    assert!(acknowledged > 10, "vacuous: {acknowledged} jobs were acknowledged under load");
    let waited = first.jobs.iter().filter(|job| job.state() == "queued").count();
    assert!(waited > 0, "vacuous: nothing was left to do");
    for job in &dump.jobs {
        let statuses: Vec<&str> = job.attempts.iter().filter_map(|row| row["status"].as_str()).collect();
        let charged = statuses.iter().filter(|status| **status != "released").count();
        assert_eq!((job.state(), charged), ("completed", 1), "job {}: {statuses:?}", job.id());
        assert_eq!(job.job["attempts"], 1, "an attempt was used up: {statuses:?}");
    }
    let attempts = |id: &str| {
        let job: &JobDump = dump.jobs.iter().find(|job| job.id() == id).expect("it is there");
        job.attempts.iter().map(|row| row["status"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for job in &long {
        assert_eq!(attempts(job), ["released", "completed"]);
    }
    assert_eq!(attempts(&short), ["completed"], "it could have ended within the grace");
}

/// Submits jobs of a few milliseconds until the node turns it away; how many it acknowledged.
async fn client_until_gone(api: Api, history: Arc<Recorder>, client: u64) -> usize {
    let mut acknowledged = 0;
    while submit(&api, &history, &format!("c{client}-{acknowledged}"), 20).await.is_some() {
        acknowledged += 1;
    }
    acknowledged
}

/// The job's id, or `None` when the node has gone or is going.
async fn submit(api: &Api, history: &Recorder, key: &str, duration_ms: u64) -> Option<String> {
    let proc = 0;
    let body = json!({"type": "noop", "idempotencyKey": key, "payload": {"durationMs": duration_ms}});
    history.invoke(proc, "submit", json!({ "key": key }));
    let answer = api.send(Method::POST, "/api/v1/jobs", Some(&body)).await;
    match answer {
        Ok(answer) if answer.status == 202 => {
            let id = answer.body["job"]["id"].as_str().expect("an id").to_owned();
            history.ok(proc, "submit", json!({"key": key, "jobId": id}));
            Some(id)
        }
        Ok(answer) => {
            // A node that stops says so; it never fails what it was asked.
            assert_eq!(answer.status, 503, "{}", answer.body);
            history.info(proc, "submit", json!({ "key": key }));
            None
        }
        Err(error) => {
            let never_sent = error.is_connect();
            let record = if never_sent { Recorder::fail } else { Recorder::info };
            record(history, proc, "submit", json!({ "key": key }));
            None
        }
    }
}

async fn wait_active(api: &Api, job: &str) {
    wait_for("it runs", SOON, || async {
        let job: Value = api.get(&format!("/api/v1/jobs/{job}")).await.expect(200);
        if job["state"] == "active" { Ok(()) } else { Err(job["state"].clone()) }
    })
    .await;
}

async fn completed(api: &Api) -> Dump {
    wait_for("every job ends", SOON * 2, || async {
        let jobs = api.get("/api/v1/jobs?limit=1&state=queued,active,retrying,scheduled").await.expect(200);
        if jobs == json!([]) { Ok(()) } else { Err(jobs) }
    })
    .await;
    Dump::fetch(api, true).await
}
