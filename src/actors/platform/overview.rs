//! Counts over the whole node, from its owners' memory.

use serde::{Deserialize, Serialize};

use super::Platform;
use crate::domain::Timestamp;

/// Counts over the whole node, from its owners' memory.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// All jobs that are kept.
    pub total_jobs: i64,
    /// Ready to run.
    pub queued_jobs: i64,
    /// Waiting for other jobs.
    pub blocked_jobs: i64,
    /// Held by a limit.
    pub throttled_jobs: i64,
    /// Running.
    pub active_jobs: i64,
    /// In the dead letters.
    pub failed_jobs: i64,
    /// Waiting for their backoff.
    pub retrying_jobs: i64,
    /// Done.
    pub completed_jobs: i64,
    /// Waiting for their time.
    pub scheduled_jobs: i64,
    /// Canceled.
    pub canceled_jobs: i64,
    /// Ready jobs by queue.
    pub queue_lengths: std::collections::BTreeMap<String, i64>,
    /// Mean execution time of attempts that ended since the node started, in milliseconds.
    pub average_exec_ms: f64,
    /// When these numbers were put together.
    #[schema(value_type = String, format = DateTime)]
    pub last_updated_at: Timestamp,
    /// Workers with a live session.
    pub active_workers: i64,
    /// Scheduled and retrying jobs together.
    pub delayed_backlog: i64,
}

impl Platform {
    /// Counts over the whole node, from its owners' memory.
    #[must_use]
    pub fn overview(&self) -> Overview {
        let mut counts = [0_i64; 9];
        let (mut exec_micros, mut exec_count) = (0_u64, 0_u64);
        let mut queue_lengths = std::collections::BTreeMap::new();
        for queue in self.0.shards.queues().all() {
            let of_queue = queue.view().counts();
            for (sum, count) in counts.iter_mut().zip(of_queue) {
                *sum += count;
            }
            let (micros, ended) = queue.view().executions();
            exec_micros += micros;
            exec_count += ended;
            queue_lengths.insert(queue.name().to_string(), of_queue[0]);
        }
        crate::metrics::jobs(&counts);
        let [queued, scheduled, retrying, blocked, throttled, active, completed, failed, canceled] = counts;
        Overview {
            total_jobs: counts.iter().sum(),
            queued_jobs: queued,
            blocked_jobs: blocked,
            throttled_jobs: throttled,
            active_jobs: active,
            failed_jobs: failed,
            retrying_jobs: retrying,
            completed_jobs: completed,
            scheduled_jobs: scheduled,
            canceled_jobs: canceled,
            queue_lengths,
            average_exec_ms: exec_micros as f64 / 1_000.0 / exec_count.max(1) as f64,
            last_updated_at: self.0.clock.now(),
            active_workers: i64::try_from(self.0.sessions.len()).unwrap_or(i64::MAX),
            delayed_backlog: scheduled + retrying,
        }
    }
}
