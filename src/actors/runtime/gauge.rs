//! Arithmetic of a probe: a rate over the last seconds, and a small histogram of latencies.
//!
//! Both have one writer, the actor; a reader that comes in between sees a value slightly off, never a wrong total.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Long enough to be steady at one message a second, short enough to follow a burst.
const RATE_WINDOW: Duration = Duration::from_secs(10);
/// Powers of two of a nanosecond; the last bucket begins at nine minutes.
const BUCKETS: usize = 40;
/// Counts are halved here, so that the percentile follows what happened lately.
const SAMPLES_MAX: u32 = 65_536;

/// Counts messages in windows of ten seconds; the rate blends the present one with the one before.
#[derive(Debug, Default)]
pub(super) struct RateWindow {
    window: AtomicU64,
    current: AtomicU64,
    previous: AtomicU64,
}

impl RateWindow {
    /// Counts `count` messages at `age` of the probe.
    pub(super) fn record(&self, age: Duration, count: u64) {
        let window = age.as_secs() / RATE_WINDOW.as_secs();
        let seen = self.window.load(Relaxed);
        if window == seen {
            self.current.fetch_add(count, Relaxed);
        } else {
            let finished = self.current.load(Relaxed);
            self.previous.store(if window == seen + 1 { finished } else { 0 }, Relaxed);
            self.current.store(count, Relaxed);
            self.window.store(window, Relaxed);
        }
    }

    /// Messages a second, seen at `age` of the probe.
    #[expect(clippy::cast_precision_loss, reason = "shown to people")]
    pub(super) fn per_second(&self, age: Duration) -> f64 {
        let window = age.as_secs() / RATE_WINDOW.as_secs();
        let (current, previous) = match window.saturating_sub(self.window.load(Relaxed)) {
            0 => (self.current.load(Relaxed), self.previous.load(Relaxed)),
            1 => (0, self.current.load(Relaxed)),
            _ => (0, 0),
        };
        let length = RATE_WINDOW.as_secs_f64();
        let share_left = 1.0 - (age.as_secs_f64() % length) / length;
        // A young actor is judged by the time it has lived, but never by less than a second.
        let lived = age.as_secs_f64().clamp(1.0, length);
        (previous as f64).mul_add(share_left, current as f64) / lived
    }
}

/// Latencies in buckets of powers of two: good to a factor of two, which is what an operator needs.
#[derive(Debug)]
pub(super) struct LatencyLog {
    buckets: [AtomicU32; BUCKETS],
    samples: AtomicU32,
}

impl Default for LatencyLog {
    fn default() -> Self {
        Self { buckets: [const { AtomicU32::new(0) }; BUCKETS], samples: AtomicU32::new(0) }
    }
}

impl LatencyLog {
    /// Counts one latency.
    pub(super) fn record(&self, nanos: u64) {
        let bucket = (64 - nanos.leading_zeros() as usize).min(BUCKETS - 1);
        self.buckets[bucket].fetch_add(1, Relaxed);
        if self.samples.fetch_add(1, Relaxed) >= SAMPLES_MAX {
            self.halve();
        }
    }

    fn halve(&self) {
        let mut samples = 0;
        for bucket in &self.buckets {
            let half = bucket.load(Relaxed) / 2;
            bucket.store(half, Relaxed);
            samples += half;
        }
        self.samples.store(samples, Relaxed);
    }

    /// An upper bound of the latency that `quantile` (0 to 1) of the samples kept; zero without samples.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of at most 65,536 samples"
    )]
    pub(super) fn quantile_nanos(&self, quantile: f64) -> u64 {
        let counts = self.buckets.each_ref().map(|bucket| bucket.load(Relaxed));
        let samples: u32 = counts.iter().sum();
        let rank = (f64::from(samples) * quantile).ceil() as u32;
        let mut below = 0;
        for (bucket, count) in counts.iter().enumerate() {
            below += count;
            if *count > 0 && below >= rank {
                return 1_u64 << bucket;
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_follows_what_happened_in_the_last_seconds() {
        let rate = RateWindow::default();
        for second in 0..30 {
            rate.record(Duration::from_secs(second), 7);
        }
        let busy = rate.per_second(Duration::from_secs(30));
        assert!((6.0..=8.0).contains(&busy), "{busy}");
        assert!(rate.per_second(Duration::from_secs(60)).abs() < f64::EPSILON);
    }

    #[test]
    fn a_percentile_is_right_to_a_factor_of_two() {
        let latency = LatencyLog::default();
        for _ in 0..990 {
            latency.record(1_000);
        }
        for _ in 0..10 {
            latency.record(1_000_000);
        }
        assert_eq!(latency.quantile_nanos(0.5), 1_024);
        assert_eq!(latency.quantile_nanos(0.999), 1 << 20);
    }

    #[test]
    fn a_percentile_forgets_what_is_long_ago() {
        let latency = LatencyLog::default();
        for _ in 0..SAMPLES_MAX {
            latency.record(1_000_000);
        }
        for _ in 0..SAMPLES_MAX * 8 {
            latency.record(1_000);
        }
        assert_eq!(latency.quantile_nanos(0.99), 1_024);
    }
}
