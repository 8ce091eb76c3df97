//! When to start again, and when to give up: plain arithmetic, time comes in as an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How many restarts are borne.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intensity {
    /// Restarts borne within `window`; one more is one too many.
    pub max_restarts: u32,
    /// How far back restarts count.
    pub window: Duration,
}

impl Default for Intensity {
    /// Three in ten seconds: a fault that passes is survived, a loop is noticed within a breath.
    fn default() -> Self {
        Self { max_restarts: 3, window: Duration::from_secs(10) }
    }
}

/// How long to wait before starting again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The wait before the second restart in a row; the first is immediate.
    pub min: Duration,
    /// The longest wait.
    pub max: Duration,
}

impl Default for Backoff {
    /// 50 ms to 5 s: most faults of a restart are gone by then, and a person has not yet noticed.
    fn default() -> Self {
        Self { min: Duration::from_millis(50), max: Duration::from_secs(5) }
    }
}

impl Backoff {
    /// The wait after `failures` in a row: doubled each time, then up to half of it taken off by `jitter` (0 to 1),
    /// so that many actors that failed together do not return together.
    pub fn delay(&self, failures: u32, jitter: f64) -> Duration {
        let doubled = self.min.saturating_mul(1_u32 << failures.saturating_sub(1).min(20));
        doubled.min(self.max).mul_f64(1.0 - jitter / 2.0)
    }
}

/// The restarts of late.
#[derive(Debug, Default)]
pub(super) struct RestartLog {
    at: VecDeque<Instant>,
}

impl RestartLog {
    /// Notes a failure at `now`; the number in the window if it is one too many.
    pub(super) fn note(&mut self, now: Instant, intensity: &Intensity) -> Result<(), usize> {
        while self.at.front().is_some_and(|at| now.saturating_duration_since(*at) > intensity.window) {
            self.at.pop_front();
        }
        self.at.push_back(now);
        if self.at.len() > intensity.max_restarts as usize { Err(self.at.len()) } else { Ok(()) }
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        self.at.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_outside_the_window_are_forgiven() {
        let intensity = Intensity { max_restarts: 2, window: Duration::from_secs(10) };
        let mut log = RestartLog::default();
        let start = Instant::now();
        for second in [0, 6, 12, 18, 24] {
            assert_eq!(log.note(start + Duration::from_secs(second), &intensity), Ok(()));
        }
        assert_eq!(log.note(start + Duration::from_secs(25), &intensity), Err(3));
    }

    #[test]
    fn a_wait_doubles_up_to_its_limit_and_jitter_takes_off_at_most_half() {
        let backoff = Backoff { min: Duration::from_millis(10), max: Duration::from_millis(50) };
        let waits = [1, 2, 3, 4, 200].map(|failures| backoff.delay(failures, 0.0).as_millis());
        assert_eq!(waits, [10, 20, 40, 50, 50]);
        assert_eq!(backoff.delay(1, 1.0), Duration::from_millis(5));
    }
}
