//! One attempt of one job: how it ends, and that it harms nothing else.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ganger::worker::{
    AttemptOutcome, AttemptReport, JobContext, JobError, RESULT_BYTES_MAX, Registry, run_attempt,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::support::{Bench, assignment, control, empty};

/// Far beyond what a working test takes.
const SOON: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
struct Sum {
    numbers: Vec<u64>,
}

fn failure(report: AttemptReport) -> JobError {
    match report.outcome {
        AttemptOutcome::Failed { error } => error,
        other => panic!("not failed: {other:?}"),
    }
}

/// Tells when it is dropped.
struct Dropped(Option<oneshot::Sender<()>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.take().map(|told| told.send(()));
    }
}

/// A handler that never ends and does not listen, and what tells when it is gone.
fn stubborn() -> (Registry, oneshot::Receiver<()>, oneshot::Receiver<()>) {
    let (started, has_started) = oneshot::channel();
    let (gone, is_gone) = oneshot::channel();
    let signals = std::sync::Mutex::new(Some((started, gone)));
    let mut registry = Registry::new();
    registry.handle_fn("stubborn", move |_: JobContext, _: Value| {
        let (started, gone) = signals.lock().unwrap().take().unwrap();
        async move {
            let _dropped = Dropped(Some(gone));
            started.send(()).unwrap();
            pending::<Result<(), JobError>>().await
        }
    });
    (registry, has_started, is_gone)
}

#[tokio::test]
async fn a_typed_handler_gets_its_payload_and_its_result_is_kept() {
    let mut registry = Registry::new();
    registry.handle_fn("sum", |_, sum: Sum| async move { Ok(sum.numbers.iter().sum::<u64>()) });
    let job = assignment("sum", &json!({"numbers": [1, 2, 39]}));
    let report = run_attempt(&registry, job, control()).await;
    let AttemptOutcome::Completed { result } = report.outcome else { panic!("not completed") };
    assert_eq!(result.get(), "42");
    assert!(report.started_at <= report.finished_at);

    let job = assignment("sum", &json!({"numbers": "all"}));
    let error = failure(run_attempt(&registry, job, control()).await);
    assert_eq!((error.error_type.as_str(), error.retryable), ("invalid_payload", false));
    assert!(error.message.starts_with("numbers: "), "{}", error.message);
}

#[tokio::test]
async fn a_type_without_handler_is_left_to_other_workers() {
    let error = failure(run_attempt(&Registry::new(), assignment("x", &empty()), control()).await);
    assert_eq!((error.error_type.as_str(), error.retryable), ("no_handler", true));
}

#[tokio::test]
async fn a_panic_fails_its_own_attempt_and_says_where_it_was() {
    let mut registry = Registry::new();
    registry.handle_fn("broken", |_, _: Value| async { if true { panic!("no {}", "way") } else { Ok(()) } });
    let error = failure(run_attempt(&registry, assignment("broken", &empty()), control()).await);
    assert_eq!((error.error_type.as_str(), error.message.as_str()), ("panic", "no way"));
    assert!(error.stack_trace.unwrap().contains("attempt.rs"));
    assert!(error.retryable);
}

#[tokio::test]
async fn a_result_is_kept_up_to_the_limit() {
    let mut registry = Registry::new();
    registry.handle_fn("text", |_, length: usize| async move { Ok("x".repeat(length)) });
    // The quotes count.
    let fits = run_attempt(&registry, assignment("text", &json!(RESULT_BYTES_MAX - 2)), control()).await;
    assert!(matches!(fits.outcome, AttemptOutcome::Completed { .. }));
    let over = run_attempt(&registry, assignment("text", &json!(RESULT_BYTES_MAX - 1)), control()).await;
    let error = failure(over);
    assert_eq!((error.error_type.as_str(), error.retryable), ("result_too_large", false));
}

#[tokio::test]
async fn a_handler_out_of_time_is_told_and_then_aborted() {
    let (registry, _started, gone) = stubborn();
    let mut job = assignment("stubborn", &empty());
    job.timeout = Duration::from_millis(20);
    let mut control = control();
    control.grace = Duration::from_millis(20);
    let report = run_attempt(&registry, job, control).await;
    assert!(matches!(report.outcome, AttemptOutcome::TimedOut));
    assert!(report.execution >= Duration::from_millis(40));
    tokio::time::timeout(SOON, gone).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_canceled_handler_may_end_within_its_grace() {
    let cleaned_up = Arc::new(AtomicBool::new(false));
    let seen = cleaned_up.clone();
    let control = control();
    let cancel = control.cancel.clone();
    let mut registry = Registry::new();
    registry.handle_fn("careful", move |ctx: JobContext, _: Value| {
        let (seen, cancel) = (seen.clone(), cancel.clone());
        async move {
            cancel.cancel();
            ctx.cancelled().cancelled().await;
            seen.store(true, Ordering::SeqCst);
            Ok(())
        }
    });
    let report = run_attempt(&registry, assignment("careful", &empty()), control).await;
    assert!(matches!(report.outcome, AttemptOutcome::Canceled));
    assert!(cleaned_up.load(Ordering::SeqCst));
}

#[tokio::test]
async fn dropping_the_attempt_stops_its_handler() {
    let (registry, started, gone) = stubborn();
    let mut attempt = Box::pin(run_attempt(&registry, assignment("stubborn", &empty()), control()));
    tokio::select! {
        _ = &mut attempt => panic!("the handler ended"),
        started = started => started.unwrap(),
    }
    drop(attempt);
    tokio::time::timeout(SOON, gone).await.unwrap().unwrap();
}

#[tokio::test]
async fn built_in_types_take_extra_time_and_fail_on_purpose() {
    let bench = Bench::new().await;
    let job = assignment("noop", &json!({"durationMs": 30}));
    let report = run_attempt(&bench.registry, job, control()).await;
    assert!(matches!(report.outcome, AttemptOutcome::Completed { .. }));
    assert!(report.execution >= Duration::from_millis(30));

    for (force, message) in [(json!(true), "failed on purpose (forceError)"), (json!("boom"), "boom")] {
        let error = bench.error("email.send", json!({"forceError": force})).await;
        assert_eq!((error.error_type.as_str(), error.message.as_str()), ("forced", message));
        assert!(error.retryable);
    }
    assert_eq!(bench.result("noop", json!([1, 2])).await, Value::Null);

    let control = control();
    control.cancel.cancel();
    let job = assignment("noop", &json!({"durationMs": 3_600_000}));
    let report = run_attempt(&bench.registry, job, control).await;
    assert!(matches!(report.outcome, AttemptOutcome::Canceled));
}

#[tokio::test]
async fn a_users_own_type_keeps_those_words_to_itself() {
    let mut registry = Registry::new();
    registry.handle_fn("mine", |_, payload: Value| async move { Ok(payload) });
    let job = assignment("mine", &json!({"forceError": true}));
    let report = run_attempt(&registry, job, control()).await;
    assert!(matches!(report.outcome, AttemptOutcome::Completed { .. }));
}
