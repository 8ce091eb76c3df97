//! Dead letters over the API of a real node: listed, grouped, run again, deleted.

#![expect(clippy::expect_used, reason = "a failed step fails the test")]

#[path = "support/mod.rs"]
mod support;

use std::{io::Write as _, time::Duration};

use futures_util::{StreamExt, stream};
use ganger::domain::fingerprint;
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use support::{Answer, Api, NodeProcess, PgServer, wait_for};

/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(30);

async fn node() -> (NodeProcess, Api) {
    let node = NodeProcess::builder().env("WORKER_CONCURRENCY", 4).start().await;
    node.wait_ready(SOON).await;
    let api = node.api();
    (node, api)
}

/// A job that fails for good with this text, in a queue and of a type.
async fn dead(api: &Api, queue: &str, kind: &str, error: &str) -> String {
    let body = json!({"type": kind, "queue": queue, "maxAttempts": 1, "payload": payload(error)});
    let id = text(&api.post("/api/v1/jobs", &body).await.expect(202)["job"]["id"]);
    until(api, &id, "failed").await;
    id
}

/// Fits the types used here.
fn payload(error: &str) -> Value {
    json!({"reportId": 1, "forceError": error})
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

async fn until(api: &Api, id: &str, state: &str) -> Value {
    let path = format!("/api/v1/jobs/{id}");
    wait_for(&format!("{id} is {state}"), SOON, || async {
        let job = api.get(&path).await.expect(200);
        if job["state"] == state { Ok(job) } else { Err(job["state"].clone()) }
    })
    .await
}

async fn inspection(api: &Api, id: &str) -> Value {
    api.get(&format!("/api/v1/jobs/{id}/inspection")).await.expect(200)
}

fn ids(list: &Value, field: &str) -> Vec<String> {
    list.as_array().expect("a list").iter().map(|row| text(&row[field])).collect()
}

fn totals(answer: &Answer) -> (Option<&str>, Option<&str>) {
    (answer.header("x-total-matched"), answer.header("x-total-replayed"))
}

/// A row of the audit log as it is stored.
type Stored = (String, String, Option<String>, Option<String>, Option<String>);

/// The audit rows of a job in the node's store, oldest first: action, actor, reason, before, after.
async fn audit(node: &NodeProcess, id: &str) -> Vec<(String, String, Option<String>, Value, Value)> {
    let file = node.data_dir().join("ganger.db");
    let options = SqliteConnectOptions::new().filename(file).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await.expect("opens");
    let rows: Vec<Stored> = sqlx::query_as(
        "select action, actor, reason, before, after from audit
         where object_type = 'job' and object_id = ?1 order by id",
    )
    .bind(id)
    .fetch_all(&mut connection)
    .await
    .expect("reads");
    let json =
        |text: Option<String>| text.map_or(Value::Null, |text| serde_json::from_str(&text).expect("JSON"));
    rows.into_iter().map(|(action, actor, reason, a, b)| (action, actor, reason, json(a), json(b))).collect()
}

#[tokio::test]
async fn dead_letters_are_listed_and_grouped_by_cause() {
    let (_node, api) = node().await;
    let a = dead(&api, "mail", "noop", "mailbox 17 is full").await;
    let b = dead(&api, "hooks", "report.generate", "mailbox 4 is full").await;
    let c = dead(&api, "mail", "noop", "no route to 10.0.0.7:5432").await;

    let list = api.get("/api/v1/dlq").await.expect(200);
    assert_eq!(ids(&list, "jobId"), [c.as_str(), &b, &a]);
    let row = &list[2];
    assert_eq!(
        (&row["queue"], &row["job"]["id"], &row["job"]["state"]),
        (&json!("mail"), &json!(a), &json!("failed"))
    );
    assert_eq!((&row["lastAttempt"], &row["replayCount"]), (&json!(1), &json!(0)));
    assert_eq!(
        (&row["attempts"][0]["status"], &row["attempts"][0]["workerId"]),
        (&json!("failed"), &row["workerId"])
    );
    assert_eq!(row["errorMessage"], "mailbox 17 is full");
    assert_eq!(row["fingerprint"], json!(fingerprint(&text(&row["errorType"]), "mailbox 3 is full")));
    assert!(row.get("lastReplayedAt").is_none());
    assert_eq!(inspection(&api, &a).await["deadLetter"]["fingerprint"], row["fingerprint"]);

    let by = async |query: &str| ids(&api.get(&format!("/api/v1/dlq?{query}")).await.expect(200), "jobId");
    assert_eq!(by("queue=hooks").await, [b.as_str()]);
    assert_eq!(by("type=noop").await, [c.as_str(), &a]);
    assert_eq!(by(&format!("errorType={}&queue=mail", text(&row["errorType"]))).await, [c.as_str(), &a]);
    assert_eq!(by(&format!("fingerprint={}", text(&row["fingerprint"]))).await, [b.as_str(), &a]);
    assert_eq!(by(&format!("failedBefore={}", text(&row["failedAt"]))).await, [""; 0]);
    assert_eq!(by("tenantId=nobody").await, [""; 0]);
    let first = api.get("/api/v1/dlq?limit=2&failedAfter=2020-01-01T00:00:00Z").await;
    let next = first.next_page().expect("a next page");
    assert_eq!(ids(&first.expect(200), "jobId"), [c.as_str(), &b]);
    let second = api.get(&next).await;
    assert_eq!(second.next_page(), None);
    assert_eq!(ids(&second.expect(200), "jobId"), [a.as_str()]);

    let groups = api.get("/api/v1/dlq/groups?limit=1").await;
    let next = groups.next_page().expect("a next page");
    assert_eq!(groups.expect(200)[0]["sampleJobId"], json!(c));
    let group = api.get(&next).await.expect(200)[0].clone();
    assert_eq!((&group["count"], &group["message"]), (&json!(2), &json!("mailbox 4 is full")));
    assert_eq!(
        (&group["types"], &group["queues"]),
        (&json!(["noop", "report.generate"]), &json!(["hooks", "mail"]))
    );
    assert_eq!((&group["fingerprint"], &group["sampleJobId"]), (&row["fingerprint"], &json!(b)));
    assert!(text(&group["firstSeen"]) < text(&group["lastSeen"]));

    for bad in ["limit=1001", "cursor=x", "queue=a b", "failedAfter=soon", "fingerprint=%00"] {
        for path in ["/api/v1/dlq", "/api/v1/dlq/groups"] {
            assert_eq!(api.get(&format!("{path}?{bad}")).await.status, 422, "{path} {bad}");
        }
    }
}

#[tokio::test]
async fn a_dead_letter_runs_again_changed_and_its_lineage_lasts() {
    let (node, api) = node().await;
    let id = dead(&api, "mail", "noop", "mailbox 17 is full").await;
    let other = dead(&api, "mail", "noop", "other").await;
    let done = text(&api.post("/api/v1/jobs", &json!({"type": "noop"})).await.expect(202)["job"]["id"]);
    until(&api, &done, "completed").await;

    // Failed again, in the same queue. What is no dead letter is left out.
    let unknown = "01890000-0000-7000-8000-000000000000";
    let body = json!({"jobIds": [id, done, unknown, id], "actor": "ada"});
    let answer = api.post("/api/v1/dlq/replay", &body).await;
    assert_eq!(totals(&answer), (Some("1"), Some("1")));
    let jobs = answer.expect(202);
    assert_eq!(ids(&jobs, "id"), [id.as_str()]);
    let failed = until(&api, &id, "failed").await;
    let all = wait_for("it fails again", SOON, || async {
        let all = inspection(&api, &id).await;
        if all["attempts"].as_array().expect("a list").len() == 2 { Ok(all) } else { Err(all) }
    })
    .await;
    let letter = &all["deadLetter"];
    assert_eq!((&letter["replayCount"], &all["replayCount"]), (&json!(1), &json!(1)));
    assert_eq!(letter["lastReplayedAt"], all["lastReplayedAt"]);
    assert_eq!(failed["attempts"], 1, "attempts anew");

    // Elsewhere, as something else, and it succeeds.
    let body = json!({"jobIds": [id], "queue": "reports", "jobType": "report.generate", "priority": 9,
        "payload": {"reportId": 7, "big": 12345678901234567890_u64}});
    let jobs = api.post("/api/v1/dlq/replay", &body).await.expect(202);
    assert_eq!(ids(&jobs, "queue"), ["reports"]);
    let job = until(&api, &id, "completed").await;
    assert_eq!(
        (&job["type"], &job["queue"], &job["priority"]),
        (&json!("report.generate"), &json!("reports"), &json!(9))
    );
    assert_eq!(job["payload"]["reportId"], 7);
    let all = inspection(&api, &id).await;
    assert_eq!((&all["replayCount"], all.get("deadLetter")), (&json!(2), None));
    assert!(text(&all["lastReplayedAt"]) > text(&letter["lastReplayedAt"]));
    let kinds: Vec<String> = ids(&all["events"], "type");
    assert_eq!(kinds.iter().filter(|kind| *kind == "job.replayed").count(), 2);

    let rows = audit(&node, &id).await;
    assert_eq!(rows.len(), 2);
    let (action, actor, reason, before, after) = &rows[1];
    assert_eq!((action.as_str(), actor.as_str(), reason), ("dead_letter.replayed", "admin", &None));
    assert_eq!(
        before,
        &json!({"queue": "mail", "type": "noop", "priority": 5, "payload": payload("mailbox 17 is full")})
    );
    assert_eq!(
        after,
        &json!({"queue": "reports", "type": "report.generate", "priority": 9, "payload": body["payload"]})
    );
    assert_eq!(rows[0].2.as_deref(), Some("ada"), "a note, not the caller");
    assert_eq!(rows[0].3, rows[0].4);
    assert_eq!(ids(&api.get("/api/v1/dlq").await.expect(200), "jobId"), [other]);
}

#[tokio::test]
async fn all_that_match_run_again_and_no_others() {
    let (node, api) = node().await;
    let mut mine = Vec::new();
    for n in 0..8 {
        mine.push(dead(&api, &format!("q{}", n % 3), "noop", &format!("mailbox {n} is full")).await);
    }
    let spared = dead(&api, "q0", "noop", "no route").await;
    let print = text(&api.get("/api/v1/dlq?queue=q1").await.expect(200)[0]["fingerprint"]);
    let filter = json!({"fingerprint": print});

    let answer = api.post("/api/v1/dlq/replay", &json!({"filter": filter, "dryRun": true})).await;
    assert_eq!(totals(&answer), (Some("8"), Some("0")));
    assert_eq!(answer.expect(202).as_array().map(Vec::len), Some(8));
    assert_eq!(api.get("/api/v1/dlq").await.expect(200).as_array().map(Vec::len), Some(9));

    let body = json!({"filter": filter, "payload": {"ok": true}, "queue": "q9"});
    let answer = api.post("/api/v1/dlq/replay", &body).await;
    assert_eq!(totals(&answer), (Some("8"), Some("8")));
    mine.reverse();
    assert_eq!(ids(&answer.expect(202), "id"), mine, "newest first");
    for id in &mine {
        assert_eq!(until(&api, id, "completed").await["queue"], "q9");
        assert_eq!(audit(&node, id).await.len(), 1);
    }
    assert_eq!(ids(&api.get("/api/v1/dlq").await.expect(200), "jobId"), [spared.as_str()]);
    assert_eq!(api.get("/api/v1/overview").await.expect(200)["failedJobs"], 1);
}

#[tokio::test]
async fn what_is_not_valid_is_refused_and_changes_nothing() {
    let (_node, api) = node().await;
    let id = dead(&api, "mail", "report.generate", "full").await;
    let before = api.get("/api/v1/dlq").await.expect(200);
    let many: Vec<String> = vec![id.clone(); 1_001];
    let large = json!({"reportId": 1, "x": "x".repeat(1 << 20)});
    for (body, pointer) in [
        (json!({}), "/jobIds"),
        (json!({"jobIds": [id], "filter": {}}), "/filter"),
        (json!({"jobIds": [id, "7"]}), "/jobIds/1"),
        (json!({"jobIds": many}), "/jobIds"),
        (json!({"jobIds": id}), "/jobIds"),
        (json!({"filter": {"que": "mail"}}), "/filter/que"),
        (json!({"filter": {"queue": "a b"}}), "/filter/queue"),
        (json!({"filter": {"failedAfter": "soon"}}), "/filter/failedAfter"),
        (json!({"jobIds": [id], "queue": "a b"}), "/queue"),
        (json!({"jobIds": [id], "jobType": ""}), "/jobType"),
        (json!({"jobIds": [id], "priority": 10}), "/priority"),
        (json!({"jobIds": [id], "actor": "\u{0}"}), "/actor"),
        (json!({"jobIds": [id], "payload": large}), "/payload"),
        (json!({"jobIds": [id], "payload": {"format": "csv"}}), "/payload/reportId"),
        (json!({"filter": {}, "payload": {"format": "csv"}}), "/payload/reportId"),
        (json!({"jobIds": [id], "payload": {}, "jobType": "email.send"}), "/payload/recipient"),
    ] {
        let problem = api.post("/api/v1/dlq/replay", &body).await.expect(422);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    for (body, pointer) in [(json!({}), "/jobIds"), (json!({"filter": {"x": 1}}), "/filter/x")] {
        let problem = api.post("/api/v1/dlq/delete", &body).await.expect(422);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
    assert_eq!(api.get("/api/v1/dlq").await.expect(200), before);
    let counted = api.post("/api/v1/dlq/delete", &json!({"filter": {}, "dryRun": true})).await.expect(200);
    assert_eq!(counted, json!({"matched": 1, "changed": 0, "skipped": 0}));
    // A payload that does not fit a type that nothing matched has.
    dead(&api, "other", "noop", "x").await;
    let body = json!({"filter": {"type": "noop"}, "payload": {"format": "csv"}, "dryRun": true});
    assert_eq!(api.post("/api/v1/dlq/replay", &body).await.status, 202);
}

/// More than an answer names and more than is read at once.
const MANY: usize = 1_500;

async fn count(api: &Api) -> i64 {
    let groups = api.get("/api/v1/dlq/groups").await.expect(200);
    groups.as_array().expect("a list").iter().filter_map(|group| group["count"].as_i64()).sum()
}

async fn until_count(api: &Api, wanted: i64) {
    wait_for(&format!("{wanted} dead letters"), SOON * 4, || async {
        let count = count(api).await;
        if count == wanted { Ok(()) } else { Err(count) }
    })
    .await;
}

#[tokio::test]
async fn more_than_an_answer_names_run_again_whether_or_not_the_caller_waits() {
    let (node, api) = node().await;
    run_many(node, api).await;
}

#[tokio::test]
async fn more_than_an_answer_names_run_again_on_postgresql() {
    let url = PgServer::shared().create_database().await;
    let node = NodeProcess::builder().postgres(&url).env("WORKER_CONCURRENCY", 4).start().await;
    node.wait_ready(SOON).await;
    let api = node.api();
    run_many(node, api).await;
}

async fn run_many(node: NodeProcess, api: Api) {
    let many: usize =
        std::env::var("GANGER_BENCH_LETTERS").ok().and_then(|text| text.parse().ok()).unwrap_or(MANY);
    let total = i64::try_from(many).expect("fits");
    let body = json!({"type": "noop", "queue": "mail", "maxAttempts": 1, "payload": payload("no route")});
    stream::iter(0..many)
        .for_each_concurrent(64, |_| async {
            api.post("/api/v1/jobs", &body).await.expect(202);
        })
        .await;
    until_count(&api, total).await;

    // They fail again while the replay goes on, and are not met a second time.
    let at = std::time::Instant::now();
    let answer = api.post("/api/v1/dlq/replay", &json!({"filter": {"queue": "mail"}})).await;
    println!("{many} replayed in {:?}", at.elapsed());
    let all = many.to_string();
    assert_eq!(totals(&answer), (Some(all.as_str()), Some(all.as_str())));
    assert_eq!(answer.expect(202).as_array().map(Vec::len), Some(1_000));
    until_count(&api, total).await;
    let list = api.get("/api/v1/dlq?limit=1000").await.expect(200);
    let list = list.as_array().expect("a list");
    assert!(list.len() == 1_000 && list.iter().all(|row| row["replayCount"] == 1));

    // A caller that leaves when the first have gone.
    let body = json!({"filter": {"queue": "mail"}, "payload": {"ok": true}}).to_string();
    let address = node.base().trim_start_matches("http://").to_owned();
    let request = format!(
        "POST /api/v1/dlq/replay HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        support::http::DEV_TOKEN,
        body.len()
    );
    let mut socket = std::net::TcpStream::connect(&address).expect("connects");
    socket.write_all(request.as_bytes()).expect("sends");
    wait_for("it has begun", SOON, || async {
        let count = count(&api).await;
        if count < total { Ok(()) } else { Err(count) }
    })
    .await;
    drop(socket);
    until_count(&api, 0).await;
}

/// Waits until an attempt with this number runs.
async fn until_runs(api: &Api, id: &str, attempt: i64) {
    let path = format!("/api/v1/jobs/{id}");
    wait_for(&format!("attempt {attempt}"), SOON, || async {
        let job = api.get(&path).await.expect(200);
        let is_running = job["state"] == "active" && job["attempts"] == attempt;
        if is_running { Ok(()) } else { Err(job["state"].clone()) }
    })
    .await;
}

#[tokio::test]
async fn a_job_that_kills_its_workers_is_poison_and_a_replay_counts_anew() {
    let (mut node, mut api) = node().await;
    let body = json!({"type": "noop", "maxAttempts": 10, "payload": {"durationMs": 600_000}});
    let id = text(&api.post("/api/v1/jobs", &body).await.expect(202)["job"]["id"]);
    for attempt in 1..=3 {
        until_runs(&api, &id, attempt).await;
        node.restart().await;
        api = node.api();
    }
    until(&api, &id, "failed").await;
    let list = api.get("/api/v1/dlq?errorType=poison").await.expect(200);
    assert_eq!(ids(&list, "jobId"), [id.as_str()]);
    assert_eq!((&list[0]["lastAttempt"], &list[0]["job"]["maxAttempts"]), (&json!(3), &json!(10)));
    assert_eq!(ids(&list[0]["attempts"], "status"), ["lease_expired"; 3]);

    api.post("/api/v1/dlq/replay", &json!({"jobIds": [id]})).await.expect(202);
    until_runs(&api, &id, 1).await;
    node.restart().await;
    api = node.api();
    until_runs(&api, &id, 2).await;
    assert_eq!(ids(&api.get("/api/v1/dlq").await.expect(200), "jobId"), [""; 0]);
}

#[tokio::test]
async fn dead_letters_are_deleted_with_an_audit_row_that_has_their_payload() {
    let (node, api) = node().await;
    let a = dead(&api, "mail", "noop", "mailbox 17 is full").await;
    let b = dead(&api, "mail", "noop", "mailbox 4 is full").await;
    let c = dead(&api, "hooks", "noop", "no route").await;
    let done = text(&api.post("/api/v1/jobs", &json!({"type": "noop"})).await.expect(202)["job"]["id"]);
    until(&api, &done, "completed").await;
    // A job that waits for a dead letter keeps it.
    let child = json!({"type": "noop", "dependencies": [b]});
    api.post("/api/v1/jobs", &child).await.expect(202);

    let unknown = "01890000-0000-7000-8000-000000000000";
    let body = json!({"jobIds": [a, b, done, unknown], "actor": "ada"});
    let counted = api.post("/api/v1/dlq/delete", &body).await.expect(200);
    assert_eq!(counted, json!({"matched": 2, "changed": 1, "skipped": 3}));
    assert_eq!(api.get(&format!("/api/v1/jobs/{a}")).await.status, 404);
    let rows = audit(&node, &a).await;
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].1.as_str(), rows[0].2.as_deref()), ("admin", Some("ada")));
    assert_eq!(rows[0].3["payload"], payload("mailbox 17 is full"));
    assert_eq!(ids(&api.get("/api/v1/dlq").await.expect(200), "jobId"), [c.as_str(), &b]);

    let body = json!({"filter": {"queue": "hooks"}});
    let counted = api.post("/api/v1/dlq/delete", &body).await.expect(200);
    assert_eq!(counted, json!({"matched": 1, "changed": 1, "skipped": 0}));
    assert_eq!(ids(&api.get("/api/v1/dlq").await.expect(200), "jobId"), [b.as_str()]);
    assert_eq!(until(&api, &done, "completed").await["id"], json!(done));
}
