//! Many jobs: a backlog that survives a restart, and a past that costs nothing. `tests/run --nightly scale` plays it
//! with 1,000,000 waiting and 5,000,000 finished jobs on a release build; the ordinary run with a hundredth.
#![expect(clippy::expect_used, reason = "a failed step fails the test")]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::{Api, NodeProcess, PgServer, nightly, wait_for};

/// What one request of the load holds: the most that a batch takes.
const BATCH: usize = 10_000;
const START_DEADLINE: Duration = Duration::from_secs(120);
const LOAD_DEADLINE: Duration = Duration::from_secs(2_400);
/// What a node with a long backlog may hold, and how soon it serves again. Held on a release build.
const MEMORY_MAX_MIB: u64 = 600;
const RESTART_MAX: Duration = Duration::from_secs(5);
/// Above the noise of a shared machine, below what reading a table costs.
const SLOWER_MAX: f64 = 2.0;
/// Requests of each kind behind a median.
const SAMPLES: usize = 200;

/// Searches that find nothing, however far they look: each is cut after a second.
const SPARSE: [(&str, &str); 6] = [
    ("type", "/api/v1/jobs?type=never"),
    ("queue", "/api/v1/jobs?queue=never"),
    ("tag", "/api/v1/jobs?tag=never"),
    ("worker", "/api/v1/jobs?worker=never"),
    ("text of the completed", "/api/v1/jobs?q=never&state=completed"),
    ("queued or failed", "/api/v1/jobs?state=queued&state=failed&queue=never"),
];
const SPARSE_MAX: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_backlog_and_a_long_past_cost_nothing() {
    for round in nightly::rounds(4) {
        match round {
            0 => backlog("sqlite", node(None)).await,
            1 => backlog("postgres", node(Some(&PgServer::shared().create_database().await))).await,
            2 => past("sqlite", node(None)).await,
            3 => past("postgres", node(Some(&PgServer::shared().create_database().await))).await,
            _ => break,
        }
    }
}

fn node(postgres: Option<&str>) -> support::node::NodeBuilder {
    let node = NodeProcess::builder().env("LOG_LEVEL", "warn");
    postgres.into_iter().fold(node, support::node::NodeBuilder::postgres)
}

/// `GANGER_SCALE_PAST` and `GANGER_SCALE_BACKLOG` play another size than the long form's; the figures say which.
fn sized(name: &str, long: usize) -> usize {
    let set = std::env::var(name).ok().map(|jobs| jobs.parse().expect("a number of jobs"));
    set.unwrap_or(if nightly::is_long() { long } else { long / 100 })
}

async fn backlog(engine: &str, settings: support::node::NodeBuilder) {
    let jobs = sized("GANGER_SCALE_BACKLOG", 1_000_000);
    let mut node = settings.env("WORKER_CONCURRENCY", 0).start().await;
    node.wait_ready(START_DEADLINE).await;
    let began = Instant::now();
    let mut first: Vec<String> = Vec::new();
    for at in (0..jobs).step_by(BATCH) {
        let made = submit(&node.api(), (at..(at + BATCH).min(jobs)).map(|n| (n % 10, "backlog"))).await;
        // Of the highest priority, in the order in which they are to run.
        first.extend(made.into_iter().skip(9).step_by(10).take(200 - first.len().min(200)));
    }
    let took = began.elapsed().as_secs_f64();
    figure(engine, "backlog_jobs", jobs);
    figure(engine, "backlog_submitted_per_second", (jobs as f64 / took) as u64);
    node.sigterm();
    node.wait_exit(START_DEADLINE).await;

    node.set_env("WORKER_CONCURRENCY", 1);
    let began = Instant::now();
    node.restart().await;
    node.wait_ready(START_DEADLINE).await;
    let api = node.api();
    let served = submit(&api, std::iter::once((0, "backlog"))).await;
    assert_eq!(served.len(), 1);
    wait_for("the backlog runs on", START_DEADLINE, || async {
        let overview = api.get("/api/v1/overview").await.expect(200);
        (overview["completedJobs"].as_u64() > Some(0)).then_some(()).ok_or(overview)
    })
    .await;
    let restart = began.elapsed();
    figure(engine, "backlog_restart_ms", restart.as_millis() as u64);
    wait_for("a hundred have run", START_DEADLINE, || async {
        let overview = api.get("/api/v1/overview").await.expect(200);
        (overview["completedJobs"].as_u64() >= Some(100)).then_some(()).ok_or(overview)
    })
    .await;
    let done = api.get("/api/v1/jobs?state=completed&limit=1000").await.expect(200);
    let mut done: Vec<(String, String)> = done
        .as_array()
        .expect("a list")
        .iter()
        .map(|job| (text(job, "startedAt"), text(job, "id")))
        .collect();
    done.sort();
    let ran: Vec<&String> = done.iter().map(|(_, id)| id).take(100).collect();
    assert_eq!(ran, first.iter().take(100).collect::<Vec<_>>(), "the order of the highest priority");
    let memory = peak_mib(node.pid());
    figure(engine, "backlog_peak_memory_mib", memory);
    if nightly::is_long() {
        assert!(restart <= RESTART_MAX, "a restart took {restart:?}");
        assert!(memory <= MEMORY_MAX_MIB, "{memory} MiB");
    }
}

async fn past(engine: &str, settings: support::node::NodeBuilder) {
    let jobs = sized("GANGER_SCALE_PAST", 5_000_000);
    let mut node = settings.env("WORKER_CONCURRENCY", 64).start().await;
    node.wait_ready(START_DEADLINE).await;
    let api = node.api();
    finish(&api, 1_000, 1_000).await;
    let young = medians(&api).await;
    let began = Instant::now();
    let mut submitted = 1_000;
    while submitted < jobs {
        let next = (submitted + BATCH).min(jobs);
        submit(&api, (submitted..next).map(|_| (5, "past"))).await;
        submitted = next;
        // What is not finished is no past: the load follows the drain.
        let behind = submitted.saturating_sub(10 * BATCH);
        finished(&api, behind).await;
    }
    finished(&api, jobs).await;
    figure(engine, "past_jobs", jobs);
    figure(engine, "past_lives_per_second", (jobs as f64 / began.elapsed().as_secs_f64()) as u64);
    let began = Instant::now();
    node.restart().await;
    node.wait_ready(START_DEADLINE).await;
    figure(engine, "past_restart_ms", began.elapsed().as_millis() as u64);
    let api = node.api();
    let old = medians(&api).await;
    for (what, path) in SPARSE {
        let began = Instant::now();
        api.get(path).await.expect(200);
        let took = began.elapsed();
        figure(engine, &format!("past_sparse_ms {what}"), took.as_millis() as u64);
        assert!(took <= SPARSE_MAX, "{what}: {took:?}");
    }
    for ((what, young), (_, old)) in young.iter().zip(&old) {
        let ratio = old.as_secs_f64() / young.as_secs_f64().max(0.0005);
        figure(engine, &format!("past_ratio {what}"), (ratio * 100.0).round() / 100.0);
        if nightly::is_long() {
            assert!(ratio <= SLOWER_MAX, "{what}: {old:?} with {jobs} finished jobs, {young:?} before");
        }
    }
}

async fn finish(api: &Api, jobs: usize, in_all: usize) {
    submit(api, (0..jobs).map(|_| (5, "past"))).await;
    finished(api, in_all).await;
}

async fn finished(api: &Api, jobs: usize) {
    wait_for("the jobs finish", LOAD_DEADLINE, || async {
        let overview = api.get("/api/v1/overview").await.expect(200);
        (overview["completedJobs"].as_u64() >= Some(jobs as u64)).then_some(()).ok_or(overview)
    })
    .await;
}

/// Submits jobs of these priorities and queues, and returns their ids in order.
async fn submit(api: &Api, jobs: impl Iterator<Item = (usize, &'static str)>) -> Vec<String> {
    let jobs: Vec<Value> =
        jobs.map(|(priority, queue)| json!({"type": "noop", "queue": queue, "priority": priority})).collect();
    let made = api.post("/api/v1/jobs/batch", &json!({"jobs": jobs})).await.expect(202);
    made.as_array().expect("a list").iter().map(|one| text(&one["job"], "id")).collect()
}

/// How long requests of each kind take, as medians.
async fn medians(api: &Api) -> Vec<(&'static str, Duration)> {
    let some = api.get("/api/v1/jobs?limit=1").await.expect(200);
    let job = format!("/api/v1/jobs/{}", text(&some[0], "id"));
    let reads = [
        ("list", "/api/v1/jobs?limit=50"),
        ("list of the queued", "/api/v1/jobs?state=queued&limit=50"),
        ("list of the failed", "/api/v1/jobs?state=failed&limit=50"),
        ("list of a queue", "/api/v1/jobs?queue=past&limit=50"),
        ("overview", "/api/v1/overview"),
        ("dashboard", "/api/v1/dashboard"),
        ("queues", "/api/v1/queues"),
        ("dead letters", "/api/v1/dlq"),
        ("a job", job.as_str()),
    ];
    let mut medians = Vec::new();
    for (what, path) in reads {
        let mut times = Vec::with_capacity(SAMPLES);
        for _ in 0..SAMPLES {
            let began = Instant::now();
            api.get(path).await.expect(200);
            times.push(began.elapsed());
        }
        medians.push((what, median(times)));
    }
    let mut times = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let began = Instant::now();
        api.post("/api/v1/jobs", &json!({"type": "noop", "queue": "past"})).await.expect(202);
        times.push(began.elapsed());
    }
    medians.push(("a submission", median(times)));
    medians
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}")).to_owned()
}

/// The most memory that a process has held, in MiB.
fn peak_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("read the process's status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") / 1_024
}

fn figure(engine: &str, name: &str, value: impl Into<Value>) {
    nightly::figure("scale", &format!("{engine} {name}"), value);
}
