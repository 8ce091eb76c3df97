//! How much a reader of a stream is told, and when it is told only how much there was.
//!
//! Two reasons to merge: a node with many readers does not write every event to each of them (its readers share
//! [`SENT_PER_SECOND`]), and a reader that is far behind would soon find its events gone from the ring. The second
//! is its own fault: a few times within a minute, and it is dropped. Plain data, time comes in.

use tokio::time::{Duration, Instant};

/// Messages a second over all readers: a quarter of a core's work or so, which leaves the rest to the jobs.
const SENT_PER_SECOND: f64 = 100_000.0;
/// What a reader may be sent at once: a second's share, and at least this, so that a page of jobs that start
/// together is not merged however many read.
const BURST_MIN: f64 = 256.0;
/// The least time between two merges for want of a share.
const MERGE_EVERY: Duration = Duration::from_millis(250);
/// A reader this far behind is slow: a quarter of the ring.
const SLOW_LAG: u64 = 16_384;
/// So many merges of a slow reader are forgiven within [`SLOW_WINDOW`].
const SLOW_MAX: u32 = 8;
const SLOW_WINDOW: Duration = Duration::from_mins(1);

/// What is to be done for a reader next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paced {
    /// Send it an event.
    Send,
    /// Tell it how many there are.
    Merge,
    /// Neither before this time: then merge.
    MergeAt(Instant),
    /// Close it: it is too slow.
    Drop,
}

/// A reader's share.
#[derive(Debug)]
pub struct Pace {
    left: f64,
    filled_at: Instant,
    merged_at: Option<Instant>,
    /// What is left of the events it asked to go on behind: it has a right to them, and is not slow for them.
    owed: u64,
    slow_since: Instant,
    slow: u32,
}

impl Pace {
    /// A reader that begins now, `lag` events behind, one of `readers`.
    #[must_use]
    pub fn new(now: Instant, lag: u64, readers: usize) -> Self {
        let left = share(readers).max(BURST_MIN) + lag as f64;
        Self { left, filled_at: now, merged_at: None, owed: lag, slow_since: now, slow: 0 }
    }

    /// What is next for a reader that is `lag` events behind, one of `readers`.
    pub fn next(&mut self, now: Instant, lag: u64, readers: usize) -> Paced {
        let share = share(readers);
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.left = passed.mul_add(share, self.left).min(share.max(BURST_MIN).max(self.left));
        self.filled_at = now;
        if lag > SLOW_LAG + self.owed {
            return self.slow(now);
        }
        self.owed = self.owed.saturating_sub(1);
        if self.left >= 1.0 {
            self.left -= 1.0;
            return Paced::Send;
        }
        let due = self.merged_at.map(|at| at + MERGE_EVERY).filter(|due| *due > now);
        due.map_or_else(
            || {
                self.merged_at = Some(now);
                Paced::Merge
            },
            Paced::MergeAt,
        )
    }

    fn slow(&mut self, now: Instant) -> Paced {
        if now.saturating_duration_since(self.slow_since) > SLOW_WINDOW {
            self.slow_since = now;
            self.slow = 0;
        }
        self.slow += 1;
        self.merged_at = Some(now);
        if self.slow > SLOW_MAX { Paced::Drop } else { Paced::Merge }
    }
}

/// What one of so many may be sent a second.
fn share(readers: usize) -> f64 {
    SENT_PER_SECOND / readers.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_alone_is_sent_everything() {
        let start = Instant::now();
        let mut pace = Pace::new(start, 0, 1_000);
        for event in 0..100_000_u32 {
            let now = start + Duration::from_micros(10) * event;
            assert_eq!(pace.next(now, 5, 1), Paced::Send);
        }
    }

    #[test]
    fn a_reader_that_resumes_gets_what_it_has_missed() {
        let start = Instant::now();
        let mut pace = Pace::new(start, 60_000, 1_000);
        for lag in (0..60_000).rev() {
            assert_eq!(pace.next(start, lag, 1_000), Paced::Send);
        }
    }

    #[test]
    fn many_readers_share_what_a_node_sends() {
        let start = Instant::now();
        let mut pace = Pace::new(start, 0, 1_000);
        let (mut sent, mut merged) = (0, 0);
        // 20,000 events a second for ten seconds, a thousand readers.
        for event in 0..200_000_u32 {
            match pace.next(start + Duration::from_micros(50) * event, 100, 1_000) {
                Paced::Send => sent += 1,
                Paced::Merge => merged += 1,
                Paced::MergeAt(_) => (),
                Paced::Drop => panic!("it is not slow"),
            }
        }
        assert!((1_200..1_300).contains(&sent), "its share and the burst: {sent}");
        assert!((1..=41).contains(&merged), "{merged}");
    }

    #[test]
    fn a_slow_reader_is_merged_a_few_times_and_then_dropped() {
        let start = Instant::now();
        let mut pace = Pace::new(start, 0, 1_000);
        for _ in 0..SLOW_MAX {
            assert_eq!(pace.next(start, SLOW_LAG + 1, 1), Paced::Merge);
        }
        assert_eq!(pace.next(start, SLOW_LAG + 1, 1), Paced::Drop);
        let later = start + SLOW_WINDOW * 2;
        assert_eq!(pace.next(later, SLOW_LAG + 1, 1), Paced::Merge, "long ago is forgiven");
    }
}
