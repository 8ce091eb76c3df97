//! Jobs of which there is to be one at a time, over real HTTP, before a real node.

#![expect(clippy::expect_used, reason = "a failed step fails the test")]

#[path = "support/mod.rs"]
mod support;

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use support::{Api, NodeProcess, PgServer};

/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(30);

fn job(user: u32, unique: &Value) -> Value {
    json!({"type": "noop", "queue": "q", "payload": {"user": user, "n": unique.to_string()}, "unique": unique})
}

async fn submit(api: &Api, body: &Value) -> (u16, Value) {
    let answer = api.post("/api/v1/jobs", body).await;
    (answer.status, answer.body)
}

async fn one_at_a_time(node: NodeProcess) {
    node.wait_ready(SOON).await;
    let api = node.api();
    let by_user = json!({"by": ["type", "/payload/user"]});
    let reject = json!({"by": ["/payload/user", "type"], "onConflict": "reject"});
    let (status, first) = submit(&api, &job(1, &by_user)).await;
    assert_eq!((status, &first["duplicateSuppressed"]), (202, &json!(false)));
    let (status, again) = submit(&api, &job(1, &by_user)).await;
    assert_eq!((status, &again["duplicateSuppressed"]), (200, &json!(true)), "{again}");
    assert_eq!(again["job"]["id"], first["job"]["id"]);
    let (status, refused) = submit(&api, &job(1, &reject)).await;
    assert_eq!(
        (status, &refused["code"], &refused["jobId"]),
        (409, &json!("not_unique"), &first["job"]["id"])
    );
    assert_eq!(submit(&api, &job(2, &reject)).await.0, 202);
    let mut other = job(1, &reject);
    other["tenantId"] = json!("acme");
    assert_eq!(submit(&api, &other).await.0, 202, "tenants have keys of their own");

    let at_once = join_all((0..40).map(|_| {
        let api = api.clone();
        async move { submit(&api, &job(3, &json!({"by": ["/payload/user"]}))).await }
    }))
    .await;
    assert_eq!(at_once.iter().filter(|(status, _)| *status == 202).count(), 1);
    assert!(at_once.iter().all(|(_, body)| body["job"]["id"] == at_once[0].1["job"]["id"]));

    let id = first["job"]["id"].as_str().expect("an id");
    api.post(&format!("/api/v1/jobs/{id}/cancel"), &json!({})).await.expect(202);
    assert_eq!(submit(&api, &job(1, &reject)).await.0, 202, "the key is free");

    let mixed = json!({"jobs": [job(4, &by_user), job(4, &by_user), job(5, &reject)]});
    let made = api.post("/api/v1/jobs/batch", &mixed).await.expect(202);
    assert_eq!(made[1]["job"]["id"], made[0]["job"]["id"]);
    assert_eq!(made[1]["duplicateSuppressed"], true);
    let refused = api.post("/api/v1/jobs/batch", &json!({"jobs": [job(6, &by_user), job(5, &reject)]})).await;
    let refused = refused.expect(409);
    assert_eq!(
        (&refused["jobId"], &refused["errors"][0]["pointer"]),
        (&made[2]["job"]["id"], &json!("/jobs/1"))
    );
    assert_eq!(submit(&api, &job(6, &reject)).await.0, 202, "nothing of the batch was kept");

    let replace = json!({"jobs": [job(7, &json!({"onConflict": "replace"}))]});
    let problem = api.post("/api/v1/jobs/batch", &replace).await.expect(422);
    assert_eq!(problem["errors"][0]["pointer"], "/jobs/0/unique/onConflict");
    for (unique, pointer) in [
        (json!({"by": []}), "/unique/by"),
        (json!({"by": ["tenant"]}), "/unique/by/0"),
        (json!({"by": "type"}), "/unique/by"),
        (json!({"states": []}), "/unique/states"),
        (json!({"states": ["running"]}), "/unique/states/0"),
        (json!({"periodSeconds": 0}), "/unique/periodSeconds"),
        (json!({"onConflict": "ignore"}), "/unique/onConflict"),
        (json!(true), "/unique"),
    ] {
        let (status, problem) = submit(&api, &job(8, &unique)).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!(pointer)), "{unique}: {problem}");
    }
}

#[tokio::test]
async fn a_key_is_one_jobs_at_a_time_on_sqlite() {
    one_at_a_time(NodeProcess::builder().env("WORKER_CONCURRENCY", 0).start().await).await;
}

#[tokio::test]
async fn a_key_is_one_jobs_at_a_time_on_postgres() {
    let database = PgServer::shared().create_database().await;
    one_at_a_time(NodeProcess::builder().postgres(&database).env("WORKER_CONCURRENCY", 0).start().await)
        .await;
}

async fn replaced(node: NodeProcess) {
    node.wait_ready(SOON).await;
    let api = node.api();
    let unique = json!({"by": ["queue", "/payload/user"], "onConflict": "replace"});
    let body =
        |n: u32| json!({"type": "nobody", "queue": "q", "payload": {"user": 1, "n": n}, "unique": unique});
    let (status, first) = submit(&api, &body(1)).await;
    assert_eq!(status, 202);
    let (status, again) = submit(&api, &body(2)).await;
    assert_eq!((status, &again["duplicateSuppressed"]), (200, &json!(true)), "{again}");
    assert_eq!((&again["job"]["id"], &again["job"]["payload"]["n"]), (&first["job"]["id"], &json!(2)));
    let mut other = body(3);
    other["type"] = json!("noop");
    let (status, refused) = submit(&api, &other).await;
    assert_eq!((status, &refused["code"]), (409, &json!("not_unique")), "a payload is its type's");

    let running = |n: u32| json!({"type": "noop", "queue": "q", "payload": {"user": 2, "n": n, "durationMs": 2000}, "unique": unique});
    let (_, first) = submit(&api, &running(1)).await;
    let id = first["job"]["id"].as_str().expect("an id").to_owned();
    support::wait_for("the job to run", SOON, || async {
        let state = api.get(&format!("/api/v1/jobs/{id}")).await.expect(200)["state"].clone();
        if state == "active" { Ok(()) } else { Err(state) }
    })
    .await;
    let (status, refused) = submit(&api, &running(2)).await;
    assert_eq!((status, &refused["code"], &refused["jobId"]), (409, &json!("not_unique"), &json!(id)));
    api.get(&format!("/api/v1/jobs/{id}/wait?timeoutSeconds=20")).await.expect(200);
    let (status, next) = submit(&api, &running(3)).await;
    assert_eq!(status, 202, "{next}");
}

#[tokio::test]
async fn a_waiting_job_takes_the_new_payload_on_sqlite() {
    replaced(NodeProcess::builder().env("WORKER_CONCURRENCY", 2).start().await).await;
}

#[tokio::test]
async fn a_waiting_job_takes_the_new_payload_on_postgres() {
    let database = PgServer::shared().create_database().await;
    replaced(NodeProcess::builder().postgres(&database).env("WORKER_CONCURRENCY", 2).start().await).await;
}
