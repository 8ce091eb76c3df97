//! Turns a handler's panic into a failure of its own attempt.
//!
//! The panic hook is the only place that knows where a panic happened, and it is global to the process: ours is
//! put in front of the one already there, only notes panics of attempts, and always calls the one behind it.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Once;

use futures_util::FutureExt;

use super::JobError;

tokio::task_local! {
    /// Where the attempt of this task panicked.
    static PANICKED_AT: RefCell<Option<String>>;
}

static HOOK: Once = Once::new();

/// Runs `attempt`; a panic in it becomes a retryable failure `panic` with the place it came from, and the stack
/// where `RUST_BACKTRACE` asks for one (unwinding symbols for each panic would stall the runtime's threads).
pub(super) async fn caught<T>(attempt: impl Future<Output = Result<T, JobError>>) -> Result<T, JobError> {
    HOOK.call_once(install_hook);
    PANICKED_AT
        .scope(RefCell::new(None), async move {
            match AssertUnwindSafe(attempt).catch_unwind().await {
                Ok(result) => result,
                Err(payload) => {
                    let mut error = panic_error(payload.as_ref());
                    error.stack_trace = PANICKED_AT.with(RefCell::take);
                    Err(error)
                }
            }
        })
        .await
}

/// The failure that a panic's payload tells of.
pub(super) fn panic_error(payload: &(dyn Any + Send)) -> JobError {
    let message = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the handler panicked without a message".to_owned());
    JobError::retryable("panic", message)
}

fn install_hook() {
    let next = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // Fails outside of an attempt's task, and that is the filter.
        let _ = PANICKED_AT.try_with(|noted| {
            let mut text = info.location().map(|place| format!("at {place}")).unwrap_or_default();
            let stack = Backtrace::capture();
            if stack.status() == BacktraceStatus::Captured {
                text.push('\n');
                text.push_str(&stack.to_string());
            }
            if let Ok(mut noted) = noted.try_borrow_mut() {
                *noted = Some(text);
            }
        });
        next(info);
    }));
}
