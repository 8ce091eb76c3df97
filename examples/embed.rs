//! A program with job types of its own: a handler as a struct, one as a function, and a rehearsal of both.
//!
//! Here the attempts run without a node, which is also how handlers are tested.

use std::sync::Arc;

use async_trait::async_trait;
use ganger::worker::{
    Assignment, AttemptControl, AttemptOutcome, Handler, JobContext, JobError, JobOutput, LogLevel, NullSink,
    Registry, run_attempt, system_clock,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

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

struct InvoiceTotal;

#[async_trait]
impl Handler for InvoiceTotal {
    async fn run(&self, ctx: JobContext) -> Result<JobOutput, JobError> {
        let invoice: Invoice = ctx.payload()?;
        ctx.log(LogLevel::Info, format!("adding up {} lines", invoice.lines.len()));
        let cents = invoice.lines.iter().try_fold(0u64, |sum, line| {
            line.cents.checked_mul(line.count).and_then(|cents| sum.checked_add(cents))
        });
        match cents {
            Some(cents) => JobOutput::of(&Total { cents }),
            // No attempt will ever make it fit.
            None => Err(JobError::fatal("overflow", "the total is too large")),
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut registry = Registry::new();
    registry.register("invoice.total", InvoiceTotal);
    registry.handle_fn("greet", |_ctx, name: String| async move { Ok(format!("hello, {name}")) });

    for (job_type, payload) in [
        ("invoice.total", json!({ "lines": [{ "cents": 1250, "count": 3 }, { "cents": 99, "count": 1 }] })),
        ("greet", json!("Ada")),
        ("invoice.total", json!({ "lines": [{ "cents": "12.50" }] })),
    ] {
        let payload = Arc::from(serde_json::value::to_raw_value(&payload)?);
        let assignment = Assignment::new(Uuid::now_v7(), job_type, payload, system_clock());
        let control = AttemptControl::new(CancellationToken::new(), Arc::new(NullSink));
        match run_attempt(&registry, assignment, control).await.outcome {
            AttemptOutcome::Completed { result } => println!("{job_type}: {}", result.get()),
            AttemptOutcome::Failed { error } => println!("{job_type} failed: {error}"),
            AttemptOutcome::TimedOut | AttemptOutcome::Canceled => println!("{job_type} was stopped"),
        }
    }
    Ok(())
}
