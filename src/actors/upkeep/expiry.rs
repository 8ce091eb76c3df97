//! Jobs past their `expiresAt`: found in the store, canceled by their queues.
//!
//! A grant refuses such a job anyway; this ends those that nobody would grant: blocked, deferred, behind a gate,
//! in a paused queue, without a worker.

use std::{collections::HashMap, time::Duration};

use super::state::Round;
use crate::{
    actors::queue::messages::QueueOp,
    domain::{JobId, Timestamp},
};

/// How often: with the time a cancel takes, a job is canceled less than a second after its time.
const EXPIRE_EVERY: Duration = Duration::from_millis(500);
/// The most jobs of one reading.
const PAGE: usize = 1_000;
/// The most readings before the next pause: what is left is as late as the store is busy.
const PAGES_MAX: usize = 20;

impl Round {
    /// Has jobs canceled whose time to start is over, as long as the node runs.
    pub(super) async fn expire(self) {
        loop {
            tokio::time::sleep(EXPIRE_EVERY).await;
            let mut after: Option<(Timestamp, JobId)> = None;
            for _ in 0..PAGES_MAX {
                let read = self.store.expired(after, i64::try_from(PAGE).unwrap_or(i64::MAX)).await;
                let rows = match read {
                    Ok(rows) => rows,
                    Err(error) => {
                        tracing::warn!(%error, "jobs past their time were not read");
                        break;
                    }
                };
                let is_last = rows.len() < PAGE;
                after = rows.last().map(|row| (row.expires_at, row.job));
                let mut by_queue: HashMap<String, Vec<JobId>> = HashMap::new();
                for row in rows {
                    if self.shards.epochs().iter().any(|owned| owned.shard == row.shard) {
                        by_queue.entry(row.queue).or_default().push(row.job);
                    }
                }
                for (name, jobs) in by_queue {
                    self.tell_expired(&name, jobs);
                }
                if is_last {
                    break;
                }
            }
        }
    }

    /// Unheard, the next reading brings them again.
    fn tell_expired(&self, name: &str, jobs: Vec<JobId>) {
        match self.shards.queue(name) {
            // A queue that does not take its ops must not pile these up.
            Ok(queue) if queue.has_time_for_expired() => {
                if !queue.tell(QueueOp::Expired(jobs)) {
                    tracing::debug!(queue.name = name, "no room to tell of jobs past their time");
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(queue.name = name, %error, "jobs past their time wait for their queue")
            }
        }
    }
}
