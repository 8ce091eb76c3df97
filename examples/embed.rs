//! A program that embeds a node and runs job types of its own beside the built-in ones.
//!
//! `cargo run --example embed` starts a node on a free port with a store in a temporary folder, submits four jobs,
//! shows how they end, and stops the node. Settings come from the environment as for `ganger-node`: with
//! `POSTGRES_URL` set the jobs are kept there.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail};
use async_trait::async_trait;
use clap::Parser;
use ganger::{
    actors::console::{StreamItem, Topics},
    config::Config,
    domain::{JobId, JobView, RawJson, SubmitDefaults, SubmitRequest},
    store::ops::Submitted,
    system::{Node, NodeBuilder},
    worker::{Handler, JobContext, JobError, JobOutput, Registry},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How long a job may take to end. All of them take milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// What an `invoice.total` job is submitted with.
#[derive(Deserialize)]
struct Invoice {
    lines: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    cents: u64,
    count: u64,
}

#[derive(Serialize)]
struct Total {
    cents: u64,
}

/// A handler as a struct, for those that hold something: a pool, a client, settings.
struct InvoiceTotal {
    /// Larger totals need a person.
    limit_cents: u64,
}

#[async_trait]
impl Handler for InvoiceTotal {
    async fn run(&self, ctx: JobContext) -> Result<JobOutput, JobError> {
        // A payload of another shape ends the job at once, with the field's name.
        let invoice: Invoice = ctx.payload()?;
        let cents = invoice.lines.iter().try_fold(0u64, |sum, line| {
            line.cents.checked_mul(line.count).and_then(|cents| sum.checked_add(cents))
        });
        match cents {
            Some(cents) if cents <= self.limit_cents => JobOutput::of(&Total { cents }),
            // No further attempt would change it.
            _ => Err(JobError::fatal("over_limit", "the total is over the limit")),
        }
    }
}

/// What this program's node can run, besides what every node can.
fn handlers() -> Registry {
    let mut handlers = Registry::new();
    handlers.register("invoice.total", InvoiceTotal { limit_cents: 1_000_000 });
    // Or an async function of the context and the typed payload.
    handlers.handle_fn("greet", |_ctx, name: String| async move { Ok(format!("hello, {name}")) });
    handlers
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let node = start(folder.path()).await?;
    println!("a node listens on http://{}", node.address());
    let shown = show(&node).await;
    // In good order also after a fault: jobs that run end, or are given back.
    node.shutdown().await?;
    shown
}

async fn start(data_dir: &Path) -> anyhow::Result<Node> {
    let mut config = Config::try_parse_from(["ganger-node", "--http-addr", "127.0.0.1:0"])?;
    config.data_dir = data_dir.to_owned();
    NodeBuilder::new(config).handlers(handlers()).start().await
}

/// Submits one job after the other and says how each ended.
async fn show(node: &Node) -> anyhow::Result<()> {
    let lines = json!({ "lines": [{ "cents": 1250, "count": 3 }, { "cents": 99, "count": 1 }] });
    for (kind, payload) in [
        ("greet", json!("Ada")),
        ("invoice.total", lines),
        ("invoice.total", json!({ "lines": [{ "cents": "12.50", "count": 1 }] })),
        // Built in.
        ("report.generate", json!({ "reportId": "today" })),
    ] {
        let job = run(node, kind, &payload).await?;
        let result = job.result.as_ref().map_or("no result", |result| result.text());
        println!("{kind} {}: {}", job.state, job.last_error.as_deref().unwrap_or(result));
    }
    Ok(())
}

/// Submits a job and waits for its end.
async fn run(node: &Node, kind: &str, payload: &Value) -> anyhow::Result<JobView> {
    // Before the job is made, so that its end is not missed.
    let mut events = node.platform().hub().subscribe(Topics::all(), None);
    let id = submit(node, kind, payload).await?;
    let ended = async {
        loop {
            match events.next().await {
                StreamItem::Event(event)
                    if event.job_id == Some(id) && event.state.is_some_and(|state| state.is_terminal()) =>
                {
                    return Ok(());
                }
                StreamItem::Closed => bail!("the node has stopped"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.with_context(|| format!("{kind} did not end in time"))??;
    node.platform().store().job(id).await?.context("the job is gone")
}

/// Returns when the job is durable.
async fn submit(node: &Node, kind: &str, payload: &Value) -> anyhow::Result<JobId> {
    let request = SubmitRequest {
        kind: kind.to_owned(),
        payload: Some(RawJson::trusted(payload.to_string())),
        ..SubmitRequest::default()
    };
    let now = node.platform().clock().now();
    let job = request.check(&SubmitDefaults::default(), now);
    let job = job.map_err(|faults| anyhow::anyhow!("not a valid job: {faults:?}"))?;
    let id = job.id;
    match node.platform().submit(job).await? {
        Submitted::Made { .. } => Ok(id),
        // Only for a job with an idempotency key.
        Submitted::Duplicate(first) => Ok(first),
    }
}
