//! Waiting on state with a deadline: the only place where a test may sleep.
//!
//! A sleep guesses how long something takes and is wrong on a busy machine; a condition with a deadline is fast
//! when the machine is fast and says what it still saw when it gives up.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

/// Short enough to add nothing to a test, long enough to leave the core to what is waited for.
const POLL: Duration = Duration::from_millis(5);

/// Polls until `check` gives a value; panics with `what` after `deadline`.
pub async fn wait_until<T, Fut>(what: &str, deadline: Duration, mut check: impl FnMut() -> Fut) -> T
where
    Fut: Future<Output = Option<T>>,
{
    wait_for(what, deadline, || {
        let checked = check();
        async move { checked.await.ok_or("nothing yet") }
    })
    .await
}

/// As `wait_until`, for a `check` that can say what it saw instead: `Err(state)` is "not yet", and the last one is
/// in the panic. A check that hangs is cut at the deadline.
pub async fn wait_for<T, S, Fut>(what: &str, deadline: Duration, mut check: impl FnMut() -> Fut) -> T
where
    S: Debug,
    Fut: Future<Output = Result<T, S>>,
{
    let end = Instant::now() + deadline;
    let mut last = "nothing".to_owned();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left.max(POLL), check()).await {
            Ok(Ok(value)) => return value,
            Ok(Err(state)) => last = format!("{state:?}"),
            Err(_) => {
                panic!("{what}: not within {deadline:?}; the check itself hung, after it saw {last}")
            }
        }
        assert!(Instant::now() < end, "{what}: not within {deadline:?}; last saw {last}");
        tokio::time::sleep(POLL).await;
    }
}

/// `wait_for` without a runtime, for what starts and stops processes.
pub fn block_until<T, S: Debug>(
    what: &str,
    deadline: Duration,
    mut check: impl FnMut() -> Result<T, S>,
) -> Result<T, String> {
    let end = Instant::now() + deadline;
    loop {
        let state = match check() {
            Ok(value) => return Ok(value),
            Err(state) => state,
        };
        if Instant::now() >= end {
            return Err(format!("{what}: not within {deadline:?}; last saw {state:?}"));
        }
        std::thread::sleep(POLL);
    }
}

/// Lets a chosen time pass before a fault lands, or between the requests of a load. Never for waiting on a state.
pub async fn elapse(offset: Duration) {
    tokio::time::sleep(offset).await;
}
