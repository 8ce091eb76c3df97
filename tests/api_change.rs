//! Jobs that are changed, moved, forgotten and dealt with by the thousand, on a real node.

#![expect(clippy::expect_used, reason = "a failed step fails the test")]

#[path = "support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use support::{Api, NodeProcess, PgServer, wait_for};

/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// What keeps the node's data.
#[derive(Clone, Copy)]
enum Engine {
    Sqlite,
    Postgres,
}

/// A node with this many workers, which serve only the queue `run`.
async fn node(engine: Engine, workers: usize) -> (NodeProcess, Api) {
    let builder = NodeProcess::builder().env("WORKER_QUEUES", "run").env("WORKER_CONCURRENCY", workers);
    let node = match engine {
        Engine::Sqlite => builder,
        Engine::Postgres => builder.postgres(&PgServer::shared().create_database().await),
    }
    .start()
    .await;
    node.wait_ready(SOON).await;
    let api = node.api();
    (node, api)
}

async fn submit(api: &Api, body: Value) -> String {
    let made = api.post("/api/v1/jobs", &body).await.expect(202);
    made["job"]["id"].as_str().expect("an id").to_owned()
}

/// Many jobs of a queue that no worker serves.
async fn many(api: &Api, count: usize, queue: &str) -> Vec<String> {
    let each = (0..count).map(|_| submit(api, json!({"type": "noop", "queue": queue})));
    stream::iter(each).buffer_unordered(64).collect().await
}

fn path(id: &str) -> String {
    format!("/api/v1/jobs/{id}")
}

async fn job(api: &Api, id: &str) -> Value {
    api.get(&path(id)).await.expect(200)
}

async fn until_state(api: &Api, id: &str, state: &str) -> Value {
    wait_for(&format!("{id} is {state}"), SOON, || async {
        let job = job(api, id).await;
        if job["state"] == state { Ok(job) } else { Err(job["state"].to_string()) }
    })
    .await
}

async fn until_ended(api: &Api, operation: &str) -> Value {
    wait_for("the operation ends", SOON, || async {
        let operation = api.get(&format!("/api/v1/operations/{operation}")).await.expect(200);
        if operation["finishedAt"].is_string() { Ok(operation) } else { Err(operation.to_string()) }
    })
    .await
}

async fn begin(api: &Api, body: Value) -> String {
    let begun = api.post("/api/v1/jobs/bulk", &body).await.expect(202);
    begun["operationId"].as_str().expect("an id").to_owned()
}

async fn a_change_decides_what_runs_next_and_where(engine: Engine) {
    let (_node, api) = node(engine, 1).await;
    let blocker =
        submit(&api, json!({"type": "noop", "queue": "run", "payload": {"durationMs": 3_000}})).await;
    until_state(&api, &blocker, "active").await;
    let in_queue = async |queue: &str| submit(&api, json!({"type": "noop", "queue": queue})).await;
    let (first, second, third) = (in_queue("run").await, in_queue("run").await, in_queue("run").await);
    let elsewhere = in_queue("elsewhere").await;
    let change = async |id: &str, body: Value| api.patch(&path(id), &body).await.expect(200);
    let raised = change(&third, json!({"priority": 9, "tags": ["vip"]})).await;
    assert_eq!((&raised["priority"], &raised["tags"]), (&json!(9), &json!(["vip"])));
    let moved = change(&elsewhere, json!({"queue": "run", "priority": 8})).await;
    assert_eq!((&moved["queue"], &moved["state"]), (&json!("run"), &json!("queued")));
    let away = change(&first, json!({"queue": "elsewhere"})).await;
    assert_eq!(away["queue"], "elsewhere");
    for (queue, waiting) in [("run", vec![&elsewhere, &third, &second]), ("elsewhere", vec![&first])] {
        let listed = api.get(&format!("/api/v1/jobs?queue={queue}&state=queued")).await.expect(200);
        let ids: Vec<&str> =
            listed.as_array().expect("a list").iter().filter_map(|job| job["id"].as_str()).collect();
        assert_eq!(ids, waiting, "{queue}");
    }
    let tagged = api.get("/api/v1/jobs?tag=vip").await.expect(200);
    assert_eq!(tagged.as_array().map(Vec::len), Some(1));
    let mut started = Vec::new();
    for id in [&second, &third, &elsewhere] {
        let job = until_state(&api, id, "completed").await;
        started.push((job["startedAt"].as_str().expect("a time").to_owned(), id));
    }
    started.sort();
    assert_eq!(started.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [&third, &elsewhere, &second]);
    assert_eq!(job(&api, &first).await["state"], "queued", "nobody serves where it went");
    let events = api.get(&format!("{}/events", path(&elsewhere))).await.expect(200);
    let kinds: Vec<&str> =
        events.as_array().expect("rows").iter().filter_map(|row| row["type"].as_str()).collect();
    assert_eq!(kinds, ["job.enqueued", "job.updated", "job.started", "job.completed"]);
    let counts = wait_for("the counts agree", SOON, || async {
        let overview = api.get("/api/v1/overview").await.expect(200);
        let counts = (overview["queuedJobs"].clone(), overview["completedJobs"].clone());
        if counts == (json!(1), json!(4)) { Ok(overview) } else { Err(format!("{counts:?}")) }
    });
    assert_eq!(counts.await["queueLengths"], json!({"elsewhere": 1, "run": 0}));
}

async fn a_later_time_is_waited_for_and_a_past_one_is_now(engine: Engine) {
    let (_node, api) = node(engine, 1).await;
    let later = submit(&api, json!({"type": "noop", "queue": "run", "delaySeconds": 3_600})).await;
    let patched = api.patch(&path(&later), &json!({"runAt": "2020-01-01T00:00:00Z"})).await.expect(200);
    assert_eq!(patched["queue"], "run");
    until_state(&api, &later, "completed").await;
    let soon = submit(&api, json!({"type": "noop", "queue": "elsewhere"})).await;
    let at = api.patch(&path(&soon), &json!({"runAt": "2030-01-01T00:00:00Z"})).await.expect(200);
    assert_eq!((&at["state"], &at["waitingFor"]), (&json!("scheduled"), &json!("time")));
    // Moved to a worker's queue it still waits for its time, and runs when that is taken back.
    let at = api.patch(&path(&soon), &json!({"queue": "run"})).await.expect(200);
    assert_eq!((&at["state"], &at["queue"]), (&json!("scheduled"), &json!("run")));
    api.patch(&path(&soon), &json!({"runAt": "2020-01-01T00:00:00Z"})).await.expect(200);
    until_state(&api, &soon, "completed").await;
}

async fn every_state_allows_what_the_contract_says(engine: Engine) {
    let (_node, api) = node(engine, 8).await;
    let make = async |state: &str| -> String {
        match state {
            "queued" => submit(&api, json!({"type": "noop"})).await,
            "scheduled" => submit(&api, json!({"type": "noop", "delaySeconds": 3_600})).await,
            "blocked" => {
                let parent = submit(&api, json!({"type": "noop"})).await;
                submit(&api, json!({"type": "noop", "dependencies": [parent]})).await
            }
            "canceled" => {
                let id = submit(&api, json!({"type": "noop"})).await;
                api.post(&format!("{}/cancel", path(&id)), &json!({})).await.expect(202);
                id
            }
            _ => {
                let (payload, attempts) = match state {
                    "active" => (json!({"durationMs": 60_000}), 1),
                    "retrying" => (json!({"forceError": true}), 3),
                    "failed" => (json!({"forceError": true}), 1),
                    _ => (json!({}), 1),
                };
                let retry = json!({"baseSeconds": 3_600, "maxSeconds": 3_600});
                let body = json!({"type": "noop", "queue": "run", "payload": payload, "maxAttempts": attempts, "retry": retry});
                submit(&api, body).await
            }
        }
    };
    // What patch, retry, cancel and delete answer, and the state that retry and cancel lead to. `throttled` is not
    // reached without a limit.
    let table = [
        ("queued", 200, (202, "queued"), (202, "canceled"), 409),
        ("scheduled", 200, (202, "queued"), (202, "canceled"), 409),
        ("retrying", 200, (202, "queued"), (202, "canceled"), 409),
        ("blocked", 200, (409, "blocked"), (202, "canceled"), 409),
        ("active", 409, (409, "active"), (202, "active"), 409),
        ("completed", 409, (409, "completed"), (409, "completed"), 204),
        ("failed", 409, (202, ""), (202, "canceled"), 204),
        ("canceled", 409, (409, "canceled"), (409, "canceled"), 204),
    ];
    for (state, patched, (retried, after_retry), (canceled, after_cancel), deleted) in table {
        let problem = |answer: &support::Answer| {
            if answer.status == 409 {
                assert_eq!(answer.body["code"], "state_conflict", "{state}");
                let detail = answer.body["detail"].as_str().expect("a detail");
                assert!(detail.contains(state), "{state}: {detail}");
            }
        };
        let id = make(state).await;
        until_state(&api, &id, state).await;
        let answer = api.patch(&path(&id), &json!({"priority": 6})).await;
        assert_eq!(answer.status, patched, "patch {state}: {}", answer.body);
        problem(&answer);
        let answer = api.delete(&path(&id)).await;
        assert_eq!(answer.status, deleted, "delete {state}: {}", answer.body);
        problem(&answer);
        if deleted == 204 {
            assert_eq!(api.get(&path(&id)).await.status, 404);
            assert_eq!(api.delete(&path(&id)).await.status, 404);
        }

        let id = make(state).await;
        until_state(&api, &id, state).await;
        let before = job(&api, &id).await;
        let answer = api.post(&format!("{}/retry", path(&id)), &json!({})).await;
        assert_eq!(answer.status, retried, "retry {state}: {}", answer.body);
        problem(&answer);
        if !after_retry.is_empty() && state != "retrying" {
            assert_eq!(job(&api, &id).await["state"], after_retry, "retry {state}");
        }
        if state == "queued" {
            assert_eq!(job(&api, &id).await, before, "no change");
        }

        let id = make(state).await;
        until_state(&api, &id, state).await;
        let answer = api.post(&format!("{}/cancel", path(&id)), &json!({})).await;
        assert_eq!(answer.status, canceled, "cancel {state}: {}", answer.body);
        problem(&answer);
        if state == "active" {
            assert_eq!(answer.body["cancelRequested"], true);
            until_state(&api, &id, "canceled").await;
        } else {
            assert_eq!(job(&api, &id).await["state"], after_cancel, "cancel {state}");
        }
        if state == "failed" {
            let all = api.get(&format!("{}/inspection", path(&id))).await.expect(200);
            assert_eq!(all["deadLetter"], Value::Null, "it is no dead letter any more");
        }
    }
}

async fn thousands_are_counted_changed_and_canceled(engine: Engine) {
    let (_node, api) = node(engine, 0).await;
    let made = many(&api, 5_000, "bulk").await;
    let other = many(&api, 1, "other").await;
    let bulk = async |body: Value| api.post("/api/v1/jobs/bulk", &body).await.expect(200);
    let filter = json!({"queue": "bulk", "state": ["queued", "scheduled"]});
    let dry = bulk(json!({"action": "cancel", "filter": filter, "dryRun": true})).await;
    assert_eq!(dry, json!({"matched": 5_000, "changed": 0, "skipped": 0}));
    assert_eq!(
        api.get("/api/v1/overview").await.expect(200)["queuedJobs"],
        5_001,
        "a dry run changes nothing"
    );

    let began = Instant::now();
    let done = bulk(json!({"action": "update", "filter": filter, "patch": {"priority": 9}})).await;
    println!("5,000 jobs updated in {:?}", began.elapsed());
    assert_eq!(done, json!({"matched": 5_000, "changed": 5_000, "skipped": 0}));
    let again = bulk(json!({"action": "update", "filter": filter, "patch": {"priority": 9}})).await;
    assert_eq!(again, json!({"matched": 5_000, "changed": 0, "skipped": 5_000}), "it is so already");
    assert_eq!(job(&api, &made[17]).await["priority"], 9);
    assert_eq!(job(&api, &other[0]).await["priority"], 5);

    let unknown = "01890000-0000-7000-8000-000000000000";
    let ids = json!([made[0], made[1], unknown, made[1]]);
    let few = bulk(json!({"action": "cancel", "jobIds": ids, "reason": "not needed"})).await;
    assert_eq!(few, json!({"matched": 2, "changed": 2, "skipped": 1}));
    let began = Instant::now();
    let operation =
        begin(&api, json!({"action": "cancel", "filter": {"queue": "bulk"}, "async": true})).await;
    let ended = until_ended(&api, &operation).await;
    println!("5,000 jobs canceled in the background in {:?}", began.elapsed());
    assert_eq!((&ended["state"], &ended["action"]), (&json!("completed"), &json!("cancel")));
    assert_eq!((&ended["matched"], &ended["changed"]), (&json!(5_000), &json!(4_998)));
    assert_eq!(ended["skipped"], 2, "those that were canceled before");
    let gone = bulk(json!({"action": "delete", "filter": {"queue": "bulk", "state": "canceled"}})).await;
    assert_eq!(gone["changed"], 5_000);
    assert_eq!(api.get("/api/v1/jobs").await.expect(200).as_array().map(Vec::len), Some(1));
    assert_eq!(api.get("/api/v1/overview").await.expect(200)["totalJobs"], 1);

    let listed = api.get("/api/v1/operations").await.expect(200);
    assert_eq!(listed, json!([ended]));
    let audit = api.get("/api/v1/audit?objectType=operation").await.expect(200);
    let actions: Vec<&str> =
        audit.as_array().expect("rows").iter().filter_map(|row| row["action"].as_str()).collect();
    assert_eq!(
        actions,
        [
            "jobs.bulk_deleted",
            "jobs.bulk_canceled",
            "jobs.bulk_canceled",
            "jobs.bulk_updated",
            "jobs.bulk_updated"
        ]
    );
    let of_job = api.get(&format!("/api/v1/audit?objectType=job&objectId={}&limit=1", made[17])).await;
    assert!(of_job.next_page().is_some(), "it was updated and deleted");
    let row = of_job.expect(200)[0].clone();
    assert_eq!((&row["action"], &row["actor"]), (&json!("job.deleted"), &json!("admin")));
    assert!(row["requestId"].as_str().is_some_and(|id| !id.is_empty()));
}

async fn an_operation_is_aborted_within_a_second(engine: Engine) {
    let (_node, api) = node(engine, 0).await;
    many(&api, 3_000, "bulk").await;
    let body =
        json!({"action": "update", "filter": {"queue": "bulk"}, "patch": {"tags": ["a"]}, "async": true});
    let operation = begin(&api, body).await;
    let abort = format!("/api/v1/operations/{operation}/abort");
    let began = Instant::now();
    let stopped = api.post(&abort, &json!({"reason": "enough"})).await.expect(202);
    assert_eq!((&stopped["state"], &stopped["reason"]), (&json!("aborted"), &json!("enough")));
    // Nothing is under way any more when two looks see the same.
    let tagged = async || {
        let dry = json!({"action": "cancel", "filter": {"queue": "bulk", "tag": "a"}, "dryRun": true});
        api.post("/api/v1/jobs/bulk", &dry).await.expect(200)["matched"].as_i64().expect("a number")
    };
    let last = std::cell::Cell::new((-1, Instant::now()));
    let changed = wait_for("it has stopped", SOON, || async {
        let now = tagged().await;
        if now != last.get().0 {
            last.set((now, Instant::now()));
        }
        if last.get().1.elapsed() > Duration::from_millis(700) { Ok(now) } else { Err(now) }
    })
    .await;
    let took = last.get().1 - began;
    assert!(took < Duration::from_secs(2), "stopped after {took:?}");
    assert!(changed < 3_000, "it was aborted on the way: {changed}");
    let kept = api.get(&format!("/api/v1/operations/{operation}")).await.expect(200);
    assert_eq!(kept["changed"], changed, "what was under way is counted");
    assert_eq!(api.post(&abort, &json!({})).await.expect(409)["code"], "state_conflict");
}

async fn an_operation_goes_on_after_a_kill_and_touches_nothing_newer(engine: Engine) {
    let (mut node, api) = node(engine, 0).await;
    many(&api, 4_000, "bulk").await;
    let body =
        json!({"action": "update", "filter": {"queue": "bulk"}, "patch": {"priority": 1}, "async": true});
    let operation = begin(&api, body).await;
    let newer = many(&api, 20, "bulk").await;
    wait_for("it is on its way", SOON, || async {
        let seen = api.get(&format!("/api/v1/operations/{operation}")).await.expect(200);
        if seen["changed"].as_i64() > Some(200) { Ok(()) } else { Err(seen.to_string()) }
    })
    .await;
    node.restart().await;
    node.wait_ready(SOON).await;
    let api = node.api();
    let ended = until_ended(&api, &operation).await;
    assert_eq!((&ended["state"], &ended["matched"]), (&json!("completed"), &json!(4_000)), "{ended}");
    let (changed, skipped) = (ended["changed"].as_i64(), ended["skipped"].as_i64());
    assert!(changed >= Some(4_000 - 128), "at most a step is done again: {ended}");
    assert_eq!(changed.zip(skipped).map(|(changed, skipped)| changed + skipped), Some(4_000));
    let dry = json!({"action": "update", "filter": {"queue": "bulk"}, "patch": {"priority": 1}});
    let left = api.post("/api/v1/jobs/bulk", &dry).await.expect(200);
    assert_eq!(left["changed"], newer.len(), "all that was there was changed, and nothing that came later");
}

/// One test of each on each engine.
macro_rules! on_both {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test]
                async fn $case() {
                    super::$case(super::Engine::Sqlite).await;
                }
            )+
        }
        mod postgres {
            $(
                #[tokio::test]
                async fn $case() {
                    super::$case(super::Engine::Postgres).await;
                }
            )+
        }
    };
}

on_both!(
    a_change_decides_what_runs_next_and_where,
    a_later_time_is_waited_for_and_a_past_one_is_now,
    every_state_allows_what_the_contract_says,
    thousands_are_counted_changed_and_canceled,
    an_operation_is_aborted_within_a_second,
    an_operation_goes_on_after_a_kill_and_touches_nothing_newer,
);
