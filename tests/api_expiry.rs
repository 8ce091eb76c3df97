//! Jobs that must start before a time, over real HTTP, before a real node.

#![expect(clippy::expect_used, reason = "a failed step fails the test")]

#[path = "support/mod.rs"]
mod support;

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use support::{Api, NodeProcess, PgServer};

/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(30);

fn after(millis: i64) -> String {
    (DateTime::<Utc>::from(std::time::UNIX_EPOCH) + now() + TimeDelta::milliseconds(millis))
        .to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn now() -> TimeDelta {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    TimeDelta::from_std(since).expect("a time")
}

async fn make(api: &Api, body: Value) -> String {
    api.post("/api/v1/jobs", &body).await.expect(202)["job"]["id"].as_str().expect("an id").to_owned()
}

/// Waits until the job has expired; how late that was, in milliseconds.
async fn expired(api: &Api, id: &str) -> i64 {
    let job = api.get(&format!("/api/v1/jobs/{id}/wait?timeoutSeconds=20")).await.expect(200);
    assert_eq!(job["state"], "canceled", "{job}");
    let events = api.get(&format!("/api/v1/jobs/{id}/events")).await.expect(200);
    let end = events.as_array().and_then(|rows| rows.last()).expect("an end");
    assert_eq!((&end["type"], &end["metadata"]["reason"]), (&json!("job.canceled"), &json!("expired")));
    let time = |name: &str| -> DateTime<Utc> { job[name].as_str().expect(name).parse().expect("a time") };
    (time("finishedAt") - time("expiresAt")).num_milliseconds()
}

async fn jobs_expire(mut node: NodeProcess) {
    node.wait_ready(SOON).await;
    let api = node.api();
    let at = after(1_500);
    // Nobody handles this type: the one waits for a worker, the others for other things besides.
    let mut jobs = vec![make(&api, json!({"type": "nobody", "expiresAt": at})).await];
    let waits = make(&api, json!({"type": "nobody"})).await;
    jobs.push(make(&api, json!({"type": "noop", "dependencies": [waits], "expiresAt": at})).await);
    jobs.push(make(&api, json!({"type": "noop", "delaySeconds": 3600, "expiresAt": at})).await);
    let body = json!({"jobs": [{"type": "nobody", "queue": "other", "expiresAt": at}]});
    let made = api.post("/api/v1/jobs/batch", &body).await.expect(202);
    jobs.push(made[0]["job"]["id"].as_str().expect("an id").to_owned());
    let started = json!({"type": "noop", "payload": {"durationMs": 3000}, "expiresAt": at});
    let started = make(&api, started).await;
    let shown = api.get(&format!("/api/v1/jobs/{}", jobs[0])).await.expect(200);
    let time: DateTime<Utc> = shown["expiresAt"].as_str().expect("is shown").parse().expect("a time");
    assert_eq!(time, at.parse::<DateTime<Utc>>().expect("a time"));
    for job in &jobs {
        let late = expired(&api, job).await;
        assert!((0..1_000).contains(&late), "{late} ms late");
    }
    let done = api.get(&format!("/api/v1/jobs/{started}/wait?timeoutSeconds=20")).await.expect(200);
    assert_eq!(done["state"], "completed", "it had started");

    // While no node runs nothing expires; the next start makes up for it, and grants none of them.
    let missed = make(&api, json!({"type": "noop", "delaySeconds": 0.5, "expiresAt": after(500)})).await;
    node.kill9();
    support::wait::elapse(Duration::from_millis(700)).await;
    node.restart().await;
    node.wait_ready(SOON).await;
    expired(&node.api(), &missed).await;
}

#[tokio::test]
async fn what_has_not_started_in_time_is_canceled_on_sqlite() {
    jobs_expire(NodeProcess::builder().env("WORKER_CONCURRENCY", 2).start().await).await;
}

#[tokio::test]
async fn what_has_not_started_in_time_is_canceled_on_postgres() {
    let database = PgServer::shared().create_database().await;
    jobs_expire(NodeProcess::builder().postgres(&database).env("WORKER_CONCURRENCY", 2).start().await).await;
}

#[tokio::test]
async fn a_job_at_the_head_of_a_busy_queue_is_never_started_after_its_time() {
    // One worker that is busy over the time: the grant itself finds that it is over.
    let node = NodeProcess::builder().env("WORKER_CONCURRENCY", 1).start().await;
    node.wait_ready(SOON).await;
    let api = node.api();
    make(&api, json!({"type": "noop", "payload": {"durationMs": 1000}})).await;
    let at = after(950);
    let mut late = Vec::new();
    for _ in 0..20 {
        late.push(make(&api, json!({"type": "noop", "payload": {"durationMs": 200}, "expiresAt": at})).await);
    }
    let next = make(&api, json!({"type": "noop"})).await;
    let done = api.get(&format!("/api/v1/jobs/{next}/wait?timeoutSeconds=20")).await.expect(200);
    assert_eq!(done["state"], "completed");
    for id in late {
        let job = api.get(&format!("/api/v1/jobs/{id}/wait?timeoutSeconds=20")).await.expect(200);
        let started = job["startedAt"].as_str().map(|at| at.parse::<DateTime<Utc>>().expect("a time"));
        let in_time = started.is_some_and(|started| started < at.parse::<DateTime<Utc>>().expect("a time"));
        assert_eq!(job["state"], if in_time { "completed" } else { "canceled" }, "{job}");
        assert_eq!(started.is_some(), in_time);
    }
    let overview = api.get("/api/v1/overview").await.expect(200);
    assert_eq!((&overview["queuedJobs"], &overview["activeJobs"]), (&json!(0), &json!(0)));
}
