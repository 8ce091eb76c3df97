//! The real `ganger` against the real node: what people and scripts see of it.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed step fails the test"
)]

mod support;

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::try_join_all;
use serde_json::{Value, json};
use support::{NodeProcess, wait_for};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

const SOON: Duration = Duration::from_secs(20);
/// For commands that wait for work on a busy machine.
const LATE: Duration = Duration::from_secs(60);
const UNKNOWN: &str = "0199a1b2-0000-7000-8000-000000000001";

/// One run of the command line.
#[derive(Debug)]
struct Ran {
    status: i32,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("not one document: {error}: {self:?}"))
    }

    #[track_caller]
    fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

/// A command with nothing of the test's own environment, for the node at `url`.
fn command(url: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ganger"));
    command.env_clear().env("GANGER_URL", url).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn run_at(url: &str, args: &[&str]) -> Ran {
    let output = tokio::time::timeout(LATE, command(url, args).output());
    let output = output.await.unwrap_or_else(|_| panic!("{args:?} goes on and on")).unwrap();
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran {
        status: output.status.code().expect("an exit status"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

async fn start() -> NodeProcess {
    let node = NodeProcess::builder().start().await;
    node.wait_ready(SOON).await;
    node
}

async fn run(node: &NodeProcess, args: &[&str]) -> Ran {
    run_at(node.base(), args).await
}

async fn submit(node: &NodeProcess, args: &[&str]) -> String {
    let ran = run(node, &[&["submit", "--json"], args].concat()).await.expect(0);
    ran.json()["job"]["id"].as_str().expect("an id").to_owned()
}

/// The server's own text of a route.
async fn raw(node: &NodeProcess, route: &str) -> String {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.get(format!("{}/api/v1/{route}", node.base()));
    request.bearer_auth(support::http::DEV_TOKEN).send().await.unwrap().text().await.unwrap()
}

/// A command that goes on, and the lines that it has written.
struct Following {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: tokio::task::JoinHandle<()>,
}

impl Following {
    fn start(url: &str, args: &[&str]) -> Self {
        let mut child = command(url, args).stderr(Stdio::inherit()).spawn().unwrap();
        let mut written = BufReader::new(child.stdout.take().unwrap()).lines();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = lines.clone();
        let reader = tokio::task::spawn_local(async move {
            while let Ok(Some(line)) = written.next_line().await {
                kept.lock().unwrap().push(line);
            }
        });
        Self { child, lines, reader }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    async fn until(&self, what: &str, found: impl Fn(&str) -> bool) -> String {
        wait_for(what, SOON, || async {
            self.lines().into_iter().find(|line| found(line)).ok_or_else(|| self.lines())
        })
        .await
    }

    async fn ended(&mut self) -> i32 {
        let status = tokio::time::timeout(SOON, self.child.wait()).await.expect("it ends").unwrap();
        (&mut self.reader).await.unwrap();
        status.code().expect("an exit status")
    }

    async fn interrupt(&mut self) -> i32 {
        assert!(support::leash::signal(self.child.id().expect("it runs"), "INT"));
        self.ended().await
    }
}

fn is_harmless(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || !(c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c)))
}

// Submit

#[tokio::test]
async fn a_submission_that_completes_exits_with_0() {
    let node = start().await;
    let ran = run(&node, &["submit", "noop", "--queue", "q", "--tag", "a", "--wait"]).await.expect(0);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(lines[0].ends_with("queued noop on q") && lines[1].ends_with("completed noop on q"), "{ran:?}");

    let done = run(&node, &["submit", "noop", "--wait", "30", "--json"]).await.expect(0).json();
    assert_eq!(done["state"], "completed");
}

#[tokio::test]
async fn a_submission_that_fails_exits_with_1_and_one_that_goes_on_with_3() {
    let node = start().await;
    let args = ["submit", "noop", "--payload", r#"{"forceError":true}"#, "--max-attempts", "1", "--wait"];
    let failed = run(&node, &args).await.expect(1);
    assert!(failed.out.contains(" failed noop "), "{failed:?}");

    let late = run(&node, &["submit", "noop", "--delay", "1h", "--wait", "0.2"]).await.expect(3);
    assert!(late.out.contains(" scheduled noop ") && late.err.contains("ran out"), "{late:?}");
}

#[tokio::test]
async fn a_payload_arrives_byte_for_byte() {
    let node = start().await;
    let payload = r#"{ "big": 9007199254740993,   "nul": "\u0000", "a": [1.0, 1e2] }"#;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("payload.json");
    std::fs::write(&file, payload).unwrap();
    for argument in [payload.to_owned(), format!("@{}", file.display())] {
        let id = submit(&node, &["noop", "--payload", &argument, "--delay", "1h"]).await;
        assert!(raw(&node, &format!("jobs/{id}")).await.contains(payload));
    }
    let mut piped = command(node.base(), &["submit", "noop", "--payload", "-", "--json", "--delay", "1h"]);
    let stdin = Stdio::from(std::fs::File::open(&file).unwrap());
    let output = piped.stdin(stdin).output().await.unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains(payload));
}

#[tokio::test]
async fn a_repeat_of_a_key_is_told() {
    let node = start().await;
    let args = ["submit", "noop", "--idempotency-key", "k", "--delay", "1h"];
    let (first, second) = (run(&node, &args).await.expect(0), run(&node, &args).await.expect(0));
    assert_eq!(first.out.split(' ').next(), second.out.split(' ').next());
    assert!(second.out.contains("none was made") && !first.out.contains("none was made"), "{second:?}");
}

// Faults

#[tokio::test]
async fn a_refusal_is_told_with_its_fields_on_standard_error() {
    let node = start().await;
    for json in [&[][..], &["--json"]] {
        let args = [&["submit", "a b", "--priority", "17"], json].concat();
        let ran = run(&node, &args).await.expect(1);
        assert_eq!(ran.out, "");
        assert!(ran.err.contains("\n  /type: ") && ran.err.contains("\n  /priority: "), "{ran:?}");
    }
    let unknown = run(&node, &["get", UNKNOWN]).await.expect(1);
    assert!(unknown.err.starts_with("Not Found: "), "{unknown:?}");
    let mut wrong = command(node.base(), &["watch"]);
    let output = wrong.env("GANGER_TOKEN", "wrong").output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("GANGER_TOKEN"));
}

#[tokio::test]
async fn wrong_usage_exits_with_2_and_an_absent_node_with_4() {
    let absent = format!("http://127.0.0.1:{}", support::free_port());
    run_at(&absent, &["submit"]).await.expect(2);
    run_at(&absent, &["get", "17"]).await.expect(2);
    run_at("node:8080", &["overview"]).await.expect(2);
    for args in [&["overview"][..], &["watch"], &["demo", "--json"]] {
        let ran = run_at(&absent, args).await.expect(4);
        assert!(ran.err.contains(&absent) && ran.err.contains("GANGER_URL") && ran.out.is_empty(), "{ran:?}");
    }
}

// Reads

#[tokio::test]
async fn json_is_the_servers_own() {
    let node = start().await;
    let id = submit(&node, &["noop", "--payload", r#"{ "a":  1 }"#, "--delay", "1h"]).await;
    for (args, route) in [
        (&["get", &id, "--json"][..], format!("jobs/{id}/inspection")),
        (&["get", &id, "--json", "--events"], format!("jobs/{id}/events")),
        (&["get", &id, "--json", "--attempts"], format!("jobs/{id}/attempts")),
        (&["get", &id, "--json", "--graph"], format!("jobs/{id}/graph")),
        (&["list", "--json"], "jobs".to_owned()),
    ] {
        assert_eq!(run(&node, args).await.expect(0).out.trim_end(), raw(&node, &route).await, "{args:?}");
    }
    let overview = run(&node, &["overview", "--json"]).await.expect(0).json();
    assert_eq!(overview["scheduledJobs"], 1);
    let tree = run(&node, &["supervise", "--json"]).await.expect(0).json();
    assert_eq!(tree["path"], "node");
    assert!(run(&node, &["ticket", "--json"]).await.expect(0).json()["ticket"].is_string());
}

#[tokio::test]
async fn a_job_is_a_page() {
    let node = start().await;
    let args = ["noop", "--payload", r#"{"forceError":true}"#, "--max-attempts", "1", "--queue", "mail"];
    let id = submit(&node, &args).await;
    let below = submit(&node, &["noop", "--depends-on", &id, "--queue", "mail"]).await;
    run(&node, &["watch", "--job", &id]).await.expect(0);
    let page = run(&node, &["get", &id, "--utc"]).await.expect(0).out;
    for part in
        ["failed\n", "queue         mail", "1 of 1", "job.enqueued", "job.failed", "dead letter", "UTC"]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(page.contains(&format!("  └─ noop {below} blocked")), "{page}");
    let graph = run(&node, &["get", &below, "--graph"]).await.expect(0).out;
    assert!(graph.contains("← this job") && !graph.contains("job.enqueued"), "{graph}");
}

#[tokio::test]
async fn a_list_is_filtered_and_limited() {
    let node = start().await;
    let first = submit(&node, &["noop", "--queue", "a", "--tag", "x", "--delay", "1h"]).await;
    let second = submit(&node, &["noop", "--queue", "b", "--delay", "1h"]).await;
    let all = run(&node, &["list"]).await.expect(0);
    assert!(all.out.starts_with("ID ") && all.out.contains(&first) && all.out.contains(&second), "{all:?}");
    for filter in [
        &["--queue", "a"][..],
        &["--tag", "x"],
        &["--q", &first],
        &["--created-before", "0s", "--queue", "a"],
    ] {
        let some = run(&node, &[&["list", "--state", "scheduled,failed"], filter].concat()).await.expect(0);
        assert!(some.out.contains(&first) && !some.out.contains(&second), "{some:?}");
    }
    let newest = run(&node, &["list", "--limit", "1"]).await.expect(0);
    assert!(newest.out.contains(&second) && !newest.out.contains(&first), "{newest:?}");
    assert!(newest.err.contains("--all"), "{newest:?}");
    let none = run(&node, &["list", "--state", "failed"]).await.expect(0);
    assert_eq!((none.out.as_str(), none.err.trim_end()), ("", "no jobs match"));
}

#[tokio::test]
async fn all_pages_of_a_list_are_one_document() {
    const JOBS: usize = 1_050;
    let node = start().await;
    let api = node.api();
    for batch in 0..JOBS / 50 {
        let jobs = (0..50).map(|at| {
            let (api, number) = (api.clone(), batch * 50 + at);
            async move {
                let body = json!({ "type": "noop", "delaySeconds": 3600, "payload": number });
                Ok::<_, ()>(api.post("/api/v1/jobs", &body).await.expect(202))
            }
        });
        try_join_all(jobs).await.unwrap();
    }
    for (args, count) in [(&["--all"][..], JOBS), (&["--limit", "1020"], 1_020), (&["--limit", "7"], 7)] {
        let jobs = run(&node, &[&["list", "--json"], args].concat()).await.expect(0).json();
        let ids: std::collections::BTreeSet<&str> =
            jobs.as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), count, "{args:?}");
    }
    let table = run(&node, &["list", "--all"]).await.expect(0).out;
    assert_eq!(table.lines().count(), JOBS + 1);
}

#[tokio::test]
async fn what_a_submitter_wrote_cannot_steer_a_terminal() {
    let node = start().await;
    // JSON itself lets these through; C0 controls only as escapes.
    let payload = "{\"a\":\"\u{9b}2J \u{202e}evil \u{7f}\\u001b[31m\"}";
    let id = submit(&node, &["noop", "--payload", payload, "--delay", "1h"]).await;
    for args in
        [&["get", &id][..], &["list"], &["cancel", &id, "--reason", "\u{1b}[31m\u{9b}0m"], &["get", &id]]
    {
        let ran = run(&node, args).await.expect(0);
        assert!(is_harmless(&ran.out) && is_harmless(&ran.err), "{ran:?}");
    }
    // For programs it is what it was.
    assert!(run(&node, &["get", &id, "--json"]).await.expect(0).out.contains(payload));
}

// Controls

#[tokio::test]
async fn jobs_are_canceled_and_run_again() {
    let node = start().await;
    let id = submit(&node, &["noop", "--delay", "1h"]).await;
    run(&node, &["retry", &id]).await.expect(0);
    run(&node, &["watch", "--job", &id]).await.expect(0);
    assert_eq!(run(&node, &["get", &id, "--json"]).await.json()["job"]["state"], "completed");
    let done = run(&node, &["cancel", &id]).await.expect(1);
    assert!(done.err.starts_with("Conflict: "), "{done:?}");

    let waiting = submit(&node, &["noop", "--delay", "1h"]).await;
    let canceled = run(&node, &["cancel", &waiting, "--json"]).await.expect(0).json();
    assert_eq!((&canceled["id"], &canceled["state"]), (&json!(waiting), &json!("canceled")));
}

#[tokio::test]
async fn the_supervision_tree_is_shown_and_restarted() {
    let node = start().await;
    run(&node, &["submit", "noop", "--queue", "mail", "--wait"]).await.expect(0);
    let tree = run(&node, &["supervise"]).await.expect(0).out;
    assert!(tree.starts_with("NAME") && tree.contains("RESTARTS") && tree.contains("running"), "{tree}");
    let found = run(&node, &["supervise", "--kind", "queue", "--json"]).await.expect(0).json();
    let path = deepest(&found).to_owned();
    run(&node, &["supervise", "restart", &path]).await.expect(0);
    wait_for("the queue was restarted", SOON, || async {
        let actor = run(&node, &["supervise", &path, "--depth", "0", "--json"]).await.expect(0).json();
        if actor["restarts"].as_u64() > Some(0) { Ok(()) } else { Err(actor) }
    })
    .await;
    run(&node, &["supervise", "restart", "node/nowhere"]).await.expect(1);
}

/// The path of the first actor that the filter was for.
fn deepest(tree: &Value) -> &str {
    tree["children"].get(0).map_or_else(|| tree["path"].as_str().expect("a path"), deepest)
}

#[tokio::test]
async fn the_demo_is_followed_to_its_end() {
    let node = start().await;
    let ran = run(&node, &["demo"]).await.expect(0);
    assert!(ran.out.contains("file.ingest") && ran.out.contains("all jobs completed"), "{ran:?}");
    let json = run(&node, &["demo", "--json"]).await.expect(0);
    let graphs: Vec<Value> = json.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(graphs.len(), 2, "{json:?}");
    let nodes = graphs[1]["nodes"].as_array().unwrap();
    assert!(nodes.len() == 6 && nodes.iter().all(|node| node["state"] == "completed"), "{json:?}");
}

// Watch

/// Runs a test whose commands go on beside it.
async fn beside<T>(test: impl Future<Output = T>) -> T {
    tokio::task::LocalSet::new().run_until(test).await
}

#[tokio::test]
async fn a_watch_shows_each_event_and_ends_with_0_on_ctrl_c() {
    beside(async {
        let node = start().await;
        let mut watch = Following::start(node.base(), &["watch", "--topic", "queue:mail", "--json"]);
        watch.until("the stream is open", |line| line.contains("stream.hello")).await;
        submit(&node, &["noop", "--queue", "other"]).await;
        let id = submit(&node, &["noop", "--queue", "mail"]).await;
        watch.until("the job has ended", |line| line.contains("job.completed") && line.contains(&id)).await;
        assert_eq!(watch.interrupt().await, 0);
        let kinds: Vec<Value> =
            watch.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(kinds.iter().all(|event| event["queue"] != "other"), "{kinds:?}");
    })
    .await;
}

#[tokio::test]
async fn a_watched_job_ends_the_watch() {
    beside(async {
        let node = start().await;
        let id = submit(&node, &["noop", "--delay", "1h"]).await;
        let mut watch = Following::start(node.base(), &["watch", "--job", &id, "--json"]);
        watch.until("the stream is open", |line| line.contains("stream.hello")).await;
        run(&node, &["retry", &id]).await.expect(0);
        assert_eq!(watch.ended().await, 0);
        assert!(watch.lines().last().unwrap().contains("job.completed"), "{:?}", watch.lines());
        // And at once when it has ended before.
        let after = run(&node, &["watch", "--job", &id]).await.expect(0);
        assert!(after.err.contains("is completed"), "{after:?}");
    })
    .await;
}

#[tokio::test]
async fn a_watch_goes_on_where_an_earlier_one_stopped() {
    beside(async {
        let node = start().await;
        let mut first = Following::start(node.base(), &["watch", "--json"]);
        let hello = first.until("the stream is open", |line| line.contains("stream.hello")).await;
        assert_eq!(first.interrupt().await, 0);
        let hello: Value = serde_json::from_str(&hello).unwrap();
        let id = submit(&node, &["noop"]).await;
        run(&node, &["watch", "--job", &id]).await.expect(0);
        let since = format!("{}:{}", hello["streamId"].as_str().unwrap(), hello["seq"]);
        let mut second = Following::start(node.base(), &["watch", "--since", &since]);
        for kind in ["job.enqueued", "job.started", "job.completed"] {
            second.until(kind, |line| line.contains(kind) && line.contains(&id)).await;
        }
        assert_eq!(second.interrupt().await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_watch_outlives_a_restart_of_the_node_and_tells_of_the_reset() {
    beside(async {
        let address = format!("127.0.0.1:{}", support::free_port());
        let mut node = NodeProcess::builder().env("HTTP_ADDR", &address).start().await;
        node.wait_ready(SOON).await;
        let mut watch = Following::start(node.base(), &["watch"]);
        // A human's watch does not show the greeting: any event says that it is open.
        wait_for("the watch is open", SOON, || async {
            submit(&node, &["noop"]).await;
            if watch.lines().is_empty() { Err("no event") } else { Ok(()) }
        })
        .await;
        node.restart().await;
        node.wait_ready(SOON).await;
        watch.until("the reset is told", |line| line.contains("stream.reset")).await;
        let id = submit(&node, &["noop"]).await;
        watch.until("events go on", |line| line.contains("job.completed") && line.contains(&id)).await;
        assert_eq!(watch.interrupt().await, 0);
    })
    .await;
}
