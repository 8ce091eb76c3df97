//! `ganger-bench`: how fast a node is on this machine, as one JSON line a figure.
//!
//! Absolute numbers say little: compare ratios of one run. On PostgreSQL the run measures the server's own
//! limit first, with bare batches of the same rows.

use std::{
    collections::HashMap,
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use futures_util::{StreamExt, stream};
use ganger::{
    config::Config,
    domain::{JobId, NewJob, SubmitDefaults, SubmitRequest, Timestamp},
    store::postgres::raw_limit,
    system::{Node, NodeBuilder},
    worker::{JobContext, Registry},
};
use hdrhistogram::Histogram;
use serde_json::json;

#[path = "bench/streams.rs"]
mod streams;

/// Jobs are made of many small allocations on one thread that are freed on another, which glibc's
/// allocator does under a lock: a third of a drain's time (perf).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures a node.
#[derive(Debug, Parser)]
#[command(name = "ganger-bench", version)]
struct Args {
    /// A database that may be filled; without it the embedded store in a temporary directory.
    #[arg(long, env = "POSTGRES_URL", hide_env_values = true)]
    postgres_url: Option<String>,
    /// Where the embedded store and files go; a temporary directory by default.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// How many jobs are drained.
    #[arg(long, default_value_t = 100_000)]
    jobs: usize,
    /// How many jobs run at once.
    #[arg(long, default_value_t = 4_096)]
    concurrency: usize,
    /// How many submissions are in flight at once.
    #[arg(long, default_value_t = 64)]
    clients: usize,
    /// How many single submissions are measured.
    #[arg(long, default_value_t = 20_000)]
    submits: usize,
    /// Jobs a second while latency is measured.
    #[arg(long, default_value_t = 200)]
    rate: u64,
    /// How long latency is measured, in seconds.
    #[arg(long, default_value_t = 5)]
    latency_seconds: u64,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 200)]
    payload_bytes: usize,
    /// What is measured; without it, jobs.
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// What readers of the event stream cost the jobs.
    Streams(streams::StreamsArgs),
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ganger-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn figure(name: &str, value: f64, unit: &str, more: serde_json::Value) {
    let mut line = json!({ "figure": name, "value": (value * 1_000.0).round() / 1_000.0, "unit": unit });
    if let (Some(line), Some(more)) = (line.as_object_mut(), more.as_object()) {
        line.extend(more.clone());
    }
    println!("{line}");
}

#[tokio::main]
async fn run(args: Args) -> Result<()> {
    let engine = if args.postgres_url.is_some() { "postgres" } else { "sqlite" };
    let temporary = std::env::temp_dir().join(format!("ganger-bench-{}", JobId::new()));
    let data_dir = args.data_dir.clone().unwrap_or_else(|| temporary.clone());
    let measured = match &args.what {
        Some(What::Streams(streams)) => streams::measure(&args, streams, engine, &data_dir).await,
        None => measure(&args, engine, &data_dir).await,
    };
    if args.data_dir.is_none() {
        std::fs::remove_dir_all(&temporary).context("the temporary directory was not removed")?;
    }
    measured
}

async fn measure(args: &Args, engine: &str, data_dir: &std::path::Path) -> Result<()> {
    let on = json!({ "store": engine });
    // Fills the store with the jobs that are drained later; nothing runs yet.
    let node = start(args, data_dir, 0, Registry::new()).await?;
    let raw = match &args.postgres_url {
        Some(url) => {
            let payload = payload(args);
            let raw = raw_limit(url, args.jobs, 1_000, 4, &payload).await?;
            figure("raw_insert", raw.insert_per_second, "jobs/s", on.clone());
            figure("raw_drain", raw.drain_per_second, "jobs/s", on.clone());
            figure("raw_life", raw.life_per_second, "jobs/s", on.clone());
            Some(raw)
        }
        None => None,
    };
    let began = Instant::now();
    let batches = args.jobs.div_ceil(1_000);
    let births = stream::iter(0..batches).map(|index| {
        let count = (args.jobs - index * 1_000).min(1_000);
        let jobs = (0..count).map(|_| job(args, "noop", "bench-drain")).collect::<Result<Vec<_>>>();
        let platform = node.platform().clone();
        async move { platform.births(jobs?).await.context("births") }
    });
    let mut births = births.buffer_unordered(4);
    while let Some(made) = births.next().await {
        made?;
    }
    drop(births);
    let bulk = args.jobs as f64 / began.elapsed().as_secs_f64();
    let ratio = |value: f64, limit: Option<f64>| {
        limit.map_or(
            json!({ "store": engine }),
            |limit| json!({ "store": engine, "ofRaw": (value / limit * 1_000.0).round() / 1_000.0 }),
        )
    };
    figure("submit_bulk", bulk, "jobs/s", ratio(bulk, raw.map(|raw| raw.insert_per_second)));
    node.shutdown().await?;

    let node = start(args, data_dir, args.concurrency, Registry::new()).await?;
    let drained = drain(&node, args.jobs).await?;
    figure("drain", drained, "jobs/s", ratio(drained, raw.map(|raw| raw.drain_per_second)));
    let life = 1.0 / (1.0 / bulk + 1.0 / drained);
    figure("life_bulk", life, "jobs/s", ratio(life, raw.map(|raw| raw.life_per_second)));
    submits(args, &node, engine).await?;
    node.shutdown().await?;
    latency(args, data_dir, engine).await
}

async fn start(
    args: &Args,
    data_dir: &std::path::Path,
    concurrency: usize,
    handlers: Registry,
) -> Result<Node> {
    let mut words = vec![
        "ganger-node".to_owned(),
        "--http-addr=127.0.0.1:0".to_owned(),
        format!("--data-dir={}", data_dir.display()),
        format!("--worker-concurrency={concurrency}"),
    ];
    words.extend(args.postgres_url.as_ref().map(|url| format!("--postgres-url={url}")));
    NodeBuilder::new(Config::try_parse_from(words)?).handlers(handlers).start().await
}

fn payload(args: &Args) -> String {
    json!({ "text": "x".repeat(args.payload_bytes.saturating_sub(11)) }).to_string()
}

fn job(args: &Args, kind: &str, queue: &str) -> Result<NewJob> {
    let request = SubmitRequest {
        kind: kind.to_owned(),
        queue: Some(queue.to_owned()),
        payload: Some(ganger::domain::RawJson::trusted(payload(args))),
        ..SubmitRequest::default()
    };
    let checked = request.check(&SubmitDefaults::default(), Timestamp(0));
    checked.map_err(|faults| anyhow::anyhow!("{faults:?}"))
}

/// Waits until `jobs` have completed; from the first completion on, so that the load of the queue does
/// not count as draining.
async fn drain(node: &Node, jobs: usize) -> Result<f64> {
    let deadline = Instant::now() + Duration::from_secs(300);
    let completed = || node.platform().overview().completed_jobs;
    let before = Instant::now();
    let mut ended = completed();
    while usize::try_from(ended).unwrap_or(0) < jobs {
        if Instant::now() > deadline {
            bail!("only {ended} of {jobs} jobs were drained: {:?}", node.platform().overview());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
        ended = completed();
    }
    Ok(jobs as f64 / before.elapsed().as_secs_f64())
}

/// Single submissions through their queue, so many in flight, acknowledged when durable; they run meanwhile.
async fn submits(args: &Args, node: &Node, engine: &str) -> Result<()> {
    let times = Mutex::new(Histogram::<u64>::new(3)?);
    let began = Instant::now();
    let all = stream::iter(0..args.submits).map(|_| {
        let platform = node.platform().clone();
        let times = &times;
        async move {
            let job = job(args, "noop", "bench-submit")?;
            let at = Instant::now();
            platform.submit(job).await.context("submit")?;
            let micros = u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX);
            times.lock().unwrap_or_else(PoisonError::into_inner).record(micros)?;
            anyhow::Ok(())
        }
    });
    let mut all = all.buffer_unordered(args.clients);
    while let Some(done) = all.next().await {
        done?;
    }
    let rate = args.submits as f64 / began.elapsed().as_secs_f64();
    let on = json!({ "store": engine, "clients": args.clients });
    figure("submit_single", rate, "jobs/s", on.clone());
    let times = times.lock().unwrap_or_else(PoisonError::into_inner);
    figure("submit_ack_p50", times.value_at_quantile(0.5) as f64 / 1_000.0, "ms", on.clone());
    figure("submit_ack_p99", times.value_at_quantile(0.99) as f64 / 1_000.0, "ms", on);
    Ok(())
}

/// From before a submission to the start of its handler, at a steady rate.
async fn latency(args: &Args, data_dir: &std::path::Path, engine: &str) -> Result<()> {
    type Starts = Arc<Mutex<HashMap<uuid::Uuid, Instant>>>;
    let starts = Starts::default();
    let (seen, mut handlers) = (starts.clone(), Registry::new());
    handlers.handle_fn("bench.start", move |ctx: JobContext, _: serde_json::Value| {
        let seen = seen.clone();
        async move {
            seen.lock().unwrap_or_else(PoisonError::into_inner).insert(ctx.job_id(), Instant::now());
            Ok(())
        }
    });
    let node = start(args, data_dir, 64, handlers).await?;
    let count = args.rate * args.latency_seconds;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(args.rate)?.max(1));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut sent = HashMap::new();
    let mut waiting = stream::FuturesUnordered::new();
    for _ in 0..count {
        ticks.tick().await;
        let job = job(args, "bench.start", "bench-latency")?;
        sent.insert(job.id.0, Instant::now());
        let platform = node.platform().clone();
        waiting.push(async move { platform.submit(job).await });
        while let Some(Some(done)) = futures_util::FutureExt::now_or_never(waiting.next()) {
            done.context("submit")?;
        }
    }
    while let Some(done) = waiting.next().await {
        done.context("submit")?;
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while starts.lock().unwrap_or_else(PoisonError::into_inner).len() < sent.len() {
        if Instant::now() > deadline {
            bail!("not every job was started");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut times = Histogram::<u64>::new(3)?;
    for (job, at) in starts.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        if let Some(sent) = sent.get(job) {
            times.record(u64::try_from(at.saturating_duration_since(*sent).as_micros()).unwrap_or(0))?;
        }
    }
    let on = json!({ "store": engine, "rate": args.rate });
    for (name, quantile) in [("start_latency_p50", 0.5), ("start_latency_p99", 0.99)] {
        figure(name, times.value_at_quantile(quantile) as f64 / 1_000.0, "ms", on.clone());
    }
    node.shutdown().await
}
