//! Many jobs at once, over real HTTP, before a real node.

#![expect(clippy::expect_used, reason = "a failed step fails the test")]

#[path = "support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Answer, Api, NodeProcess, PgServer};

const BATCH: &str = "/api/v1/jobs/batch";
const JSON: (&str, &str) = ("content-type", "application/json");
const LINES: (&str, &str) = ("content-type", "application/x-ndjson");
/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// A node that runs no jobs, so that what is submitted stays as it is.
async fn node() -> (NodeProcess, Api) {
    let node = NodeProcess::builder().env("WORKER_CONCURRENCY", 0).start().await;
    node.wait_ready(SOON).await;
    let api = node.api();
    (node, api)
}

async fn batch(api: &Api, jobs: &Value) -> Answer {
    api.post(BATCH, &json!({ "jobs": jobs })).await
}

async fn lines(api: &Api, body: impl Into<Vec<u8>>) -> Vec<Value> {
    let answer = api.post_raw(BATCH, &[LINES], body).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    // One line alone reads as JSON.
    match answer.body {
        Value::String(text) => {
            text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
        }
        one => vec![one],
    }
}

async fn total(api: &Api) -> u64 {
    api.get("/api/v1/overview").await.expect(200)["totalJobs"].as_u64().expect("a number")
}

async fn wait_for_total(api: &Api, expected: u64) {
    support::wait_for("the number of jobs", SOON, || async move {
        let total = total(api).await;
        if total == expected { Ok(()) } else { Err(total) }
    })
    .await;
}

/// Every job is below the one before it in a tree of ten branches, so most of 10,000 wait for another.
async fn a_graph_of_ten_thousand(node: NodeProcess) {
    node.wait_ready(SOON).await;
    let api = node.api();
    let jobs: Vec<Value> = (0..10_000)
        .map(|n: usize| match n {
            0 => json!({"type": "t", "queue": "a", "payload": {"n": n}}),
            _ => json!({"type": "t", "queue": format!("q{}", n % 7), "payload": {"n": n},
                "dependencies": [format!("#{}", (n - 1) / 10)], "idempotencyKey": format!("k{n}")}),
        })
        .collect();
    let began = Instant::now();
    let made = batch(&api, &json!(jobs)).await.expect(202);
    let took = began.elapsed();
    eprintln!("10,000 jobs in {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    let made = made.as_array().expect("an array");
    assert_eq!(made.len(), 10_000);
    for (n, one) in made.iter().enumerate() {
        assert_eq!((&one["job"]["payload"]["n"], &one["duplicateSuppressed"]), (&json!(n), &json!(false)));
        assert_eq!(one["job"]["state"], if n == 0 { "queued" } else { "blocked" });
    }
    let id = |n: usize| made[n]["job"]["id"].as_str().expect("an id").to_owned();
    assert!((1..10_000).all(|n| id(n - 1) < id(n)), "they stand in their order");
    let graph = api.get(&format!("/api/v1/jobs/{}/graph", id(7))).await.expect(200);
    let node_of = |id: &str| {
        let nodes = graph["nodes"].as_array().expect("nodes");
        nodes.iter().find(|node| node["jobId"] == id).cloned().expect("is in the graph")
    };
    assert_eq!(node_of(&id(7))["dependsOn"], json!([id(0)]));
    assert_eq!(node_of(&id(7))["dependents"].as_array().map(Vec::len), Some(10));
    wait_for_total(&api, 10_000).await;

    let again = batch(&api, &json!(jobs[1..].to_vec())).await;
    assert_eq!(again.status, 422, "the places have moved: {}", again.body);
    let began = Instant::now();
    let mut keyed: Vec<Value> = jobs[1..].to_vec();
    for job in &mut keyed {
        job.as_object_mut().expect("an object").remove("dependencies");
    }
    let repeats = batch(&api, &json!(keyed)).await.expect(202);
    eprintln!("9,999 repeats in {:?}", began.elapsed());
    for (n, one) in repeats.as_array().expect("an array").iter().enumerate() {
        assert_eq!(one["duplicateSuppressed"], true);
        assert_eq!(
            (&one["job"]["id"], &one["idempotency"]["key"]),
            (&json!(id(n + 1)), &json!(format!("k{}", n + 1)))
        );
    }
    wait_for_total(&api, 10_000).await;
}

#[tokio::test]
async fn ten_thousand_jobs_that_name_one_another_take_seconds_on_sqlite() {
    a_graph_of_ten_thousand(NodeProcess::builder().env("WORKER_CONCURRENCY", 0).start().await).await;
}

#[tokio::test]
async fn ten_thousand_jobs_that_name_one_another_take_seconds_on_postgres() {
    let database = PgServer::shared().create_database().await;
    let node = NodeProcess::builder().postgres(&database).env("WORKER_CONCURRENCY", 0).start().await;
    a_graph_of_ten_thousand(node).await;
}

#[tokio::test]
async fn a_batch_runs_in_the_order_of_its_dependencies_wherever_they_stand() {
    let node = NodeProcess::builder().env("WORKER_CONCURRENCY", 4).start().await;
    node.wait_ready(SOON).await;
    let api = node.api();
    let jobs = json!([
        {"type": "noop", "dependencies": ["#2"]},
        {"type": "noop"},
        {"type": "noop", "dependencies": ["#1"]},
    ]);
    let made = batch(&api, &jobs).await.expect(202);
    let mut finished = Vec::new();
    for n in [1, 2, 0] {
        let id = made[n]["job"]["id"].as_str().expect("an id");
        let job = api.get(&format!("/api/v1/jobs/{id}/wait?timeoutSeconds=20")).await.expect(200);
        assert_eq!(job["state"], "completed");
        finished.push(job["finishedAt"].as_str().expect("a time").to_owned());
    }
    assert!(finished.is_sorted(), "{finished:?}");
}

#[tokio::test]
async fn one_bad_job_keeps_all_from_being_made() {
    let (_node, api) = node().await;
    let good = json!({"type": "t", "idempotencyKey": "k"});
    let nobody = "01890000-0000-7000-8000-000000000000";
    for (bad, status, pointer) in [
        (json!({"type": "email.send", "payload": {}}), 422, "/jobs/9999/payload/recipient"),
        (json!({"type": "t", "priority": 10}), 422, "/jobs/9999/priority"),
        (json!({"type": "t", "dependencies": ["#9999"]}), 422, "/jobs/9999/dependencies/0"),
        (json!({"type": "t", "dependencies": ["#0", "#10000"]}), 422, "/jobs/9999/dependencies/1"),
        (json!({"type": "t", "dependencies": ["#0", nobody]}), 422, "/jobs/9999/dependencies/1"),
        (json!({"type": "t", "idempotencyKey": "k", "payload": 1}), 409, "/jobs/9999"),
        (json!({"type": 7}), 422, "/jobs/9999/type"),
        (json!({"type": "t", "expiresAt": "2020-01-01T00:00:00Z"}), 422, "/jobs/9999/expiresAt"),
    ] {
        let mut jobs = vec![json!({"type": "t"}); 10_000];
        jobs[0] = good.clone();
        jobs[9_999] = bad.clone();
        let problem = batch(&api, &json!(jobs)).await.expect(status);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{bad}: {problem}");
        assert_eq!(total(&api).await, 0, "{bad}");
    }
    assert_eq!(api.get("/api/v1/jobs").await.expect(200), json!([]), "nothing was made");
    let first = api.post("/api/v1/jobs", &good).await.expect(202);
    assert_eq!(first["duplicateSuppressed"], false, "no key was kept either");
}

#[tokio::test]
async fn hostile_batches_are_refused_by_name() {
    let (_node, api) = node().await;
    for bad in ["#-1", "#99999999999", "#99999999999999999999", "#", "#x", "#1.5", "# 0", "##0", "x", ""] {
        let jobs = json!([{"type": "t"}, {"type": "t", "dependencies": [bad]}]);
        let problem = batch(&api, &jobs).await.expect(422);
        assert_eq!(problem["errors"][0]["pointer"], "/jobs/1/dependencies/0", "{bad}");
    }
    let cycle = json!([{"type": "t"}, {"type": "t", "dependencies": ["#0", "#2"]}, {"type": "t", "dependencies": ["#1"]}]);
    let problem = batch(&api, &cycle).await.expect(422);
    assert_eq!(problem["errors"][0]["pointer"], "/jobs/2/dependencies/0");
    let foreign = json!([{"type": "t", "tenantId": "a"}, {"type": "t", "dependencies": ["#0"]}]);
    batch(&api, &foreign).await.expect(422);

    assert_eq!(
        batch(&api, &json!(vec![json!({"type": "t"}); 10_001])).await.expect(422)["errors"][0]["pointer"],
        "/jobs"
    );
    let deps: Vec<String> = vec!["#0".to_owned(); 1_001];
    let problem = batch(&api, &json!([{"type": "t"}, {"type": "t", "dependencies": deps}])).await.expect(422);
    assert_eq!(problem["errors"][0]["pointer"], "/jobs/1/dependencies");
    let many = json!(vec![json!({"type": "t", "dependencies": vec!["#0".to_owned(); 1_000]}); 201]);
    assert_eq!(batch(&api, &many).await.expect(422)["errors"][0]["pointer"], "/jobs");

    for (body, status) in [
        ("", 400),
        ("{", 400),
        ("[]", 422),
        ("{}", 422),
        ("null", 422),
        (r#"{"jobs":null}"#, 422),
        (r#"{"jobs":[[]]}"#, 422),
        (r#"{"jobs":["t"]}"#, 422),
        (r#"{"jobs":{"0":{"type":"t"}}}"#, 422),
    ] {
        let answer = api.post_raw(BATCH, &[JSON], body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{body}");
    }
    let faults = batch(&api, &json!(vec![json!({"type": "a b"}); 5_000])).await.expect(422);
    assert_eq!(faults["errors"].as_array().map(Vec::len), Some(100), "the first of them");
    api.post_raw(BATCH, &[("content-type", "text/plain")], "{}").await.expect(415);
    api.post_raw(BATCH, &[JSON, ("idempotency-key", "k")], r#"{"jobs":[]}"#).await.expect(422);
    let padded = |n: usize| r#"{"jobs":[]}"#.to_owned() + &" ".repeat(n - 11);
    assert_eq!(api.post_raw(BATCH, &[JSON], padded(32 << 20)).await.expect(202), json!([]));
    api.post_raw(BATCH, &[JSON], padded((32 << 20) + 1)).await.expect(413);
    assert_eq!(total(&api).await, 0);
}

#[tokio::test]
async fn payloads_and_repeats_in_a_batch_are_as_alone() {
    let (node, api) = node().await;
    let payload =
        r#"{ "big": 123456789012345678901234567890, "nul":"\u0000", "e":1E+2, "b":1, "a":1, "a":2 }"#;
    let body = format!(
        r##"{{"jobs":[{{"type":"t","payload":{payload},"idempotencyKey":"k"}},{{"type":"t","payload":{payload},"idempotencyKey":"k"}},{{"type":"t","dependencies":["#1"]}}]}}"##
    );
    let made = api.post_raw(BATCH, &[JSON], body).await.expect(202);
    let first = made[0]["job"]["id"].as_str().expect("an id");
    assert_eq!((&made[1]["job"]["id"], &made[1]["duplicateSuppressed"]), (&json!(first), &json!(true)));
    let waits = made[2]["job"]["id"].as_str().expect("an id");
    let graph = api.get(&format!("/api/v1/jobs/{waits}/graph")).await.expect(200);
    let nodes = graph["nodes"].as_array().expect("nodes");
    let node_of = nodes.iter().find(|node| node["jobId"] == waits).expect("itself");
    assert_eq!(node_of["dependsOn"], json!([first]), "who names a repeat waits for the first");
    let line = format!(r#"{{"type":"t","payload":{payload}}}"#);
    let by_line = lines(&api, line).await[0]["job"]["id"].clone();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    for id in [first, by_line.as_str().expect("an id")] {
        let url = format!("{}/api/v1/jobs/{id}", node.base());
        let text = client.get(url).bearer_auth(support::http::DEV_TOKEN).send().await.expect("answered");
        let text = text.text().await.expect("a body");
        assert!(text.contains(&format!("\"payload\":{payload},")), "{text}");
    }
}

#[tokio::test]
async fn lines_are_made_in_order_and_bad_ones_stop_no_other() {
    let (_node, api) = node().await;
    let nobody = "01890000-0000-7000-8000-000000000000";
    let body = [
        r#"{"type":"t","queue":"a","idempotencyKey":"k","payload":{"a":1}}"#.to_owned(),
        "{".into(),
        String::new(),
        r#"{"type":"t","idempotencyKey":"k","payload":{"a":2}}"#.into(),
        r##"{"type":"t","dependencies":["#0"]}"##.into(),
        r##"{"type":"t","dependencies":["#1"]}"##.into(),
        r##"{"type":"t","dependencies":["#7"]}"##.into(),
        format!(r#"{{"type":"t","dependencies":["{nobody}"]}}"#),
        r#"{"type":"email.send","payload":{}}"#.into(),
        r#"{"type":"t","queue":"a","idempotencyKey":"k","payload":{"a":1}}"#.into(),
        r##"{"type":"t","dependencies":["#8"]}"##.into(),
        format!(r#"{{"type":"t","payload":"{}"}}"#, "x".repeat(2 << 20)),
        r#"{"type":"t","scheduledAt":"2030-01-01T00:00:00Z"}"#.into(),
    ]
    .join("\n");
    let told = lines(&api, body).await;
    let seen: Vec<String> = told
        .iter()
        .map(|line| match line["error"]["code"].as_str() {
            Some(code) => format!("{} {code} {}", line["line"], line["error"]["errors"][0]["pointer"]),
            None => format!("{} {} {}", line["line"], line["job"]["state"], line["duplicateSuppressed"]),
        })
        .collect();
    assert_eq!(
        seen,
        [
            r#"0 "queued" false"#,
            "1 malformed_json null",
            "2 idempotency_key_mismatch null",
            r#"3 "blocked" false"#,
            r#"4 validation_failed "/dependencies/0""#,
            r#"5 validation_failed "/dependencies/0""#,
            r#"6 validation_failed "/dependencies/0""#,
            r#"7 validation_failed "/payload/recipient""#,
            r#"8 "queued" true"#,
            r#"9 "blocked" false"#,
            "10 body_too_large null",
            r#"11 "scheduled" false"#,
        ]
    );
    assert_eq!(told[8]["job"]["id"], told[0]["job"]["id"]);
    wait_for_total(&api, 4).await;
    let waits = told[9]["job"]["id"].as_str().expect("an id");
    let graph = api.get(&format!("/api/v1/jobs/{waits}/graph")).await.expect(200);
    let nodes = graph["nodes"].as_array().expect("nodes");
    let node_of = nodes.iter().find(|node| node["jobId"] == waits).expect("itself");
    assert_eq!(node_of["dependsOn"], json!([told[0]["job"]["id"]]), "who names a repeat waits for the first");

    let array = api.post_raw(BATCH, &[LINES, ("accept", "application/json")], "{\"type\":\"t\"}\n{}\n").await;
    assert_eq!(array.header("content-type"), Some("application/json"));
    let array = array.expect(202);
    assert_eq!((&array[0]["line"], &array[1]["line"]), (&json!(0), &json!(1)));
    assert_eq!((&array[0]["job"]["state"], &array[1]["error"]["status"]), (&json!("queued"), &json!(422)));
    for empty in ["", "\n\n \n"] {
        assert_eq!(api.post_raw(BATCH, &[LINES], empty).await.expect(400)["code"], "empty_body");
    }
}

async fn twenty_thousand_lines(node: NodeProcess) {
    node.wait_ready(SOON).await;
    let api = node.api();
    let body: String = (0..20_000)
        .map(|n: u32| match n {
            0 => "{\"type\":\"t\"}\n".to_owned(),
            n if n % 5_000 == 0 => "{\"type\":\"t\",\"priority\":10}\n".to_owned(),
            n => format!("{{\"type\":\"t\",\"queue\":\"q{}\",\"dependencies\":[\"#{}\"]}}\n", n % 5, n / 2),
        })
        .collect();
    let began = Instant::now();
    let told = lines(&api, body).await;
    eprintln!("20,000 lines in {:?}", began.elapsed());
    assert_eq!(told.len(), 20_000);
    let bad: Vec<u64> = told
        .iter()
        .filter(|line| !line["error"].is_null())
        .filter_map(|line| line["line"].as_u64())
        .collect();
    // Who names a bad line is bad too.
    assert_eq!(bad, [5_000, 10_000, 10_001, 15_000]);
    assert!(told.iter().enumerate().all(|(n, line)| line["line"] == json!(n)), "in order");
    wait_for_total(&api, 20_000 - 4).await;
}

#[tokio::test]
async fn twenty_thousand_lines_are_taken_on_sqlite() {
    twenty_thousand_lines(NodeProcess::builder().env("WORKER_CONCURRENCY", 0).start().await).await;
}

#[tokio::test]
async fn twenty_thousand_lines_are_taken_on_postgres() {
    let database = PgServer::shared().create_database().await;
    let node = NodeProcess::builder().postgres(&database).env("WORKER_CONCURRENCY", 0).start().await;
    twenty_thousand_lines(node).await;
}

#[tokio::test]
async fn a_line_is_answered_while_the_body_goes_on_and_what_was_answered_stays() {
    let (mut node, api) = node().await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let body = futures_util::stream::unfold(receiver, |mut receiver| async {
        let part = receiver.recv().await?;
        Some((part, receiver))
    });
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let request = client
        .post(format!("{}{BATCH}", node.base()))
        .bearer_auth(support::http::DEV_TOKEN)
        .header(LINES.0, LINES.1)
        .body(reqwest::Body::wrap_stream(body));
    let sent = async {
        let line = br#"{"type":"t"}"#;
        sender.send(Ok([&line[..], b"\n"].concat())).await.expect("sent");
        // The second is cut in two, and its end comes after the first was answered.
        sender.send(Ok(line[..5].to_vec())).await.expect("sent");
    };
    let (response, ()) = tokio::join!(request.send(), sent);
    let mut response = response.expect("answered");
    assert_eq!(response.status(), 202);
    let chunk = tokio::time::timeout(SOON, response.chunk()).await.expect("in time");
    let first: Value = serde_json::from_slice(&chunk.expect("whole").expect("a chunk")).expect("a line");
    assert_eq!(first["line"], 0);
    sender.send(Ok(b"e\":\"t\"}\n{\"type\":\"never\"}".to_vec())).await.expect("sent");
    let chunk = tokio::time::timeout(SOON, response.chunk()).await.expect("in time");
    let second: Value = serde_json::from_slice(&chunk.expect("whole").expect("a chunk")).expect("a line");
    assert_eq!(second["line"], 1, "{second}");
    // The client goes away in the middle of a third.
    drop(sender.send(Err(std::io::Error::other("gone"))).await);
    drop(response);
    node.kill9();
    node.restart().await;
    node.wait_ready(SOON).await;
    for line in [first, second] {
        let id = line["job"]["id"].as_str().expect("an id");
        assert_eq!(api_of(&node).get(&format!("/api/v1/jobs/{id}")).await.expect(200)["type"], "t");
    }
    let left = api_of(&node).get("/api/v1/jobs?type=never").await.expect(200);
    assert_eq!(left, json!([]), "a line that was cut off is no job");
    drop(api);
}

fn api_of(node: &NodeProcess) -> Api {
    node.api()
}

async fn the_largest_batches(node: NodeProcess) {
    node.wait_ready(SOON).await;
    let api = node.api();
    let payload = "x".repeat((1 << 20) - 2);
    let body =
        format!(r#"{{"jobs":[{}]}}"#, vec![format!(r#"{{"type":"t","payload":"{payload}"}}"#); 31].join(","));
    let began = Instant::now();
    let made = api.post_raw(BATCH, &[JSON], body).await.expect(202);
    eprintln!("31 MiB in {:?}", began.elapsed());
    assert_eq!(made.as_array().map(Vec::len), Some(31));
    let all: Vec<String> = (0..1_000).map(|n| format!("#{n}")).collect();
    let jobs: Vec<Value> = (0..1_200)
        .map(|n| if n < 1_000 { json!({"type": "t"}) } else { json!({"type": "t", "dependencies": all}) })
        .collect();
    let began = Instant::now();
    let made = batch(&api, &json!(jobs)).await.expect(202);
    eprintln!("200,000 dependencies in {:?}", began.elapsed());
    assert_eq!(made[1_199]["job"]["state"], "blocked");
    wait_for_total(&api, 1_231).await;
}

#[tokio::test]
async fn the_largest_batches_are_taken_on_sqlite() {
    the_largest_batches(NodeProcess::builder().env("WORKER_CONCURRENCY", 0).start().await).await;
}

#[tokio::test]
async fn the_largest_batches_are_taken_on_postgres() {
    let database = PgServer::shared().create_database().await;
    let node = NodeProcess::builder().postgres(&database).env("WORKER_CONCURRENCY", 0).start().await;
    the_largest_batches(node).await;
}
