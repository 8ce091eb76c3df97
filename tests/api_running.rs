//! Running jobs over HTTP: what they say, how they are stopped, who runs them, and how one is followed.
//!
//! The nodes run in this process, so that their handlers can be as bad as need be.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed step fails the test"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use futures_util::StreamExt;
use ganger::config::Config;
use ganger::system::{Node, NodeBuilder};
use ganger::worker::{JobContext, JobError, LogLevel, Registry};
use serde_json::{Value, json};
use support::wait::elapse;
use support::{Api, wait_for};
use tempfile::TempDir;
use tokio_tungstenite::{connect_async, tungstenite::Message};

const SOON: Duration = Duration::from_secs(20);
/// Short, so that what is forced is forced soon.
const TTL: Duration = Duration::from_secs(2);

/// What the handlers share with their test.
#[derive(Default)]
struct Signals {
    /// Blocked handlers return.
    release: AtomicBool,
    /// Handlers that are in the middle.
    inside: AtomicUsize,
}

/// Counts a handler while it lives.
struct Inside(Arc<Signals>);

impl Inside {
    fn new(signals: &Arc<Signals>) -> Self {
        signals.inside.fetch_add(1, Ordering::SeqCst);
        Self(signals.clone())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

fn handlers(signals: &Arc<Signals>) -> Registry {
    let mut handlers = Registry::new();
    handlers.handle_fn("polite", |ctx: JobContext, _: Value| async move {
        ctx.progress(&json!({"percent": 40}));
        ctx.cancelled().cancelled().await;
        Err::<(), _>(JobError::retryable("stopped", "as asked"))
    });
    let shared = signals.clone();
    handlers.handle_fn("deaf", move |_: JobContext, _: Value| {
        let inside = Inside::new(&shared);
        async move {
            let _inside = inside;
            std::future::pending::<()>().await;
            Ok::<_, JobError>(())
        }
    });
    let shared = signals.clone();
    handlers.handle_fn("blocker", move |_: JobContext, _: Value| {
        let inside = Inside::new(&shared);
        async move {
            // Never at an await: nothing can stop it.
            while !inside.0.release.load(Ordering::SeqCst) {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            Ok::<_, JobError>(())
        }
    });
    handlers.handle_fn("talker", |ctx: JobContext, lines: u64| async move {
        for line in 1..=lines {
            let level = if line % 10 == 0 { LogLevel::Warn } else { LogLevel::Debug };
            ctx.log(level, format!("line {line}"));
            ctx.progress(&line);
            elapse(Duration::from_millis(5)).await;
        }
        Ok::<_, JobError>(())
    });
    handlers.handle_fn("flood", |ctx: JobContext, lines: u64| async move {
        for line in 0..lines {
            ctx.log(LogLevel::Info, format!("line {line}"));
        }
        Ok::<_, JobError>(())
    });
    handlers
}

struct Rig {
    node: Node,
    api: Api,
    signals: Arc<Signals>,
    _folder: TempDir,
}

impl Rig {
    async fn start(concurrency: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let slots = concurrency.to_string();
        let arguments = ["ganger-node", "--http-addr", "127.0.0.1:0", "--worker-concurrency", &slots];
        let leases = ["--lease-ttl", "2s", "--heartbeat-interval", "250ms", "--node-id", "one"];
        let arguments = arguments.into_iter().chain(leases).chain(["--data-dir", data.to_str().unwrap()]);
        let signals = Arc::new(Signals::default());
        let node = NodeBuilder::new(Config::parse_from(arguments)).handlers(handlers(&signals)).start();
        let node = node.await.unwrap();
        let api = Api::new(&format!("http://{}", node.address()), support::http::DEV_TOKEN);
        Self { node, api, signals, _folder: folder }
    }

    async fn submit(&self, body: Value) -> String {
        let made = self.api.post("/api/v1/jobs", &body).await.expect(202);
        made["job"]["id"].as_str().unwrap().to_owned()
    }

    /// A job that runs.
    async fn running(&self, body: Value) -> String {
        let id = self.submit(body).await;
        self.wait(&id, |job| job["state"] == "active").await;
        id
    }

    async fn job(&self, id: &str) -> Value {
        self.api.get(&format!("/api/v1/jobs/{id}")).await.expect(200)
    }

    async fn wait(&self, id: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        wait_for("the job is as it should be", SOON, || async {
            let job = self.job(id).await;
            if is_it(&job) { Ok(job) } else { Err(job) }
        })
        .await
    }

    async fn cancel(&self, id: &str) -> Value {
        self.api.post(&format!("/api/v1/jobs/{id}/cancel"), &json!({"reason": "enough"})).await.expect(202)
    }

    async fn attempts(&self, id: &str) -> Vec<Value> {
        self.api.get(&format!("/api/v1/jobs/{id}/attempts")).await.expect(200).as_array().unwrap().clone()
    }

    async fn logs(&self, id: &str, query: &str) -> Vec<Value> {
        self.api.get(&format!("/api/v1/jobs/{id}/logs?{query}")).await.expect(200).as_array().unwrap().clone()
    }

    async fn worker(&self) -> Value {
        self.api.get("/api/v1/workers/one:local").await.expect(200)
    }

    async fn follow(&self, query: &str) -> Follower {
        let ticket = self.api.post("/api/v1/tickets", &json!({})).await.expect(201)["ticket"].clone();
        let base = self.api.base().replacen("http", "ws", 1);
        let url = format!("{base}/ws/events?ticket={}&{query}", ticket.as_str().unwrap());
        Follower(connect_async(&url).await.expect("a stream").0)
    }
}

struct Follower(tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>);

impl Follower {
    async fn next(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(SOON, self.0.next()).await.expect("a message in time");
            if let Message::Text(text) = message.expect("goes on").expect("is whole") {
                return serde_json::from_str(&text).expect("is JSON");
            }
        }
    }

    /// All messages up to one of `kind`, that one included.
    async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut messages = Vec::new();
        loop {
            messages.push(self.next().await);
            if messages.last().unwrap()["kind"] == kind {
                return messages;
            }
        }
    }
}

fn of_kind<'a>(messages: &'a [Value], kind: &str) -> Vec<&'a Value> {
    messages.iter().filter(|message| message["kind"] == kind).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cancel_is_told_within_a_second_and_its_receipts_are_shown() {
    let rig = Rig::start(2).await;
    let id = rig.running(json!({"type": "polite"})).await;
    let mut follower = rig.follow(&format!("topics=job:{id}")).await;
    let snapshot = follower.until("job.snapshot").await.pop().unwrap();
    assert_eq!((&snapshot["state"], &snapshot["job"]["id"]), (&json!("active"), &json!(id)));
    assert!(snapshot["job"].get("leaseToken").is_none(), "{snapshot}");
    let asked = Instant::now();
    let answer = rig.cancel(&id).await;
    let told = follower.until("job.cancel_delivered").await;
    assert!(asked.elapsed() < Duration::from_secs(1), "told after {:?}", asked.elapsed());
    assert!(answer["controls"][0]["requestedAt"].is_string(), "{answer}");
    let rest = follower.until("job.canceled").await;
    let all = [told, rest].concat();
    for kind in ["job.cancel_requested", "job.cancel_acknowledged"] {
        assert_eq!(of_kind(&all, kind).len(), 1, "{kind}: {all:#?}");
    }

    let job = rig.wait(&id, |job| job["state"] == "canceled").await;
    let control = job["controls"][0].clone();
    assert_eq!((&control["kind"], &control["reason"]), (&json!("cancel"), &json!("enough")));
    let times = ["requestedAt", "deliveredAt", "acknowledgedAt", "effectiveAt"].map(|at| {
        let at = control[at].as_str().unwrap_or_else(|| panic!("{at} is missing: {control}"));
        at.parse::<chrono::DateTime<chrono::Utc>>().unwrap()
    });
    assert!(times.is_sorted(), "{control}");
    let inspection = rig.api.get(&format!("/api/v1/jobs/{id}/inspection")).await.expect(200);
    assert_eq!(inspection["job"]["controls"], job["controls"]);
    assert_eq!(rig.attempts(&id).await[0]["status"], "canceled");
    rig.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_that_ignores_its_cancel_is_stopped_one_lease_time_later() {
    let rig = Rig::start(1).await;
    let id = rig.running(json!({"type": "deaf"})).await;
    let asked = Instant::now();
    rig.cancel(&id).await;
    let job = rig.job(&id).await;
    assert_eq!((&job["state"], &job["cancelRequested"]), (&json!("active"), &json!(true)));
    let job = rig.wait(&id, |job| job["state"] == "canceled").await;
    assert!(asked.elapsed() >= TTL - Duration::from_millis(100), "it has its time: {:?}", asked.elapsed());
    assert!(asked.elapsed() < TTL + Duration::from_secs(2), "forced after {:?}", asked.elapsed());
    let control = &job["controls"][0];
    assert!(control["effectiveAt"].is_string() && control.get("acknowledgedAt").is_none(), "{control}");
    wait_for("its task is stopped", SOON, || async {
        let inside = rig.signals.inside.load(Ordering::SeqCst);
        if inside == 0 { Ok(()) } else { Err(inside) }
    })
    .await;
    let next = rig.submit(json!({"type": "noop"})).await;
    rig.wait(&next, |job| job["state"] == "completed").await;
    rig.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_that_blocks_its_thread_is_canceled_by_force_and_its_slot_is_free_again() {
    let rig = Rig::start(1).await;
    let id = rig.running(json!({"type": "blocker"})).await;
    let asked = Instant::now();
    rig.cancel(&id).await;
    let job = rig.wait(&id, |job| job["state"] == "canceled").await;
    assert!(asked.elapsed() >= TTL - Duration::from_millis(100) && asked.elapsed() < TTL * 2);
    assert!(job["controls"][0]["effectiveAt"].is_string(), "{job}");
    let inspection = rig.api.get(&format!("/api/v1/jobs/{id}/inspection")).await.expect(200);
    assert!(inspection.get("deadLetter").is_none());
    let last = inspection["events"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["type"], "job.canceled");
    assert!(last["metadata"]["reason"].as_str().unwrap().contains("force"), "{last}");
    // The thread is still lost, the slot is not.
    assert_eq!(rig.signals.inside.load(Ordering::SeqCst), 1);
    let next = rig.submit(json!({"type": "noop"})).await;
    rig.wait(&next, |job| job["state"] == "completed").await;
    rig.signals.release.store(true, Ordering::SeqCst);
    wait_for("the handler returns", SOON, || async {
        let inside = rig.signals.inside.load(Ordering::SeqCst);
        if inside == 0 { Ok(()) } else { Err(inside) }
    })
    .await;
    assert_eq!(rig.job(&id).await["state"], "canceled", "its late end changes nothing");
    assert_eq!(rig.attempts(&id).await.len(), 1);
    rig.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_that_outlives_its_time_out_is_a_failure_one_lease_time_later() {
    let rig = Rig::start(1).await;
    let began = Instant::now();
    let id = rig.running(json!({"type": "blocker", "timeoutSeconds": 1, "maxAttempts": 1})).await;
    let job = rig.wait(&id, |job| job["state"] == "failed").await;
    let took = began.elapsed();
    assert!(took >= TTL + Duration::from_millis(900) && took < TTL + Duration::from_secs(3), "{took:?}");
    assert!(job["lastError"].as_str().unwrap().contains("time-out"), "{job}");
    let inspection = rig.api.get(&format!("/api/v1/jobs/{id}/inspection")).await.expect(200);
    assert_eq!(inspection["deadLetter"]["errorType"], "timeout");
    assert_eq!(inspection["attempts"][0]["status"], "failed");
    assert_eq!(inspection["attempts"][0]["leaseExpired"], false);
    rig.signals.release.store(true, Ordering::SeqCst);
    rig.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_running_job_shows_its_progress_its_heartbeats_and_its_actor() {
    let rig = Rig::start(2).await;
    let id = rig.running(json!({"type": "polite"})).await;
    let job =
        rig.wait(&id, |job| job["progress"] == json!({"percent": 40}) && job["actor"].is_string()).await;
    assert!(job["leaseToken"].is_string() && job["leaseExpiresAt"].is_string());
    let before = job["lastHeartbeatAt"].as_str().unwrap().to_owned();
    rig.wait(&id, |job| job["lastHeartbeatAt"].as_str().unwrap() > before.as_str()).await;
    let listed = rig.api.get("/api/v1/jobs?state=active").await.expect(200);
    assert_eq!(listed[0]["progress"], json!({"percent": 40}));

    let actor = rig.api.get(&format!("/api/v1/supervision?job={id}")).await.expect(200);
    assert_eq!((&actor["path"], &actor["kind"]), (&job["actor"], &json!("lease")));
    assert_eq!(
        (&actor["detail"]["jobId"], &actor["detail"]["progress"]["percent"]),
        (&json!(id), &json!(40))
    );
    rig.cancel(&id).await;
    rig.wait(&id, |job| job["state"] == "canceled" && job.get("actor").is_none()).await;
    assert_eq!(rig.api.get(&format!("/api/v1/supervision?job={id}")).await.status, 404);
    assert_eq!(rig.api.get("/api/v1/supervision?job=x").await.status, 422);
    assert_eq!(rig.api.get(&format!("/api/v1/supervision?job={id}&path=node")).await.status, 422);
    rig.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_jobs_log_is_read_by_pages_and_found_by_level() {
    let rig = Rig::start(2).await;
    let id = rig.submit(json!({"type": "talker", "payload": 25})).await;
    rig.wait(&id, |job| job["state"] == "completed").await;
    let all = rig.logs(&id, "limit=1000").await;
    let said: Vec<&str> = all.iter().map(|line| line["message"].as_str().unwrap()).collect();
    assert_eq!(said, (1..=25).map(|n| format!("line {n}")).collect::<Vec<_>>(), "written before its end");
    assert!(all.iter().zip(1..).all(|(line, seq)| line["seq"] == seq && line["attempt"] == 1));
    let (mut seen, mut page) = (Vec::new(), Some(format!("/api/v1/jobs/{id}/logs?limit=10&level=debug")));
    while let Some(path) = page {
        let answer = rig.api.get(&path).await;
        page = answer.next_page();
        seen.extend(answer.expect(200).as_array().unwrap().clone());
    }
    assert_eq!(seen, all);
    assert_eq!(rig.logs(&id, "level=warn").await.len(), 2);
    assert_eq!(rig.logs(&id, "after=20&attempt=1").await.len(), 5);
    assert_eq!(rig.logs(&id, "attempt=2").await.len(), 0);
    for bad in ["level=loud", "after=-1", "attempt=0", "attempt=x", "limit=1001"] {
        assert_eq!(rig.api.get(&format!("/api/v1/jobs/{id}/logs?{bad}")).await.status, 422, "{bad}");
    }
    let unknown = "/api/v1/jobs/01890000-0000-7000-8000-000000000000/logs";
    assert_eq!(rig.api.get(unknown).await.status, 404);
    rig.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_that_logs_in_a_hot_loop_is_bounded_and_what_is_dropped_is_counted() {
    let rig = Rig::start(2).await;
    let id = rig.submit(json!({"type": "flood", "payload": 300_000})).await;
    let beside = rig.submit(json!({"type": "noop"})).await;
    rig.wait(&beside, |job| job["state"] == "completed").await;
    rig.wait(&id, |job| job["state"] == "completed").await;
    let first = rig.logs(&id, "limit=1000").await;
    assert_eq!(first.len(), 1_000);
    let rest = rig.logs(&id, "after=1000").await;
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert!(rest[0]["message"].as_str().unwrap().starts_with("299000 more lines"), "{rest:?}");
    rig.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_joins_a_job_late_gets_every_line_exactly_once() {
    const LINES: usize = 200;
    let rig = Rig::start(4).await;
    let id = rig.running(json!({"type": "talker", "payload": LINES})).await;
    let other = rig.running(json!({"type": "talker", "payload": LINES})).await;
    rig.wait(&id, |job| job["progress"].as_u64() >= Some(60)).await;
    let mut whole = rig.follow("topics=kind:job.completed").await;
    let mut late = rig.follow(&format!("topics=job:{id}")).await;
    let messages = late.until("job.completed").await;
    assert_eq!(messages[0]["kind"], "stream.hello");
    assert_eq!(messages[1]["kind"], "job.snapshot", "{:#?}", &messages[1]);
    let lines = |messages: &[Value]| -> Vec<String> {
        let lines = of_kind(messages, "job.log");
        lines.iter().map(|event| event["log"]["message"].as_str().unwrap().to_owned()).collect()
    };
    let all: Vec<String> = (1..=LINES).map(|n| format!("line {n}")).collect();
    assert_eq!(lines(&messages), all);
    assert!(messages.iter().all(|message| message.get("jobId").is_none_or(|job| *job == json!(id))));
    let seqs: Vec<u64> = messages[1..].iter().map(|message| message["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted(), "{seqs:?}");
    let told = of_kind(&messages, "job.progress").len();
    assert!((1..=12).contains(&told), "progress is told now and then: {told}");

    // After its end, from a line on, and over server-sent events of other topics none at all.
    let mut after = rig.follow(&format!("topics=job:{id}&logsAfter=190")).await;
    let mut messages = Vec::new();
    while lines(&messages).len() < 10 {
        messages.push(after.next().await);
    }
    assert_eq!(messages[1]["job"]["state"], "completed");
    assert_eq!(lines(&messages), all[190..]);
    rig.wait(&other, |job| job["state"] == "completed").await;
    let mut completed = whole.until("job.completed").await;
    completed.extend(whole.until("job.completed").await);
    assert!(lines(&completed).is_empty());
    rig.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stream_without_topics_has_no_lines_and_no_gaps() {
    let rig = Rig::start(2).await;
    let mut all = rig.follow("").await;
    let id = rig.submit(json!({"type": "talker", "payload": 60})).await;
    let messages = all.until("job.completed").await;
    assert!(
        messages[1..].iter().all(|message| message["jobId"] == json!(id) && message.get("log").is_none())
    );
    let seqs: Vec<u64> = messages.iter().map(|message| message["seq"].as_u64().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{seqs:?}");
    rig.node.shutdown().await.unwrap();
}

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
