//! The console's snapshot: numbers from memory, and four short lists that are read at most once a second,
//! however many readers there are.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{sync::Mutex, time::Instant};

use super::{Overview, Platform, WorkerView};
use crate::{
    actors::queue::stats::{Counted, Histogram, SLOT_SECONDS, SLOTS_MAX, Stats, start_of, tick_of},
    domain::{AttemptRow, BootId, JobState, JobView, Timestamp},
    store::{
        Store, StoreError,
        dead_letters::{LetterCursor, LetterFilter, LetterRow},
    },
};

/// Jobs of each list.
const LIST_MAX: i64 = 25;
/// Bytes of payloads and results of each list: they are kept, and sent with each answer. One job always fits.
const LIST_BYTES_MAX: usize = 3 << 20;
/// How long a snapshot is shown.
const FRESH: Duration = Duration::from_secs(1);
/// A snapshot is shown for so many times as long as adding its numbers up took: longer with very many queues.
const COST_MAX: u32 = 20;
/// How long the lists may take; the last ones are shown otherwise.
const LISTS_DEADLINE: Duration = Duration::from_secs(3);
/// After this long without a heartbeat another node may find that this one is gone, and take its store.
const LEADER_SILENCE_MAX_MS: i64 = 3_000;
/// The width of a trend's bucket when nothing is said.
pub const BUCKET_SECONDS_DEFAULT: i64 = 300;
/// Of what the metrics and the trend tell.
const HOUR_SECONDS: i64 = SLOTS_MAX as i64 * SLOT_SECONDS;

/// What a console shows first.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dashboard {
    /// The counts.
    pub overview: Overview,
    /// The last hour.
    pub metrics: HourMetrics,
    /// The last hour, in buckets.
    pub trend: Trend,
    /// The workers with a live session.
    pub workers: Vec<WorkerView>,
    /// The newest dead letters, at most 25.
    pub dead_letters: Vec<DashboardLetter>,
    /// The newest blocked jobs, at most 25.
    pub blocked_jobs: Vec<JobView>,
    /// The newest throttled jobs, at most 25.
    pub throttled_jobs: Vec<JobView>,
    /// The rate limits.
    pub rate_limits: Vec<RateLimitRow>,
    /// Who leads.
    pub leader: Leader,
    /// When the lists were read: longer ago than a second while the store does not answer.
    #[schema(value_type = String, format = DateTime)]
    pub lists_read_at: Timestamp,
}

/// The last hour, or the time since the node started if that is shorter.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HourMetrics {
    /// Jobs that ended (completed, dead-lettered, canceled) a second.
    pub jobs_per_second: f64,
    /// Attempts that were followed by another, of all that succeeded or failed; 0 to 1.
    pub retry_rate: f64,
    /// Jobs that were dead-lettered, of those that completed or were; 0 to 1.
    pub dead_letter_rate: f64,
    /// From the lease to its end.
    pub execution_latency: LatencyMs,
    /// From becoming ready to the lease.
    pub queue_latency: LatencyMs,
    /// How long ago the worker that was not heard longest was heard, in milliseconds.
    pub max_worker_heartbeat_age_ms: i64,
}

/// Percentiles in milliseconds, to within an eighth; 0 when nothing was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LatencyMs {
    /// The median.
    pub p50_ms: f64,
    /// 95 of 100 took no longer.
    pub p95_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
}

/// A value of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Point {
    /// When the bucket begins.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    /// The value.
    pub value: f64,
}

/// The last hour in buckets, oldest first; the newest is still under way.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trend {
    /// The width of a bucket in seconds: what was asked for, rounded up to a multiple of 5.
    pub bucket_seconds: i64,
    /// Jobs that ended a second.
    pub throughput: Vec<Point>,
    /// 95 of 100 attempts took no longer, in milliseconds.
    #[serde(rename = "executionP95Ms")]
    pub execution_p95_ms: Vec<Point>,
    /// 95 of 100 jobs waited no longer for their lease, in milliseconds.
    #[serde(rename = "queueLatencyP95Ms")]
    pub queue_latency_p95_ms: Vec<Point>,
    /// As in the metrics.
    pub retry_rate: Vec<Point>,
    /// As in the metrics.
    pub dead_letter_rate: Vec<Point>,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DashboardLetter {
    /// The letter.
    #[serde(flatten)]
    pub letter: crate::store::read::DeadLetter,
    /// The job.
    pub job: JobView,
    /// Its attempts, oldest first.
    pub attempts: Vec<AttemptRow>,
}

/// A rate limit and its use.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimitRow {
    /// The policy.
    #[schema(value_type = Object)]
    pub policy: serde_json::Value,
    /// Running jobs that it counts.
    pub active_count: i64,
    /// Jobs that started within its window.
    pub recent_count: i64,
    /// Jobs that it holds.
    pub throttled: i64,
}

/// Who leads. A node alone leads itself, for as long as it runs: its lease has no end to show.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Leader {
    /// The leader's run.
    #[schema(value_type = String, format = Uuid)]
    pub scheduler_id: BootId,
    /// Whether it can do its work: its store answers.
    pub is_leader_healthy: bool,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub acquired_at: Timestamp,
    /// When its heartbeat was written last; left out before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_heartbeat_at: Option<Timestamp>,
    /// Until when it leads without another heartbeat; left out before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub lease_expires_at: Option<Timestamp>,
}

/// What is shown until it is too old.
#[derive(Debug)]
struct Snapshot {
    until: Instant,
    stats: Stats,
    lists: Arc<Lists>,
}

#[derive(Debug, Clone, Default)]
struct Lists {
    letters: Vec<DashboardLetter>,
    blocked: Vec<JobView>,
    throttled: Vec<JobView>,
    read_at: Timestamp,
}

/// The newest snapshot; whoever finds it too old makes the next, and the others wait for that one.
#[derive(Debug)]
pub(super) struct SnapshotCache {
    began: Timestamp,
    newest: Mutex<Option<Arc<Snapshot>>>,
}

impl SnapshotCache {
    pub(super) fn new(began: Timestamp) -> Self {
        Self { began, newest: Mutex::new(None) }
    }
}

impl Platform {
    /// The console's snapshot, with a trend in buckets of `bucket_seconds` (5 to 3,600).
    pub async fn dashboard(&self, bucket_seconds: i64) -> Dashboard {
        let snapshot = self.snapshot().await;
        let now = self.clock().now();
        let workers = self.workers();
        let oldest = workers.iter().map(|worker| worker.heartbeat_age_ms).max().unwrap_or(0);
        let lived = now.millis_since(self.1.began) / 1_000;
        Dashboard {
            overview: self.overview(),
            metrics: metrics(&snapshot.stats, now, lived, oldest),
            trend: trend(&snapshot.stats, now, bucket_seconds),
            workers,
            dead_letters: snapshot.lists.letters.clone(),
            blocked_jobs: snapshot.lists.blocked.clone(),
            throttled_jobs: snapshot.lists.throttled.clone(),
            rate_limits: Vec::new(),
            leader: Leader {
                scheduler_id: self.boot(),
                is_leader_healthy: self.0.health.fault().is_none(),
                acquired_at: self.1.began,
                last_heartbeat_at: self.0.health.last_good(),
                lease_expires_at: self.0.health.last_good().map(|at| at.plus_millis(LEADER_SILENCE_MAX_MS)),
            },
            lists_read_at: snapshot.lists.read_at,
        }
    }

    async fn snapshot(&self) -> Arc<Snapshot> {
        let mut newest = self.1.newest.lock().await;
        if let Some(known) = newest.as_ref().filter(|known| Instant::now() < known.until) {
            return known.clone();
        }
        let began = Instant::now();
        let mut stats = Stats::default();
        for queue in self.0.shards.queues().all() {
            stats.merge(&queue.view().stats(0));
        }
        let merged = began.elapsed();
        let before = newest.as_ref().map(|known| known.lists.clone()).unwrap_or_default();
        let now = self.clock().now();
        let lists = match tokio::time::timeout(LISTS_DEADLINE, lists(self.store().as_ref(), now)).await {
            Ok(Ok(lists)) => Arc::new(lists),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the dashboard's lists were not read: the last ones are shown");
                before
            }
            Err(_) => before,
        };
        let read = began.elapsed().saturating_sub(merged);
        let until = Instant::now() + FRESH.max(merged * COST_MAX).max(read);
        newest.insert(Arc::new(Snapshot { until, stats, lists })).clone()
    }
}

async fn lists(store: &dyn Store, now: Timestamp) -> Result<Lists, StoreError> {
    let job = |job: &JobView| size(job);
    Ok(Lists {
        letters: bounded(newest_letters(store).await?, |letter| size(&letter.job)),
        blocked: bounded(store.newest_waiting(JobState::Blocked, LIST_MAX).await?, job),
        throttled: bounded(store.newest_waiting(JobState::Throttled, LIST_MAX).await?, job),
        read_at: now,
    })
}

fn size(job: &JobView) -> usize {
    job.payload.text().len() + job.result.as_ref().map_or(0, |result| result.text().len())
}

/// As many of the newest as fit.
fn bounded<T>(mut jobs: Vec<T>, size: impl Fn(&T) -> usize) -> Vec<T> {
    let mut left = LIST_BYTES_MAX;
    let fit = jobs.iter().take_while(|job| {
        left = left.saturating_sub(size(job));
        left > 0
    });
    let fit = fit.count();
    jobs.truncate(fit);
    jobs
}

/// The newest dead letters.
async fn newest_letters(store: &dyn Store) -> Result<Vec<DashboardLetter>, StoreError> {
    let rows = store.dead_letters(&LetterFilter::default(), LetterCursor::newest(), LIST_MAX).await?;
    let shown = |row: LetterRow| DashboardLetter { letter: row.letter, job: row.job, attempts: row.attempts };
    Ok(rows.into_iter().map(shown).collect())
}

/// The numbers of the last hour at `now`, for a node that has lived for so many seconds.
fn metrics(stats: &Stats, now: Timestamp, lived: i64, oldest_heartbeat_ms: i64) -> HourMetrics {
    let hour = stats.last(HOUR_SECONDS, now);
    let seconds = lived.clamp(1, HOUR_SECONDS);
    HourMetrics {
        jobs_per_second: hour.finished() as f64 / seconds as f64,
        retry_rate: retry_rate(&hour),
        dead_letter_rate: dead_letter_rate(&hour),
        execution_latency: latency(&hour.execution),
        queue_latency: latency(&hour.latency),
        max_worker_heartbeat_age_ms: oldest_heartbeat_ms,
    }
}

type Sum = crate::actors::queue::stats::Sum;

fn retry_rate(sum: &Sum) -> f64 {
    let retried = sum.count(Counted::Retried);
    let all = retried + sum.count(Counted::Completed) + sum.count(Counted::DeadLettered);
    retried as f64 / all.max(1) as f64
}

fn dead_letter_rate(sum: &Sum) -> f64 {
    let dead = sum.count(Counted::DeadLettered);
    dead as f64 / (dead + sum.count(Counted::Completed)).max(1) as f64
}

fn latency(times: &Histogram) -> LatencyMs {
    let quantile = |share| times.quantile_ms(share).unwrap_or(0.0);
    LatencyMs { p50_ms: quantile(0.5), p95_ms: quantile(0.95), p99_ms: quantile(0.99) }
}

/// The last hour at `now` in buckets whose bounds are multiples of their width.
fn trend(stats: &Stats, now: Timestamp, bucket_seconds: i64) -> Trend {
    let ticks = (bucket_seconds.clamp(SLOT_SECONDS, HOUR_SECONDS) + SLOT_SECONDS - 1) / SLOT_SECONDS;
    let newest = tick_of(now).div_euclid(ticks) * ticks;
    let buckets = (SLOTS_MAX as i64 + ticks - 1) / ticks;
    let mut trend = Trend {
        bucket_seconds: ticks * SLOT_SECONDS,
        throughput: Vec::new(),
        execution_p95_ms: Vec::new(),
        queue_latency_p95_ms: Vec::new(),
        retry_rate: Vec::new(),
        dead_letter_rate: Vec::new(),
    };
    for bucket in (0..buckets).rev() {
        let first = newest - bucket * ticks;
        let sum = stats.sum(first..=first + ticks - 1);
        let timestamp = start_of(first);
        // The one under way is judged by the time it has had.
        let had = now.millis_since(timestamp).clamp(1_000, ticks * SLOT_SECONDS * 1_000);
        let point = |value| Point { timestamp, value };
        trend.throughput.push(point(sum.finished() as f64 * 1_000.0 / had as f64));
        trend.execution_p95_ms.push(point(sum.execution.quantile_ms(0.95).unwrap_or(0.0)));
        trend.queue_latency_p95_ms.push(point(sum.latency.quantile_ms(0.95).unwrap_or(0.0)));
        trend.retry_rate.push(point(retry_rate(&sum)));
        trend.dead_letter_rate.push(point(dead_letter_rate(&sum)));
    }
    trend
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp(second * 1_000_000)
    }

    /// To within an eighth, as the histograms are.
    fn is_near(shown: f64, truth: f64) -> bool {
        (shown - truth).abs() <= truth / 8.0
    }

    #[test]
    fn an_hour_is_summed_up_as_by_hand() {
        let mut stats = Stats::default();
        // 1 … 100 ms of waiting, 10 … 1,000 ms of work; of each ten attempts one is tried again, and every
        // twentieth is the last.
        for n in 1..=100_i64 {
            let when = at(10_000 + n);
            stats.started(n as f64, when);
            let what = match n % 20 {
                0 => Counted::DeadLettered,
                10 => Counted::Retried,
                _ => Counted::Completed,
            };
            stats.ended(what, n as f64 * 10.0, when);
        }
        let shown = metrics(&stats, at(10_100), 1_000, 7);
        assert!((shown.jobs_per_second - 0.095).abs() < 1e-9, "{shown:?}");
        assert!((shown.retry_rate - 0.05).abs() < 1e-9 && (shown.dead_letter_rate - 5.0 / 95.0).abs() < 1e-9);
        for (latency, times) in [(shown.queue_latency, 1.0), (shown.execution_latency, 10.0)] {
            assert!(is_near(latency.p50_ms, 50.0 * times), "{latency:?}");
            assert!(is_near(latency.p95_ms, 95.0 * times), "{latency:?}");
            assert!(is_near(latency.p99_ms, 99.0 * times), "{latency:?}");
        }
        assert_eq!(shown.max_worker_heartbeat_age_ms, 7);
        // An hour and a half later nothing is left of it.
        let later = metrics(&stats, at(15_500), 5_500, 0);
        assert_eq!((later.jobs_per_second, later.queue_latency), (0.0, LatencyMs::default()));
    }

    #[test]
    fn buckets_are_whole_and_the_newest_is_under_way() {
        let mut stats = Stats::default();
        // A job a second for an hour, from 36,000 s on; each takes a tenth of its second's number.
        for second in 36_000..39_600_i64 {
            stats.ended(Counted::Completed, (second - 36_000) as f64 / 10.0 + 1.0, at(second));
        }
        let shown = trend(&stats, at(39_600), BUCKET_SECONDS_DEFAULT);
        let starts: Vec<i64> = shown.throughput.iter().map(|point| point.timestamp.0 / 1_000_000).collect();
        assert_eq!(starts, (0..12).map(|n| 36_300 + n * 300).collect::<Vec<_>>());
        let values: Vec<f64> = shown.throughput.iter().map(|point| point.value).collect();
        assert_eq!(values, [vec![1.0; 11], vec![0.0]].concat());
        assert!(is_near(shown.execution_p95_ms[0].value, 59.5), "{:?}", shown.execution_p95_ms[0]);
        // In the middle of a bucket: the first is an older one, and the newest is judged by its half.
        let shown = trend(&stats, at(39_450), BUCKET_SECONDS_DEFAULT);
        assert_eq!(shown.throughput.len(), 12);
        assert_eq!(shown.throughput[0].timestamp, at(36_000));
        assert!((shown.throughput[11].value - 2.0).abs() < 1e-9, "300 jobs of 150 s: the clock was put back");
        for (asked, width, buckets) in [(5, 5, 720), (7, 10, 360), (60, 60, 60), (3_600, 3_600, 1)] {
            let shown = trend(&stats, at(39_450), asked);
            assert_eq!((shown.bucket_seconds, shown.retry_rate.len()), (width, buckets));
        }
    }
}
