//! Every command asks for the route that it says, and every route of the node has a command; commands that need
//! nothing else against the real node.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed step fails the test"
)]

mod support;

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use support::NodeProcess;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

const SOON: Duration = Duration::from_secs(20);
/// For commands that wait for work on a busy machine.
const LATE: Duration = Duration::from_secs(60);
const ID: &str = "0199a1b2-0000-7000-8000-000000000001";

/// A command line, the route whose request it is (`{}` for what is named), and what it asks of it: the request's
/// path and query below `/api/v1`, and its body.
struct Case {
    line: &'static str,
    route: &'static str,
    asks: &'static str,
    body: &'static str,
}

const fn case(line: &'static str, route: &'static str, asks: &'static str, body: &'static str) -> Case {
    Case { line, route, asks, body }
}

/// `ID` stands for a job's id in lines, paths and bodies; `_` for a blank within a word.
const CASES: &[Case] = &[
    case("submit noop --priority 9", "POST /jobs", "/jobs", r#"{"type":"noop","priority":9}"#),
    case("jobs submit noop", "POST /jobs", "/jobs", r#"{"type":"noop"}"#),
    case("jobs batch BATCH", "POST /jobs/batch", "/jobs/batch", r#"{"jobs":[{"type":"noop"}]}"#),
    case("jobs batch BATCH.ndjson", "POST /jobs/batch", "/jobs/batch", "{\"type\":\"noop\"}\n"),
    case(
        "list --state queued,failed --queue q --type t --tenant x --worker w --tag a --q b --limit 7",
        "GET /jobs",
        "/jobs?state=queued&state=failed&queue=q&type=t&tenantId=x&worker=w&tag=a&q=b&limit=7",
        "",
    ),
    case("jobs list --all", "GET /jobs", "/jobs?limit=1000", ""),
    case("jobs get ID", "GET /jobs/{id}", "/jobs/ID", ""),
    case("get ID", "GET /jobs/{id}/inspection", "/jobs/ID/inspection", ""),
    case("jobs inspect ID", "GET /jobs/{id}/inspection", "/jobs/ID/inspection", ""),
    case("jobs events ID", "GET /jobs/{id}/events", "/jobs/ID/events?limit=1000", ""),
    case("jobs attempts ID", "GET /jobs/{id}/attempts", "/jobs/ID/attempts", ""),
    case("jobs graph ID", "GET /jobs/{id}/graph", "/jobs/ID/graph", ""),
    case("jobs logs ID --limit 5", "GET /jobs/{id}/logs", "/jobs/ID/logs?limit=5", ""),
    case("jobs explain ID", "GET /jobs/{id}/explain", "/jobs/ID/explain", ""),
    case("jobs wait ID 2.5", "GET /jobs/{id}/wait", "/jobs/ID/wait?timeoutSeconds=2.500", ""),
    case(
        "jobs patch ID --priority 1 --queue q --run-at 2026-11-23T19:00:00Z --payload {} --max-attempts 3 --tag a",
        "PATCH /jobs/{id}",
        "/jobs/ID",
        r#"{"priority":1,"queue":"q","runAt":"2026-11-23T19:00:00.000000Z","payload":{},"maxAttempts":3,"tags":["a"]}"#,
    ),
    case("jobs patch ID --no-tags", "PATCH /jobs/{id}", "/jobs/ID", r#"{"tags":[]}"#),
    case("jobs delete ID", "DELETE /jobs/{id}", "/jobs/ID", ""),
    case("retry ID", "POST /jobs/{id}/retry", "/jobs/ID/retry", ""),
    case("jobs retry ID", "POST /jobs/{id}/retry", "/jobs/ID/retry", ""),
    case("cancel ID --reason why", "POST /jobs/{id}/cancel", "/jobs/ID/cancel", r#"{"reason":"why"}"#),
    case("jobs bulk cancel ID", "POST /jobs/bulk", "/jobs/bulk", r#"{"action":"cancel","jobIds":["ID"]}"#),
    case(
        "jobs bulk retry --state failed --queue q --dry-run",
        "POST /jobs/bulk",
        "/jobs/bulk",
        r#"{"action":"retry","filter":{"state":["failed"],"queue":"q"},"dryRun":true}"#,
    ),
    case(
        "jobs bulk delete --everything --async",
        "POST /jobs/bulk",
        "/jobs/bulk",
        r#"{"action":"delete","filter":{},"async":true}"#,
    ),
    case(
        "jobs bulk update --tag a --set-priority 3 --set-queue q --set-tag b",
        "POST /jobs/bulk",
        "/jobs/bulk",
        r#"{"action":"update","filter":{"tag":"a"},"patch":{"priority":3,"queue":"q","tags":["b"]}}"#,
    ),
    case("operations list", "GET /operations", "/operations?limit=100", ""),
    case("operations get op/1", "GET /operations/{id}", "/operations/op%2F1", ""),
    case("operations abort op-1", "POST /operations/{id}/abort", "/operations/op-1/abort", ""),
    case("queues list", "GET /queues", "/queues?limit=100", ""),
    case("queues get a/b", "GET /queues/{q}", "/queues/a%2Fb", ""),
    case(
        "queues set q --concurrency 3 --max-depth none --retry fixed --retry-base 5s --fairness key --weight a=3 \
         --aging 90s --lease-ttl 1m --partitions 2",
        "PUT /queues/{q}",
        "/queues/q",
        r#"{"concurrency":3,"maxDepth":null,"retry":{"strategy":"fixed","baseSeconds":5.0},"fairness":{"by":"key","weights":{"a":3}},"agingSeconds":90,"leaseTtlSeconds":60,"partitions":2}"#,
    ),
    case("queues pause q --reason why", "POST /queues/{q}/pause", "/queues/q/pause", r#"{"reason":"why"}"#),
    case("queues resume q", "POST /queues/{q}/resume", "/queues/q/resume", ""),
    case("queues drain q", "POST /queues/{q}/drain", "/queues/q/drain", ""),
    case("queues purge q --dry-run", "POST /queues/{q}/purge", "/queues/q/purge", r#"{"dryRun":true}"#),
    case("queues purge q", "POST /queues/{q}/purge", "/queues/q/purge", "{}"),
    case("workers list --all", "GET /workers", "/workers?limit=1000", ""),
    case("workers get n/local", "GET /workers/{id}", "/workers/n%2Flocal", ""),
    case("workers cordon w", "POST /workers/{id}/cordon", "/workers/w/cordon", ""),
    case("workers resume w", "POST /workers/{id}/resume", "/workers/w/resume", ""),
    case("workers drain w", "POST /workers/{id}/drain", "/workers/w/drain", ""),
    case(
        "dlq list --queue q --error-type e --type t --tenant x",
        "GET /dlq",
        "/dlq?queue=q&errorType=e&type=t&tenantId=x&limit=100",
        "",
    ),
    case(
        "dlq delete --fingerprint f --failed-after 2026-11-23T19:00:00Z --dry-run",
        "POST /dlq/delete",
        "/dlq/delete",
        r#"{"filter":{"fingerprint":"f","failedAfter":"2026-11-23T19:00:00.000000Z"},"dryRun":true}"#,
    ),
    case(
        "jobs logs ID --attempt 2 --level warn",
        "GET /jobs/{id}/logs",
        "/jobs/ID/logs?attempt=2&level=warn&limit=1000",
        "",
    ),
    case("dlq groups", "GET /dlq/groups", "/dlq/groups?limit=100", ""),
    case(
        "dlq replay ID --set-queue q --set-payload [1] --set-type t --set-priority 1",
        "POST /dlq/replay",
        "/dlq/replay",
        r#"{"jobIds":["ID"],"queue":"q","payload":[1],"jobType":"t","priority":1}"#,
    ),
    case("dlq delete --queue q", "POST /dlq/delete", "/dlq/delete", r#"{"filter":{"queue":"q"}}"#),
    case("overview", "GET /overview", "/overview", ""),
    case("dashboard --bucket-seconds 60", "GET /dashboard", "/dashboard?bucketSeconds=60", ""),
    case(
        "audit --actor a --action x --object-type queue --object-id q --limit 5",
        "GET /audit",
        "/audit?actor=a&action=x&objectType=queue&objectId=q&limit=5",
        "",
    ),
    case("supervise a/b --depth 1", "GET /supervision", "/supervision?path=a%2Fb&depth=1&limit=20", ""),
    case("supervise restart a/b", "POST /supervision/restart", "/supervision/restart", r#"{"path":"a/b"}"#),
    case("ticket", "POST /tickets", "/tickets", ""),
    case("openapi", "GET /openapi.json", "/openapi.json", ""),
    case(
        "demo --tenant t",
        "POST /workflows/demo/thumbnail",
        "/workflows/demo/thumbnail",
        r#"{"tenantId":"t"}"#,
    ),
];

/// Routes without a command, and why.
const EXCEPTIONS: &[(&str, &str)] = &[];

/// One run of the command line.
#[derive(Debug)]
struct Ran {
    status: i32,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("not one document: {error}: {self:?}"))
    }
}

async fn run_words(url: &str, words: &[String]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ganger"));
    command.env_clear().env("GANGER_URL", url).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = tokio::time::timeout(LATE, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{words:?} goes on and on")).unwrap();
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran {
        status: output.status.code().expect("an exit status"),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

async fn run(url: &str, line: &str) -> Ran {
    run_words(url, &line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).await
}

async fn start() -> NodeProcess {
    let node = NodeProcess::builder().start().await;
    node.wait_ready(SOON).await;
    node
}

/// What was asked first of whatever listens at an address, which refuses everything.
async fn asked(line: &str, folder: &std::path::Path) -> (String, String, Ran) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let word = |word: &str| match word.strip_prefix("BATCH") {
        Some(ending) => folder.join(format!("batch{ending}")).display().to_string(),
        None => word.replace("ID", ID),
    };
    let words: Vec<String> = line.split_whitespace().map(word).collect();
    let (first, ran) = tokio::join!(refuse(&listener), run_words(&url, &words));
    (first.0, first.1, ran)
}

async fn refuse(listener: &TcpListener) -> (String, String) {
    let (mut stream, _) = tokio::time::timeout(LATE, listener.accept()).await.expect("it asks").unwrap();
    let request = read_request(&mut stream).await;
    let problem = r#"{"title":"Not Found","status":404,"detail":"recorded"}"#;
    let answer = format!(
        "HTTP/1.1 404 Not Found\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{problem}",
        problem.len()
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    request
}

/// `METHOD target`, and the body.
async fn read_request(stream: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
            let length = head
                .to_ascii_lowercase()
                .split("content-length: ")
                .nth(1)
                .map(|rest| rest.lines().next().unwrap().trim().parse::<usize>().unwrap());
            if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
                if body.ends_with("0\r\n\r\n") {
                    return (line, unchunked(body));
                }
            } else if body.len() >= length.unwrap_or(0) {
                return (line, body.to_owned());
            }
        }
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "cut off: {text}");
        bytes.extend_from_slice(&buffer[..read]);
    }
}

fn unchunked(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        text.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    text
}

#[tokio::test]
async fn each_command_asks_for_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("batch"), r#"[{"type":"noop"}]"#).unwrap();
    std::fs::write(folder.path().join("batch.ndjson"), "{\"type\":\"noop\"}\n").unwrap();
    for case in CASES {
        let (line, body, ran) = asked(case.line, folder.path()).await;
        let (method, _) = case.route.split_once(' ').unwrap();
        let wanted = format!("{method} /api/v1{}", case.asks.replace("ID", ID));
        assert_eq!(line, wanted, "{}", case.line);
        let wanted = case.body.replace("ID", ID);
        match (serde_json::from_str::<Value>(&body), serde_json::from_str::<Value>(&wanted)) {
            (Ok(body), Ok(wanted)) => assert_eq!(body, wanted, "{}", case.line),
            _ => assert_eq!(body, wanted, "{}", case.line),
        }
        assert_eq!(ran.status, 1, "a refusal: {}: {ran:?}", case.line);
        assert!(ran.err.contains("Not Found: recorded") && ran.out.is_empty(), "{}: {ran:?}", case.line);
    }
}

#[test]
fn each_case_asks_for_its_own_route() {
    for case in CASES {
        let (_, template) = case.route.split_once(' ').unwrap();
        let path = case.asks.split('?').next().unwrap();
        let (wanted, given): (Vec<&str>, Vec<&str>) =
            (template.split('/').collect(), path.split('/').collect());
        let fits =
            wanted.iter().zip(&given).all(|(wanted, given)| wanted.starts_with('{') || wanted == given);
        assert!(fits && wanted.len() == given.len(), "{}: {template} is not {path}", case.line);
    }
}

/// Names of what is in a path differ: `{q}` or `{name}`, as long as it stands in the same place.
fn nameless(path: &str) -> String {
    let part = |part: &str| if part.starts_with('{') { "{}".to_owned() } else { part.to_owned() };
    path.split('/').map(part).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_route_has_a_command() {
    let node = start().await;
    let description = run(node.base(), "openapi").await.expect(0).json();
    let covered: Vec<String> = CASES.iter().map(|case| nameless(case.route)).collect();
    let mut routes = 0;
    for (path, item) in description["paths"].as_object().expect("paths") {
        let Some(path) = path.strip_prefix("/api/v1") else { continue };
        for method in ["get", "post", "put", "patch", "delete"] {
            if item.get(method).is_none() {
                continue;
            }
            routes += 1;
            let route = format!("{} {path}", method.to_ascii_uppercase());
            let excepted = EXCEPTIONS.iter().any(|(except, _)| nameless(except) == nameless(&route));
            assert!(
                covered.contains(&nameless(&route)) || excepted,
                "{route} has no command: add one with a case here, or an exception with its reason"
            );
        }
    }
    assert!(routes > 10, "the description is wrong: {routes} routes");
}

#[tokio::test]
async fn what_is_changed_in_bulk_must_be_chosen() {
    // Refused before anything is asked: nobody listens there.
    let absent = format!("http://127.0.0.1:{}", support::free_port());
    for line in [
        "jobs bulk cancel",
        "jobs bulk delete --everything --queue q",
        "jobs bulk update --queue q",
        "dlq delete",
        "dlq replay --set-queue q",
        "queues set q",
        "queues set q --weight a=3",
        "jobs batch /nowhere/at/all.json",
    ] {
        let ran = run(&absent, line).await.expect(2);
        assert!(ran.err.starts_with("error: ") && ran.out.is_empty(), "{line}: {ran:?}");
    }
    run(&absent, &format!("jobs patch {ID}")).await.expect(2);
}

#[tokio::test]
async fn a_look_without_a_terminal_is_plain() {
    let node = start().await;
    run(node.base(), "submit noop --queue mail --wait").await.expect(0);
    for line in ["top", "top --once"] {
        let ran = run(node.base(), line).await.expect(0);
        for part in ["ganger top  http://", "Queues\n", "Workers\n", "Busiest actors\n", "mail/queue"] {
            assert!(ran.out.contains(part), "{part}: {ran:?}");
        }
        assert!(!ran.out.contains('\x1b'), "{ran:?}");
    }
    let sample = run(node.base(), "top --json").await.expect(0).json();
    assert_eq!(sample["overview"]["completedJobs"], 1);
    assert!(sample["supervision"].as_array().is_some_and(|trees| !trees.is_empty()), "{sample}");
    let absent = format!("http://127.0.0.1:{}", support::free_port());
    run(&absent, "top").await.expect(4);
}

/// A terminal of its own, from util-linux; keys are written into it.
#[tokio::test]
async fn a_live_view_gives_the_terminal_back() {
    let node = start().await;
    for key in ["q", "\x03", "\tpp\x1b[Cq"] {
        let mut command = Command::new("script");
        command.args(["-qec", &format!("{} top --every 200ms", env!("CARGO_BIN_EXE_ganger")), "/dev/null"]);
        command.env("GANGER_URL", node.base()).env("TERM", "xterm").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("script, of util-linux");
        let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut seen = Vec::new();
        let mut pressed = false;
        let whole = async {
            let mut buffer = [0; 4096];
            loop {
                let read = screen.read(&mut buffer).await.unwrap();
                if read == 0 {
                    return;
                }
                seen.extend_from_slice(&buffer[..read]);
                if !pressed && String::from_utf8_lossy(&seen).contains("Busiest actors") {
                    keys.write_all(key.as_bytes()).await.unwrap();
                    keys.flush().await.unwrap();
                    pressed = true;
                }
            }
        };
        tokio::time::timeout(LATE, whole).await.expect("it ends by its key");
        let status = child.wait().await.unwrap();
        let seen = String::from_utf8_lossy(&seen);
        assert!(status.success(), "{key:?}: {status}: {seen}");
        let (taken, back) = (seen.find("\x1b[?1049h"), seen.rfind("\x1b[?1049l"));
        assert!(taken.is_some() && back > taken, "{key:?}: {seen}");
        assert!(seen.rfind("\x1b[?25h") > seen.rfind("\x1b[?25l"), "the cursor is shown again: {seen}");
    }
}

#[tokio::test]
async fn a_node_tells_of_its_health() {
    let node = start().await;
    let ran = run(node.base(), "health").await.expect(0);
    assert!(ran.out.starts_with("alive, ready\n") && ran.out.contains("  ready      store\n"), "{ran:?}");
    assert_eq!(run(node.base(), "health --json").await.expect(0).json()["status"], "ready");
    let absent = format!("http://127.0.0.1:{}", support::free_port());
    run(&absent, "health").await.expect(4);
}

#[tokio::test]
async fn a_job_is_shown_and_waited_for() {
    let node = start().await;
    let done = run(node.base(), "jobs submit noop --queue mail --json").await.expect(0).json();
    let id = done["job"]["id"].as_str().unwrap();
    let ran = run(node.base(), &format!("jobs wait {id} 30s")).await.expect(0);
    assert!(ran.out.contains("completed noop on mail"), "{ran:?}");
    let page = run(node.base(), &format!("jobs get {id}")).await.expect(0).out;
    assert!(
        page.starts_with(&format!("Job {id}  completed\n")) && page.contains("queue         mail"),
        "{page}"
    );
    for part in ["events", "attempts", "graph", "inspect"] {
        assert!(!run(node.base(), &format!("jobs {part} {id}")).await.expect(0).out.is_empty(), "{part}");
    }
    let late = run(node.base(), "jobs submit noop --delay 1h --json").await.expect(0).json();
    let late = late["job"]["id"].as_str().unwrap();
    assert_eq!(
        run(node.base(), &format!("jobs wait {late} 0.2 --json")).await.expect(3).json()["id"],
        json!(late)
    );
    run(node.base(), &format!("jobs cancel {late}")).await.expect(0);
    run(node.base(), &format!("jobs wait {late}")).await.expect(1);
}

#[tokio::test]
async fn a_key_is_taken_by_flag_and_by_environment() {
    let node = NodeProcess::builder().env("ADMIN_TOKEN", "a-key-of-its-own").start().await;
    run(node.base(), "overview").await.expect(1);
    run(node.base(), "overview --key a-key-of-its-own").await.expect(0);
    let mut command = Command::new(env!("CARGO_BIN_EXE_ganger"));
    command.env_clear().env("GANGER_URL", node.base()).env("GANGER_KEY", "a-key-of-its-own").arg("overview");
    assert!(command.output().await.unwrap().status.success());
}
