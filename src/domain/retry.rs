//! When a failed attempt is tried again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How delays grow from one attempt to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RetryStrategy {
    /// Doubles with each attempt.
    Exponential,
    /// Grows by the base with each attempt.
    Linear,
    /// Always the base.
    Fixed,
}

/// A job's retry policy. Delays are finite and at most `max_seconds` at any attempt number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryPolicy {
    /// How delays grow.
    pub strategy: RetryStrategy,
    /// The first delay, in seconds.
    pub base_seconds: f64,
    /// No delay is longer, in seconds.
    pub max_seconds: f64,
    /// The part of a delay that is drawn at random, 0 to 1: a delay `d` becomes one in `d·(1 − jitter) ..= d`.
    pub jitter: f64,
}

/// The part of a delay drawn at random when nothing is said.
pub const DEFAULT_JITTER: f64 = 0.2;

/// No policy may wait longer between two attempts: ten years, as for every delay.
pub const DELAY_SECONDS_MAX: f64 = 10.0 * 366.0 * 86_400.0;

impl RetryPolicy {
    /// The default: exponential from `base` to `max`.
    #[must_use]
    pub fn exponential(base: Duration, max: Duration) -> Self {
        Self {
            strategy: RetryStrategy::Exponential,
            base_seconds: base.as_secs_f64(),
            max_seconds: max.as_secs_f64(),
            jitter: DEFAULT_JITTER,
        }
    }

    /// The delay before the attempt after `attempt` (from 1), with `random` in `0.0..1.0` choosing
    /// within the jitter. Arithmetic is in floating point and capped before it becomes a
    /// `Duration`, so no attempt number overflows (a peer's integer shift did, at attempt 32).
    #[must_use]
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        let base = sane(self.base_seconds);
        let max = sane(self.max_seconds).min(DELAY_SECONDS_MAX);
        let n = f64::from(attempt.max(1) - 1);
        let grown = match self.strategy {
            RetryStrategy::Exponential => base * n.min(1_000.0).exp2(),
            RetryStrategy::Linear => base * (n + 1.0),
            RetryStrategy::Fixed => base,
        };
        // 0 · ∞ is NaN: a zero base stays zero.
        let capped = if grown.is_nan() { 0.0 } else { grown.min(max) };
        let jitter = sane(self.jitter).min(1.0);
        Duration::from_secs_f64(capped * (1.0 - jitter * sane(random).min(1.0)))
    }
}

fn sane(value: f64) -> f64 {
    if value.is_finite() { value.max(0.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_strategy() -> impl Strategy<Value = RetryStrategy> {
        prop_oneof![Just(RetryStrategy::Exponential), Just(RetryStrategy::Linear), Just(RetryStrategy::Fixed)]
    }

    proptest! {
        #[test]
        fn a_delay_is_never_negative_nor_over_its_maximum(
            strategy in any_strategy(),
            base in prop::num::f64::ANY,
            max in prop::num::f64::ANY,
            jitter in prop::num::f64::ANY,
            random in 0.0..1.0_f64,
            attempt in any::<u32>(),
        ) {
            let policy = RetryPolicy { strategy, base_seconds: base, max_seconds: max, jitter };
            let delay = policy.delay(attempt, random).as_secs_f64();
            prop_assert!(delay >= 0.0);
            prop_assert!(delay <= sane(max).min(DELAY_SECONDS_MAX) * (1.0 + 1e-9) + 1e-9);
        }
    }

    #[test]
    fn exponential_delays_double_up_to_the_maximum() {
        let policy = RetryPolicy {
            jitter: 0.0,
            ..RetryPolicy::exponential(Duration::from_secs(5), Duration::from_secs(900))
        };
        let seconds: Vec<u64> = [1, 2, 3, 8, 9, 32, u32::MAX].map(|n| policy.delay(n, 0.5).as_secs()).into();
        assert_eq!(seconds, [5, 10, 20, 640, 900, 900, 900]);
    }

    #[test]
    fn jitter_spreads_simultaneous_failures_over_its_window() {
        let policy = RetryPolicy::exponential(Duration::from_secs(100), Duration::from_secs(900));
        let delays: Vec<f64> =
            (0..1_000).map(|n| policy.delay(1, f64::from(n) / 1_000.0).as_secs_f64()).collect();
        let spread =
            delays.iter().cloned().fold(f64::MIN, f64::max) - delays.iter().cloned().fold(f64::MAX, f64::min);
        assert!(spread >= 0.8 * 20.0, "the window is 20 s wide, the spread {spread}");
    }
}
