//! Runs one attempt of one job and says how it ended.
//!
//! ```text
//! run_attempt ── handler task ──▶ finished            → Completed | Failed
//!      │            ▲
//!      ├─ timeout ──┤ told by the token, a grace, then aborted → TimedOut
//!      └─ cancel ───┘ the same                                 → Canceled
//! ```
//! The handler's task belongs to the future returned here: dropping that stops the handler at its next await. A
//! panic or an abort harms its own attempt alone. Nothing is reported from here: the session does that.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::panics::{caught, panic_error};
use super::{Assignment, Clock, Handler, JobContext, JobError, JobOutput, JobSink, Registry, system_clock};

/// Largest result of a job: the contract's 1 MiB.
pub const RESULT_BYTES_MAX: usize = 1024 * 1024;
/// Longest message of a failure; it is kept with every attempt and shown in lists.
pub const ERROR_MESSAGE_BYTES_MAX: usize = 8 * 1024;
/// Longest stack trace of a failure.
pub const STACK_TRACE_BYTES_MAX: usize = 64 * 1024;

/// Longest time for one attempt: the contract's 7 days.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

type Finished = Result<JobOutput, JobError>;

/// How the owner of an attempt steers it.
#[derive(Clone)]
pub struct AttemptControl {
    /// Cancelled to stop the attempt.
    pub cancel: CancellationToken,
    /// Takes progress and log lines.
    pub sink: Arc<dyn JobSink>,
    /// How long a handler that was told to stop may take to do so before it is aborted.
    pub grace: Duration,
    /// The same for one that is canceled, when that is more; `None`: no more.
    pub cancel_grace: Option<Duration>,
    /// Cancelled when `grace` alone holds: the node stops, or the lease is lost.
    pub hurry: CancellationToken,
    /// Tells the time that the report carries.
    pub clock: Clock,
}

impl AttemptControl {
    /// Control by `cancel` and `sink`, with a grace of 5 s: enough to flush, well under a lease's TTL.
    pub fn new(cancel: CancellationToken, sink: Arc<dyn JobSink>) -> Self {
        Self {
            cancel,
            sink,
            grace: Duration::from_secs(5),
            cancel_grace: None,
            hurry: CancellationToken::new(),
            clock: system_clock,
        }
    }
}

impl std::fmt::Debug for AttemptControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AttemptControl").field("grace", &self.grace).finish_non_exhaustive()
    }
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub enum AttemptOutcome {
    /// The handler succeeded.
    Completed {
        /// What it produced.
        result: JobOutput,
    },
    /// The handler failed or panicked, or its result cannot be kept.
    Failed {
        /// Why.
        error: JobError,
    },
    /// The attempt took longer than its timeout.
    TimedOut,
    /// The attempt was told to stop; whatever the handler said after that does not count.
    Canceled,
}

/// What became of an attempt, and when.
#[derive(Debug, Clone)]
pub struct AttemptReport {
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// When the handler was started.
    pub started_at: DateTime<Utc>,
    /// When it had ended or was aborted.
    pub finished_at: DateTime<Utc>,
    /// The time between, on a clock that never jumps.
    pub execution: Duration,
    /// Notes (log lines, progress) that found no room in the sink.
    pub notes_dropped: u64,
}

/// Runs `assignment` with its handler from `registry`; always ends within timeout + grace, cancel + grace at the
/// latest, provided that the handler does not block its thread.
pub async fn run_attempt(
    registry: &Registry,
    assignment: Assignment,
    control: AttemptControl,
) -> AttemptReport {
    let started_at = (control.clock)();
    let started = Instant::now();
    let deadline = started + assignment.timeout.min(TIMEOUT_MAX);
    let stop = control.cancel.child_token();
    let job_type = assignment.job_type.clone();
    let span = tracing::info_span!(
        "attempt",
        job.id = %assignment.job_id,
        job.r#type = %job_type,
        queue.name = %assignment.queue,
        job.attempt = assignment.attempt,
    );
    let ctx = JobContext::new(assignment, stop.clone(), deadline, control.sink.clone());

    let outcome = match registry.get(&job_type) {
        None => AttemptOutcome::Failed {
            // Another worker may know the type, so the job is not lost for it.
            error: JobError::retryable("no_handler", format!("no handler for job type {job_type}")),
        },
        Some(handler) => {
            // Dropping the set aborts the task: the handler lives no longer than the caller's interest in it.
            let mut task = JoinSet::new();
            let attempt = execute(handler, registry.is_built_in(&job_type), ctx.clone());
            task.spawn(caught(attempt).instrument(span));
            supervise(task, deadline, &stop, &control, &ctx).await
        }
    };
    AttemptReport {
        outcome,
        started_at,
        finished_at: (control.clock)(),
        execution: started.elapsed(),
        notes_dropped: ctx.notes_dropped(),
    }
}

async fn supervise(
    mut task: JoinSet<Finished>,
    deadline: Instant,
    stop: &CancellationToken,
    control: &AttemptControl,
    ctx: &JobContext,
) -> AttemptOutcome {
    // Biased: a handler that finished counts as finished even if time ran out in the same instant.
    let outcome = tokio::select! {
        biased;
        finished = task.join_next() => {
            // Only what ended before it was told to stop counts, however quickly it obeyed.
            if control.cancel.is_cancelled() {
                ctx.note_stop_seen();
                return AttemptOutcome::Canceled;
            }
            return outcome_of(finished);
        }
        () = control.cancel.cancelled() => AttemptOutcome::Canceled,
        () = tokio::time::sleep_until(deadline) => AttemptOutcome::TimedOut,
    };
    stop.cancel();
    tokio::select! {
        biased;
        _ = task.join_next() => ctx.note_stop_seen(),
        () = patience(control, &outcome) => task.shutdown().await,
    }
    outcome
}

/// As long as a handler that was told to stop is waited for.
async fn patience(control: &AttemptControl, outcome: &AttemptOutcome) {
    let long = control.cancel_grace.filter(|_| matches!(outcome, AttemptOutcome::Canceled));
    let Some(long) = long.filter(|long| *long > control.grace) else {
        return tokio::time::sleep(control.grace).await;
    };
    tokio::select! {
        () = tokio::time::sleep(long) => {}
        () = async { control.hurry.cancelled().await; tokio::time::sleep(control.grace).await } => {}
    }
}

fn outcome_of(finished: Option<Result<Finished, JoinError>>) -> AttemptOutcome {
    let finished = match finished {
        Some(Ok(finished)) => finished,
        Some(Err(error)) if error.is_panic() => Err(panic_error(error.into_panic().as_ref())),
        // Only a runtime that is shutting down ends the task without our asking.
        Some(Err(_)) | None => return AttemptOutcome::Canceled,
    };
    match finished {
        Ok(result) if result.get().len() > RESULT_BYTES_MAX => AttemptOutcome::Failed {
            error: JobError::fatal(
                "result_too_large",
                format!("result of {} bytes is over the limit of {RESULT_BYTES_MAX}", result.get().len()),
            ),
        },
        Ok(result) => AttemptOutcome::Completed { result },
        Err(mut error) => {
            error.message.truncate(error.message.floor_char_boundary(ERROR_MESSAGE_BYTES_MAX));
            if let Some(stack) = &mut error.stack_trace {
                stack.truncate(stack.floor_char_boundary(STACK_TRACE_BYTES_MAX));
            }
            AttemptOutcome::Failed { error }
        }
    }
}

async fn execute(handler: Arc<dyn Handler>, built_in: bool, ctx: JobContext) -> Finished {
    if !built_in {
        return handler.run(ctx).await;
    }
    // Built-in processors hold nothing that dropping them at an await would leave half done.
    let stop = ctx.cancelled().clone();
    tokio::select! {
        biased;
        finished = async { rehearse(&ctx).await?; handler.run(ctx).await } => finished,
        () = stop.cancelled() => Err(JobError::retryable("canceled", "told to stop")),
    }
}

/// What every built-in type understands, for demos and tests.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rehearsal {
    duration_ms: Option<u64>,
    force_error: Value,
}

/// Takes the extra time and the failure that the payload asks for.
async fn rehearse(ctx: &JobContext) -> Result<(), JobError> {
    if !ctx.assignment().payload.get().trim_start().starts_with('{') {
        return Ok(());
    }
    let Rehearsal { duration_ms, force_error } = ctx.payload()?;
    if let Some(extra) = duration_ms {
        tokio::time::sleep(Duration::from_millis(extra)).await;
    }
    match force_error {
        Value::Bool(true) => Err(JobError::retryable("forced", "failed on purpose (forceError)")),
        Value::String(message) => Err(JobError::retryable("forced", message)),
        Value::Null | Value::Bool(false) | Value::Number(_) | Value::Array(_) | Value::Object(_) => Ok(()),
    }
}
