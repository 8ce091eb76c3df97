//! Queues as operators see and change them: all from their owners' memory.

use serde::{Deserialize, Serialize};

use super::{AskError, Platform};
use crate::{
    actors::queue::{
        core::QueueOrder,
        handle::QueueHandle,
        messages::QueueRequest,
        stats::{Histogram, Stats},
    },
    domain::{QueueConfig, Timestamp},
    store::ops::Requester,
};

/// How many jobs are in each state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobCounts {
    /// Ready to run.
    pub queued: i64,
    /// Waiting for their time.
    pub scheduled: i64,
    /// Waiting for their backoff.
    pub retrying: i64,
    /// Waiting for other jobs.
    pub blocked: i64,
    /// Held by a limit.
    pub throttled: i64,
    /// Running.
    pub active: i64,
    /// Done.
    pub completed: i64,
    /// In the dead letters.
    pub failed: i64,
    /// Canceled.
    pub canceled: i64,
}

impl From<[i64; 9]> for JobCounts {
    fn from(counts: [i64; 9]) -> Self {
        let [queued, scheduled, retrying, blocked, throttled, active, completed, failed, canceled] = counts;
        Self { queued, scheduled, retrying, blocked, throttled, active, completed, failed, canceled }
    }
}

/// Jobs that ended, completed, failed for good or canceled, per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueThroughput {
    /// Over the last minute.
    pub last_minute: f64,
    /// Over the last hour.
    pub last_hour: f64,
}

/// Times that shares of all stay below, to within an eighth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Percentiles {
    /// Half of them, in milliseconds.
    pub p50_ms: f64,
    /// 95 in 100.
    pub p95_ms: f64,
    /// 99 in 100.
    pub p99_ms: f64,
}

impl Percentiles {
    /// Of these times; `None` when there are none.
    #[must_use]
    pub fn of(times: &Histogram) -> Option<Self> {
        let quantile = |quantile| times.quantile_ms(quantile);
        Some(Self { p50_ms: quantile(0.5)?, p95_ms: quantile(0.95)?, p99_ms: quantile(0.99)? })
    }
}

/// How long jobs of the last hour took; what has no job is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct QueueLatency {
    /// From becoming ready to the lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Percentiles>,
    /// From the lease to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution: Option<Percentiles>,
}

/// A queue.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueView {
    /// Its name.
    pub name: String,
    /// Whether dispatch is stopped.
    pub paused: bool,
    /// Whether submissions are refused; with `paused`, what was to be finished is.
    pub draining: bool,
    /// How many of its jobs are in each state.
    pub counts: JobCounts,
    /// How long the first of the jobs that are ready has waited, in milliseconds; 0 when none waits. Jobs that no
    /// worker handles count too, and until the last of them has left, the first of them does.
    pub oldest_queued_age_ms: i64,
    /// How much gets done.
    pub throughput: QueueThroughput,
    /// How long it takes.
    pub latency: QueueLatency,
    /// The run of the node that owns it.
    pub owner: String,
    /// How many of its jobs run at once, at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Its settings.
    pub config: QueueConfig,
}

impl Platform {
    /// A queue, if this node has it.
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<QueueView> {
        let queue = self.0.shards.queues().get(name)?;
        Some(self.view(&queue, self.clock().now()))
    }

    /// The queues behind `after` in the order of their names, at most `limit`; and whether there are more.
    #[must_use]
    pub fn queues(&self, after: Option<&str>, limit: usize) -> (Vec<QueueView>, bool) {
        let mut queues = self.0.shards.queues().all();
        queues.retain(|queue| after.is_none_or(|after| **queue.name() > *after));
        queues.sort_unstable_by(|one, other| one.name().cmp(other.name()));
        let now = self.clock().now();
        let views = queues.iter().take(limit).map(|queue| self.view(queue, now)).collect();
        (views, queues.len() > limit)
    }

    /// Changes a queue's settings; makes the queue if it is not there. In force when this returns.
    ///
    /// # Errors
    /// The node's; after `TimedOut` it may have been done.
    pub async fn order(&self, queue: &str, order: QueueOrder, by: Requester) -> Result<QueueView, AskError> {
        let queue = self.0.shards.queue(queue)?;
        queue.ask(|reply| QueueRequest::Order { order, by, reply }).await?;
        Ok(self.view(&queue, self.clock().now()))
    }

    fn view(&self, queue: &QueueHandle, now: Timestamp) -> QueueView {
        let (view, condition) = (queue.view(), queue.view().condition());
        let counts = JobCounts::from(view.counts().map(|count| count.max(0)));
        let age = |oldest: Timestamp| now.millis_since(oldest).max(0);
        let stats = view.stats(0);
        QueueView {
            name: queue.name().to_string(),
            paused: condition.paused,
            draining: condition.draining,
            oldest_queued_age_ms: condition.oldest.filter(|_| counts.queued > 0).map_or(0, age),
            counts,
            throughput: throughput(&stats, now),
            latency: latency(&stats, now),
            owner: self.node().to_owned(),
            concurrency: condition.config.concurrency,
            config: condition.config,
        }
    }
}

const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;

fn throughput(stats: &Stats, now: Timestamp) -> QueueThroughput {
    let rate = |seconds: i64| stats.last(seconds, now).finished() as f64 / seconds as f64;
    QueueThroughput { last_minute: rate(MINUTE), last_hour: rate(HOUR) }
}

fn latency(stats: &Stats, now: Timestamp) -> QueueLatency {
    let sum = stats.last(HOUR, now);
    QueueLatency { queue: Percentiles::of(&sum.latency), execution: Percentiles::of(&sum.execution) }
}
