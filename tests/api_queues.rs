//! Queues over HTTP, before a real node: settings, pause, drain, purge, and what jobs say of them.

#![expect(clippy::expect_used, reason = "a failed step fails the test")]

#[path = "support/mod.rs"]
mod support;

use std::time::Duration;

use futures_util::{StreamExt, future::join_all};
use serde_json::{Value, json};
use support::{Api, NodeBuilder, NodeProcess, PgServer, wait_for};
use tokio_tungstenite::connect_async;

/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// What the contract gives a control to be in force.
const IN_FORCE: Duration = Duration::from_secs(1);

async fn node(workers: u32) -> (NodeProcess, Api) {
    start(NodeProcess::builder(), workers).await
}

async fn on_postgres(workers: u32) -> (NodeProcess, Api) {
    let database = PgServer::shared().create_database().await;
    start(NodeProcess::builder().postgres(&database), workers).await
}

async fn start(builder: NodeBuilder, workers: u32) -> (NodeProcess, Api) {
    let node = builder.env("WORKER_CONCURRENCY", workers).start().await;
    node.wait_ready(SOON).await;
    let api = node.api();
    (node, api)
}

/// A job of the built-in kind that takes some time.
fn noop(queue: &str, duration_ms: u32) -> Value {
    json!({"type": "noop", "queue": queue, "payload": {"durationMs": duration_ms}})
}

async fn submit(api: &Api, body: &Value) -> String {
    let made = api.post("/api/v1/jobs", body).await.expect(202);
    made["job"]["id"].as_str().expect("an id").to_owned()
}

async fn job(api: &Api, id: &str) -> Value {
    api.get(&format!("/api/v1/jobs/{id}")).await.expect(200)
}

async fn queue(api: &Api, name: &str) -> Value {
    api.get(&format!("/api/v1/queues/{name}")).await.expect(200)
}

async fn order(api: &Api, name: &str, order: &str) -> Value {
    api.post(&format!("/api/v1/queues/{name}/{order}"), &json!({})).await.expect(200)
}

/// The codes with which a job explains itself.
async fn codes(api: &Api, id: &str) -> Vec<String> {
    let explained = api.get(&format!("/api/v1/jobs/{id}/explain")).await.expect(200);
    let reasons = explained["reasons"].as_array().expect("reasons");
    reasons.iter().map(|reason| reason["code"].as_str().expect("a code").to_owned()).collect()
}

async fn wait_state(api: &Api, id: &str, state: &str) -> Value {
    wait_for(state, SOON, || async {
        let job = job(api, id).await;
        if job["state"] == state { Ok(job) } else { Err(job) }
    })
    .await
}

async fn wait_waiting_for(api: &Api, id: &str, what: &str, within: Duration) {
    wait_for(what, within, || async {
        let job = job(api, id).await;
        if job["waitingFor"] == what { Ok(()) } else { Err(job) }
    })
    .await;
}

#[tokio::test]
async fn a_paused_queue_starts_nothing_until_it_is_resumed() {
    let (_node, api) = node(2).await;
    let running = submit(&api, &noop("mail", 1_500)).await;
    wait_state(&api, &running, "active").await;
    let paused = order(&api, "mail", "pause").await;
    assert_eq!((&paused["paused"], &paused["draining"]), (&json!(true), &json!(false)));
    // A queue is made by its pause.
    assert_eq!(order(&api, "new", "pause").await["counts"]["queued"], 0);
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(submit(&api, &noop("mail", 0)).await);
    }
    let later = submit(&api, &json!({"type": "noop", "queue": "mail", "delaySeconds": 3_600})).await;
    for id in &waiting {
        assert_eq!(job(&api, id).await["waitingFor"], "pause");
    }
    assert_eq!(job(&api, &later).await["waitingFor"], "time");
    let listed = api.get("/api/v1/jobs?queue=mail&state=queued").await.expect(200);
    assert!(listed.as_array().expect("a list").iter().all(|job| job["waitingFor"] == "pause"));
    assert_eq!(codes(&api, &waiting[0]).await[0], "queue_paused");
    let third = api.get(&format!("/api/v1/jobs/{}/explain", waiting[2])).await.expect(200);
    assert_eq!((&third["state"], &third["position"]), (&json!("queued"), &json!(3)));
    // What runs goes on, and nothing takes its place.
    wait_state(&api, &running, "completed").await;
    let counts = queue(&api, "mail").await["counts"].clone();
    assert_eq!((&counts["queued"], &counts["active"]), (&json!(3), &json!(0)));
    assert!(queue(&api, "mail").await["oldestQueuedAgeMs"].as_i64() > Some(0));
    assert_eq!(order(&api, "mail", "resume").await["paused"], false);
    for id in &waiting {
        wait_state(&api, id, "completed").await;
    }
    let view = wait_for("the queue has told", SOON, || async {
        let view = queue(&api, "mail").await;
        if view["counts"]["completed"] == 4 { Ok(view) } else { Err(view) }
    })
    .await;
    assert!(view["throughput"]["lastMinute"].as_f64() > Some(0.0), "{view}");
    assert!(view["latency"]["execution"]["p99Ms"].as_f64() > Some(1_000.0), "{view}");
    assert!(view["latency"]["queue"]["p50Ms"].is_number() && view["owner"].is_string(), "{view}");
    assert_eq!(view["oldestQueuedAgeMs"], 0);
}

#[tokio::test]
async fn a_drain_refuses_new_jobs_finishes_what_waits_and_stays_paused() {
    drain(node(1).await).await;
}

#[tokio::test]
async fn a_drain_refuses_new_jobs_finishes_what_waits_and_stays_paused_on_postgres() {
    drain(on_postgres(1).await).await;
}

async fn drain((_node, api): (NodeProcess, Api)) {
    let keyed =
        json!({"type": "noop", "queue": "mail", "idempotencyKey": "k", "payload": {"durationMs": 300}});
    let first = submit(&api, &keyed).await;
    let second = submit(&api, &noop("mail", 300)).await;
    let later = submit(&api, &json!({"type": "noop", "queue": "mail", "delaySeconds": 3_600})).await;
    let draining = order(&api, "mail", "drain").await;
    assert_eq!((&draining["paused"], &draining["draining"]), (&json!(false), &json!(true)));
    let refused = api.post("/api/v1/jobs", &noop("mail", 0)).await;
    assert_eq!((refused.status, &refused.body["code"]), (503, &json!("queue_draining")));
    assert!(refused.header("retry-after").is_some());
    assert!(codes(&api, &later).await.contains(&"queue_draining".to_owned()));
    // Another queue takes jobs.
    submit(&api, &noop("other", 0)).await;
    let drained = wait_for("the queue is drained", SOON, || async {
        let view = queue(&api, "mail").await;
        if view["paused"] == true { Ok(view) } else { Err(view) }
    })
    .await;
    for id in [&first, &second] {
        assert_eq!(job(&api, id).await["state"], "completed");
    }
    assert_eq!((&drained["draining"], &drained["counts"]["scheduled"]), (&json!(true), &json!(1)));
    assert_eq!(api.post("/api/v1/jobs", &noop("mail", 0)).await.status, 503, "until it is resumed");
    let repeat = api.post("/api/v1/jobs", &keyed).await.expect(200);
    assert_eq!((&repeat["duplicateSuppressed"], &repeat["job"]["id"]), (&json!(true), &json!(first)));
    let new_key = json!({"type": "noop", "queue": "mail", "idempotencyKey": "new"});
    assert_eq!(api.post("/api/v1/jobs", &new_key).await.status, 503);
    let resumed = order(&api, "mail", "resume").await;
    assert_eq!((&resumed["paused"], &resumed["draining"]), (&json!(false), &json!(false)));
    let after = submit(&api, &noop("mail", 0)).await;
    wait_state(&api, &after, "completed").await;
}

#[tokio::test]
async fn no_more_jobs_run_at_once_than_the_queue_may() {
    let (_node, api) = node(4).await;
    let put = api.put("/api/v1/queues/serial", &json!({"concurrency": 1})).await.expect(200);
    assert_eq!((&put["concurrency"], &put["config"]["concurrency"]), (&json!(1), &json!(1)));
    let mut jobs = Vec::new();
    for _ in 0..6 {
        jobs.push(submit(&api, &noop("serial", 200)).await);
    }
    wait_waiting_for(&api, &jobs[5], "concurrency_limit", SOON).await;
    let why = codes(&api, &jobs[5]).await;
    assert!(why.contains(&"concurrency_limited".to_owned()), "{why:?}");
    let mut times = Vec::new();
    for id in &jobs {
        let job = wait_state(&api, id, "completed").await;
        let time = |field: &str| job[field].as_str().expect("a time").to_owned();
        times.push((time("startedAt"), time("finishedAt")));
    }
    times.sort();
    for pair in times.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "two ran at once: {pair:?}");
    }
    // Raised while they run: without a restart.
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(submit(&api, &noop("serial", 3_000)).await);
    }
    api.put("/api/v1/queues/serial", &json!({"concurrency": 3})).await.expect(200);
    wait_for("three run", IN_FORCE, || async {
        let view = queue(&api, "serial").await;
        if view["counts"]["active"] == 3 { Ok(()) } else { Err(view) }
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_submissions_fills_a_queue_exactly() {
    flood(node(0).await).await;
}

#[tokio::test]
async fn a_flood_of_submissions_fills_a_queue_exactly_on_postgres() {
    flood(on_postgres(0).await).await;
}

async fn flood((_node, api): (NodeProcess, Api)) {
    api.put("/api/v1/queues/small", &json!({"maxDepth": 50})).await.expect(200);
    let body = noop("small", 0);
    let answers = join_all((0..200).map(|_| api.post("/api/v1/jobs", &body))).await;
    let made = answers.iter().filter(|answer| answer.status == 202).count();
    for full in answers.iter().filter(|answer| answer.status != 202) {
        assert_eq!((full.status, &full.body["code"]), (429, &json!("queue_full")));
        assert!(full.header("retry-after").is_some());
    }
    assert_eq!(made, 50);
    wait_for("all are counted", IN_FORCE, || async {
        let counts = queue(&api, "small").await["counts"].clone();
        if counts["queued"] == 50 { Ok(()) } else { Err(counts) }
    })
    .await;
    api.put("/api/v1/queues/small", &json!({"maxDepth": 51})).await.expect(200);
    submit(&api, &body).await;
    assert_eq!(api.post("/api/v1/jobs", &body).await.status, 429);
    api.put("/api/v1/queues/small", &json!({"maxDepth": null})).await.expect(200);
    submit(&api, &body).await;
}

#[tokio::test]
async fn a_purge_cancels_all_that_waits_and_nothing_that_runs() {
    purge(node(1).await).await;
}

#[tokio::test]
async fn a_purge_cancels_all_that_waits_and_nothing_that_runs_on_postgres() {
    purge(on_postgres(1).await).await;
}

async fn purge((_node, api): (NodeProcess, Api)) {
    let running = submit(&api, &noop("mail", 4_000)).await;
    wait_state(&api, &running, "active").await;
    let count = 1_500;
    let bodies: Vec<Value> = (0..count)
        .map(|n| match n % 5 {
            0 => json!({"type": "noop", "queue": "mail", "delaySeconds": 3_600 + n}),
            1 => json!({"type": "noop", "queue": "mail", "dependencies": [running.clone()]}),
            2 => json!({"type": "nobody.knows", "queue": "mail"}),
            _ => json!({"type": "noop", "queue": "mail", "priority": n % 10}),
        })
        .collect();
    for part in bodies.chunks(100) {
        for answer in join_all(part.iter().map(|body| api.post("/api/v1/jobs", body))).await {
            answer.expect(202);
        }
    }
    let other = submit(&api, &json!({"type": "noop", "queue": "other", "delaySeconds": 3_600})).await;
    let counted = api.post("/api/v1/queues/mail/purge", &json!({"dryRun": true})).await.expect(200);
    assert_eq!(counted, json!({"matched": count, "changed": 0, "skipped": 0, "finished": true}));
    let purged = api.post("/api/v1/queues/mail/purge", &json!({"reason": "a mistake"})).await.expect(200);
    assert_eq!((&purged["changed"], &purged["finished"]), (&json!(count), &json!(true)), "{purged}");
    wait_for("the counts are right", SOON, || async {
        let counts = queue(&api, "mail").await["counts"].clone();
        let waiting = ["queued", "scheduled", "retrying", "blocked", "throttled"];
        let left: i64 = waiting.iter().map(|state| counts[state].as_i64().expect("a count")).sum();
        if left == 0 && counts["canceled"] == count { Ok(()) } else { Err(counts) }
    })
    .await;
    assert_eq!(job(&api, &other).await["state"], "scheduled");
    wait_state(&api, &running, "completed").await;
    // The queue goes on.
    let next = submit(&api, &noop("mail", 0)).await;
    wait_state(&api, &next, "completed").await;
    assert_eq!(api.post("/api/v1/queues/nowhere/purge", &json!({})).await.status, 404);
}

#[tokio::test]
async fn settings_outlive_the_node_and_the_queue_s_actor() {
    let (mut node, api) = node(1).await;
    let config = json!({
        "concurrency": 7, "maxDepth": 1_000, "agingSeconds": 2.5, "leaseTtlSeconds": 9, "partitions": 1,
        "fairness": {"by": "none"}, "retry": {"strategy": "fixed", "baseSeconds": 3.0, "maxSeconds": 3.0, "jitter": 0.0},
    });
    let put = api.put("/api/v1/queues/mail", &config).await.expect(200);
    assert_eq!((&put["name"], &put["config"]), (&json!("mail"), &config));
    // A name may hold slashes.
    assert_eq!(api.put("/api/v1/queues/a%2Fb", &config).await.expect(200)["name"], "a/b");
    assert_eq!(queue(&api, "a%2Fb").await["config"], config);
    order(&api, "mail", "pause").await;
    let waiting = submit(&api, &noop("mail", 0)).await;
    let is_as_set = |view: &Value| view["config"] == config && view["paused"] == true;
    // The actor alone.
    let tree = api.get("/api/v1/supervision?kind=queue&limit=1000").await.expect(200);
    let path = find_path(&tree, "mail").expect("the queue is in the tree");
    api.post("/api/v1/supervision/restart", &json!({"path": path})).await.expect(202);
    wait_for("as set after a restart of the actor", SOON, || async {
        let view = queue(&api, "mail").await;
        if is_as_set(&view) { Ok(()) } else { Err(view) }
    })
    .await;
    assert_eq!(job(&api, &waiting).await["waitingFor"], "pause");
    // The node.
    node.restart().await;
    node.wait_ready(SOON).await;
    let api = node.api();
    wait_for("as set after a restart of the node", SOON, || async {
        let answer = api.get("/api/v1/queues/mail").await;
        if answer.status == 200 && is_as_set(&answer.body) { Ok(()) } else { Err(answer.body) }
    })
    .await;
    assert_eq!(job(&api, &waiting).await["state"], "queued");
    order(&api, "mail", "resume").await;
    wait_state(&api, &waiting, "completed").await;
}

/// The path of the actor of a queue.
fn find_path(node: &Value, queue: &str) -> Option<String> {
    let path = node["path"].as_str().unwrap_or_default();
    if node["kind"] == "queue" && path.ends_with(&format!("/{queue}/queue")) {
        return Some(path.to_owned());
    }
    node["children"].as_array()?.iter().find_map(|child| find_path(child, queue))
}

#[tokio::test]
async fn a_job_says_why_it_does_not_run() {
    let node = NodeProcess::builder().env("WORKER_CONCURRENCY", 1).env("WORKER_QUEUES", "mail").start().await;
    node.wait_ready(SOON).await;
    let api = node.api();
    let nobody = submit(&api, &noop("unserved", 0)).await;
    assert_eq!(codes(&api, &nobody).await, ["no_worker"]);
    wait_waiting_for(&api, &nobody, "worker", IN_FORCE).await;
    let unknown = submit(&api, &json!({"type": "nobody.knows", "queue": "mail"})).await;
    assert_eq!(codes(&api, &unknown).await[0], "no_worker");
    let running = submit(&api, &noop("mail", 6_000)).await;
    wait_state(&api, &running, "active").await;
    assert_eq!(codes(&api, &running).await, ["running"]);
    let next = submit(&api, &noop("mail", 0)).await;
    let behind = submit(&api, &noop("mail", 0)).await;
    assert_eq!(codes(&api, &next).await, ["workers_busy"]);
    assert_eq!(codes(&api, &behind).await, ["workers_busy", "behind_others"]);
    wait_waiting_for(&api, &next, "worker", IN_FORCE).await;
    wait_waiting_for(&api, &behind, "turn", IN_FORCE).await;
    let scheduled = submit(&api, &json!({"type": "noop", "queue": "mail", "delaySeconds": 3_600})).await;
    let explained = api.get(&format!("/api/v1/jobs/{scheduled}/explain")).await.expect(200);
    assert_eq!(explained["reasons"][0]["code"], "scheduled");
    assert_eq!(explained["reasons"][0]["until"], explained["estimatedStartAt"]);
    let blocked =
        submit(&api, &json!({"type": "noop", "queue": "mail", "dependencies": [running, scheduled]})).await;
    let explained = api.get(&format!("/api/v1/jobs/{blocked}/explain")).await.expect(200);
    let mut parents = vec![running.clone(), scheduled.clone()];
    parents.sort();
    assert_eq!(explained["reasons"][0]["code"], "waiting_dependency");
    assert_eq!(explained["reasons"][0]["dependsOn"], json!(parents));
    assert_eq!(job(&api, &blocked).await["waitingFor"], "dependency");
    wait_state(&api, &behind, "completed").await;
    assert_eq!(codes(&api, &behind).await, ["finished"]);
    let gone = "/api/v1/jobs/01890000-0000-7000-8000-000000000000/explain";
    assert_eq!(api.get(gone).await.status, 404);
}

#[tokio::test]
async fn what_is_done_to_a_queue_is_told_on_the_streams() {
    let (_node, api) = node(1).await;
    let ticket = api.post("/api/v1/tickets", &json!({})).await.expect(201);
    let base = api.base().replace("http://", "ws://");
    let ticket = ticket["ticket"].as_str().expect("a ticket");
    let (mut socket, _) = connect_async(format!("{base}/ws/events?topics=kind:queue.*&ticket={ticket}"))
        .await
        .expect("connects");
    order(&api, "mail", "pause").await;
    order(&api, "mail", "resume").await;
    api.put("/api/v1/queues/mail", &json!({"concurrency": 1})).await.expect(200);
    api.post("/api/v1/queues/mail/purge", &json!({})).await.expect(200);
    order(&api, "mail", "drain").await;
    let mut kinds = Vec::new();
    while kinds.last().map(String::as_str) != Some("queue.drained") {
        let message = tokio::time::timeout(SOON, socket.next()).await.expect("in time");
        let text = message.expect("goes on").expect("a message").into_text().expect("text");
        let event: Value = serde_json::from_str(&text).unwrap_or_default();
        let kind = event["kind"].as_str().unwrap_or_default();
        if kind.starts_with("queue.") {
            assert_eq!(event["queue"], "mail");
            kinds.push(kind.to_owned());
        }
    }
    let told = [
        "queue.paused",
        "queue.resumed",
        "queue.configured",
        "queue.purged",
        "queue.draining",
        "queue.drained",
    ];
    assert_eq!(kinds, told);
}

#[tokio::test]
async fn retry_policy_and_lease_time_are_the_queue_s() {
    let (_node, api) = node(2).await;
    let settings = json!({
        "retry": {"strategy": "fixed", "baseSeconds": 3_600, "maxSeconds": 3_600, "jitter": 0},
        "leaseTtlSeconds": 1,
    });
    api.put("/api/v1/queues/mail", &settings).await.expect(200);
    let failing = json!({"type": "noop", "queue": "mail", "payload": {"forceError": true}});
    let failing = submit(&api, &failing).await;
    // Longer than its lease, which is renewed in time.
    let long = submit(&api, &noop("mail", 3_500)).await;
    wait_state(&api, &failing, "retrying").await;
    assert_eq!(codes(&api, &failing).await, ["retry_backoff"]);
    assert_eq!(job(&api, &failing).await["waitingFor"], "backoff");
    let times = job(&api, &failing).await;
    let seconds = |field: &str| {
        let at = chrono::DateTime::parse_from_rfc3339(times[field].as_str().expect("a time"));
        at.expect("RFC 3339").timestamp()
    };
    let delay = seconds("runAt") - seconds("createdAt");
    assert!((3_590..3_700).contains(&delay), "{delay}");
    let long = wait_state(&api, &long, "completed").await;
    assert_eq!(long["attempts"], 1);
}

#[tokio::test]
async fn queues_are_listed_by_name_and_bad_settings_change_nothing() {
    let (_node, api) = node(0).await;
    for name in ["b", "a", "d", "c", "e"] {
        api.put(&format!("/api/v1/queues/{name}"), &json!({"concurrency": 1})).await.expect(200);
    }
    let (mut names, mut next) = (Vec::new(), Some("/api/v1/queues?limit=2".to_owned()));
    while let Some(path) = next {
        let page = api.get(&path).await;
        next = page.next_page();
        for view in page.expect(200).as_array().expect("a list") {
            names.push(view["name"].as_str().expect("a name").to_owned());
        }
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    assert_eq!(api.get("/api/v1/queues?limit=1001").await.status, 422);
    assert_eq!(api.get("/api/v1/queues?cursor=ag").await.status, 422);
    assert_eq!(api.get("/api/v1/queues/none").await.status, 404);
    assert_eq!(api.put("/api/v1/queues/-bad", &json!({})).await.status, 422);
    assert_eq!(api.post("/api/v1/queues/a%20b/pause", &json!({})).await.status, 422);
    for order in ["resume", "drain"] {
        assert_eq!(api.post(&format!("/api/v1/queues/none/{order}"), &json!({})).await.status, 404);
    }
    for (body, pointer) in [
        (json!({"concurrency": 0}), "/concurrency"),
        (json!({"concurrency": 5, "maxDepth": -1}), "/maxDepth"),
        (json!({"fairness": {"by": "tenant"}}), "/fairness/by"),
        (json!({"partitions": 2}), "/partitions"),
        (json!({"retry": {"jitter": 7}}), "/retry/jitter"),
        (json!({"concurrency": "many"}), "/concurrency"),
    ] {
        let refused = api.put("/api/v1/queues/a", &body).await;
        assert_eq!((refused.status, &refused.body["errors"][0]["pointer"]), (422, &json!(pointer)));
    }
    assert_eq!(queue(&api, "a").await["config"], json!({"concurrency": 1}));
    // No body at all is as good as an empty one.
    assert_eq!(api.post_raw("/api/v1/queues/a/pause", &[], "").await.expect(200)["paused"], true);
}
