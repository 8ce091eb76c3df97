//! Waiting for a job's end over any number of requests, and over a restart of the node.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    cli::{
        CliError,
        node::{Answer, Node},
        stream::Backoff,
    },
    domain::JobId,
};

/// What one request asks for: the node takes at most 60 s, and proxies often cut at 60.
const ONE_WAIT_MAX: Duration = Duration::from_secs(30);
/// A node that is leaving answers at once: it is not asked more often than this.
const ASK_INTERVAL_MIN: Duration = Duration::from_millis(250);
/// A node that answers with an error may be restarting: so long it is asked again.
const AWAY_MAX: Duration = Duration::from_secs(30);

/// How a wait ended.
#[derive(Debug)]
pub(super) struct Waited {
    /// The job.
    pub(super) answer: Answer,
    /// Whether the job has; otherwise the time ran out.
    pub(super) ended: bool,
}

/// Waits until the job has ended, or for `limit`.
pub(super) async fn wait(node: &Node, id: JobId, limit: Option<Duration>) -> Result<Waited, CliError> {
    let deadline = limit.map(|limit| Instant::now() + limit);
    let (mut backoff, mut away_since) = (Backoff::default(), None);
    loop {
        let asked = Instant::now();
        let left = deadline.map(|deadline| deadline.saturating_duration_since(asked));
        let answer = once(node, id, left.map_or(ONE_WAIT_MAX, |left| left.min(ONE_WAIT_MAX))).await;
        let is_over = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        match answer {
            Ok(answer) if answer.status != 202 => return Ok(Waited { answer, ended: true }),
            Ok(answer) if is_over() => return Ok(Waited { answer, ended: false }),
            Ok(_) => {
                (backoff, away_since) = (Backoff::default(), None);
                tokio::time::sleep_until(asked + ASK_INTERVAL_MIN).await;
            }
            Err(error) => {
                let since = *away_since.get_or_insert(asked);
                if !error.is_passing() || since.elapsed() >= AWAY_MAX || is_over() {
                    return Err(error);
                }
                sleep(backoff.pause()).await;
            }
        }
    }
}

/// Waits once; answered with 202 if the time ran out.
pub(super) async fn once(node: &Node, id: JobId, at_most: Duration) -> Result<Answer, CliError> {
    let seconds = format!("{:.3}", at_most.as_secs_f64());
    let query = [("timeoutSeconds", seconds)];
    node.get_within(&["jobs", &id.to_string(), "wait"], &query, node.timeout + at_most).await
}
