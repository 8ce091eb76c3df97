//! What a queue did within the last hour: counts and two histograms for each 5 seconds.
//!
//! Only slots in which something happened exist, and a slot holds only what is not zero: an idle queue costs nothing,
//! one that ends a job every few seconds about 50 kB, a busy one about 150 kB.
//!
//! # To aggregate over queues
//! ```ignore
//! let mut all = Stats::default();
//! for queue in shards.queues().all() {
//!     all.merge(&queue.view().stats(since)); // since: a `tick_of(..)`, 0 for the whole hour
//! }
//! let hour = all.sum(tick_of(now) - 720 + 1..=tick_of(now));
//! hour.count(Counted::Completed); hour.latency.quantile_ms(0.95); hour.execution.quantile_ms(0.99);
//! // a trend: one `sum` for each range of ticks; buckets of 5 minutes are 60 ticks
//! ```
//! Ticks count 5 s from the epoch by the store's clock, so those of all queues, and of all nodes, line up. Slots
//! before the current tick no longer change (but for a late answer of a second or two): what has been merged once can
//! be kept, and only newer ticks asked for.

use std::{collections::VecDeque, ops::RangeInclusive};

use crate::domain::Timestamp;

/// The width of a slot, in seconds.
pub const SLOT_SECONDS: i64 = 5;
/// The most slots that are kept: an hour.
pub const SLOTS_MAX: usize = 720;
/// The buckets of a histogram: four for each power of two, from 0.1 ms to 9 days.
pub const BUCKETS: usize = 128;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Jobs made.
    Submitted,
    /// Leases given.
    Started,
    /// Jobs that succeeded.
    Completed,
    /// Attempts that failed, with another to follow.
    Retried,
    /// Jobs that failed for good.
    DeadLettered,
    /// Jobs that were canceled.
    Canceled,
    /// Leases that ended without a word; counted as retried or dead-lettered, too.
    Recovered,
    /// Attempts given back or put off, which count for nothing.
    Released,
}

/// How many kinds are counted.
const COUNTED: usize = 8;
/// Where the histograms begin among the keys of a slot.
const LATENCY: u16 = 128;
const EXECUTION: u16 = 256;
/// A cell of a slot is a key of 9 bits and a count of 23, which is 1.6 million a second.
const COUNT_BITS: u32 = 23;
const COUNT_MAX: u32 = (1 << COUNT_BITS) - 1;

/// The slot a time belongs to.
#[must_use]
pub fn tick_of(at: Timestamp) -> i64 {
    at.0.div_euclid(SLOT_SECONDS * 1_000_000)
}

/// When a slot begins.
#[must_use]
pub fn start_of(tick: i64) -> Timestamp {
    Timestamp(tick * SLOT_SECONDS * 1_000_000)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Slot {
    tick: i64,
    /// In the order of their keys.
    cells: Vec<u32>,
}

impl Slot {
    fn add(&mut self, key: u16, count: u32) {
        match self.cells.binary_search_by_key(&key, |cell| key_of(*cell)) {
            Ok(place) => {
                let sum = (self.cells[place] & COUNT_MAX).saturating_add(count).min(COUNT_MAX);
                self.cells[place] = cell(key, sum);
            }
            Err(place) => self.cells.insert(place, cell(key, count.min(COUNT_MAX))),
        }
    }
}

fn cell(key: u16, count: u32) -> u32 {
    u32::from(key) << COUNT_BITS | count
}

fn key_of(cell: u32) -> u16 {
    u16::try_from(cell >> COUNT_BITS).unwrap_or(0)
}

/// An hour of a queue, or of several together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// In the order of time.
    slots: VecDeque<Slot>,
}

impl Stats {
    /// Counts one.
    pub fn count(&mut self, what: Counted, at: Timestamp) {
        self.slot(tick_of(at)).add(what as u16, 1);
    }

    /// A lease was given `waited_ms` after its job became ready.
    pub fn started(&mut self, waited_ms: f64, at: Timestamp) {
        let slot = self.slot(tick_of(at));
        slot.add(Counted::Started as u16, 1);
        slot.add(LATENCY + bucket(waited_ms), 1);
    }

    /// An attempt ended after `ran_ms`, as `what`.
    pub fn ended(&mut self, what: Counted, ran_ms: f64, at: Timestamp) {
        let slot = self.slot(tick_of(at));
        slot.add(what as u16, 1);
        slot.add(EXECUTION + bucket(ran_ms), 1);
    }

    /// Takes in what another counted.
    pub fn merge(&mut self, other: &Self) {
        for theirs in &other.slots {
            let slot = self.slot(theirs.tick);
            for cell in &theirs.cells {
                slot.add(key_of(*cell), cell & COUNT_MAX);
            }
        }
    }

    /// The slots from `tick` on; 0 for all.
    #[must_use]
    pub fn since(&self, tick: i64) -> Self {
        let from = self.slots.partition_point(|slot| slot.tick < tick);
        Self { slots: self.slots.range(from..).cloned().collect() }
    }

    /// What happened in these slots together.
    #[must_use]
    pub fn sum(&self, ticks: RangeInclusive<i64>) -> Sum {
        let mut sum = Sum::default();
        let from = self.slots.partition_point(|slot| slot.tick < *ticks.start());
        for slot in self.slots.range(from..).take_while(|slot| slot.tick <= *ticks.end()) {
            for cell in &slot.cells {
                sum.add(key_of(*cell), u64::from(cell & COUNT_MAX));
            }
        }
        sum
    }

    /// What happened within the last `seconds`, the slot under way included. Whole slots: up to 5 s less.
    #[must_use]
    pub fn last(&self, seconds: i64, now: Timestamp) -> Sum {
        let newest = tick_of(now);
        self.sum(newest - (seconds / SLOT_SECONDS).max(1) + 1..=newest)
    }

    fn slot(&mut self, tick: i64) -> &mut Slot {
        // Almost always the last.
        let place = match self.slots.back() {
            Some(last) if last.tick == tick => self.slots.len() - 1,
            Some(last) if last.tick > tick => self.slots.partition_point(|slot| slot.tick < tick),
            Some(_) | None => self.slots.len(),
        };
        if self.slots.get(place).is_none_or(|slot| slot.tick != tick) {
            self.slots.insert(place, Slot { tick, cells: Vec::new() });
        }
        let oldest = self.slots.back().map_or(tick, |last| last.tick) - SLOTS_MAX as i64;
        let old = self.slots.partition_point(|slot| slot.tick <= oldest);
        // What is being asked for may itself be too old: then it is counted for nothing, in the oldest slot left.
        let old = old.min(place);
        self.slots.drain(..old);
        &mut self.slots[place - old]
    }
}

/// What happened in some slots.
#[derive(Debug, Clone, Default)]
pub struct Sum {
    counts: [u64; COUNTED],
    /// From becoming ready to the lease.
    pub latency: Histogram,
    /// From the lease to its end, however it ended.
    pub execution: Histogram,
}

impl Sum {
    /// How many.
    #[must_use]
    pub fn count(&self, what: Counted) -> u64 {
        self.counts[what as usize]
    }

    /// Jobs that ended: completed, failed for good, canceled.
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.count(Counted::Completed) + self.count(Counted::DeadLettered) + self.count(Counted::Canceled)
    }

    fn add(&mut self, key: u16, count: u64) {
        let place = usize::from(key % LATENCY);
        match key {
            EXECUTION.. => self.execution.add(place, count),
            LATENCY.. => self.latency.add(place, count),
            _ => {
                if let Some(sum) = self.counts.get_mut(place) {
                    *sum += count;
                }
            }
        }
    }
}

/// Times by their size.
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: [u64; BUCKETS],
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], total: 0 }
    }
}

impl Histogram {
    fn add(&mut self, bucket: usize, count: u64) {
        self.buckets[bucket.min(BUCKETS - 1)] += count;
        self.total += count;
    }

    /// How many times there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The time in milliseconds that a share of `quantile` (0 to 1) stays at or below, to within an eighth; `None`
    /// when there are no times.
    #[must_use]
    pub fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        if self.total == 0 {
            return None;
        }
        let rank = (quantile.clamp(0.0, 1.0) * self.total as f64).ceil().max(1.0);
        let mut seen = 0;
        let place = self.buckets.iter().position(|count| {
            seen += count;
            seen as f64 >= rank
        });
        place.map(middle_ms)
    }
}

/// The bucket of a time. Tenths of a millisecond below 4 have one each; then every power of two has four.
fn bucket(ms: f64) -> u16 {
    let tenths = (ms * 10.0).clamp(0.0, 8.0e9) as u64;
    if tenths < 4 {
        return tenths as u16;
    }
    let exponent = 63 - tenths.leading_zeros();
    let place = (exponent - 1) * 4 + u32::try_from(tenths >> (exponent - 2) & 3).unwrap_or(0);
    u16::try_from(place.min(127)).unwrap_or(127)
}

/// The middle of a bucket, in milliseconds.
fn middle_ms(bucket: usize) -> f64 {
    let bucket = bucket as u32;
    let (low, width) = match bucket {
        0..4 => (f64::from(bucket), 1.0),
        _ => {
            let width = 2_f64.powi((bucket / 4 - 1) as i32);
            (f64::from(4 + bucket % 4) * width, width)
        }
    };
    (low + width / 2.0) / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp(1_000_000 * second)
    }

    #[test]
    fn a_time_is_shown_to_within_an_eighth() {
        for ms in [0.3, 1.0, 7.7, 99.0, 1_234.0, 60_000.0, 604_800_000.0] {
            let shown = middle_ms(usize::from(bucket(ms)));
            assert!((shown - ms).abs() <= ms / 8.0 + 0.06, "{ms} is shown as {shown}");
        }
        assert_eq!(bucket(f64::MAX), 127);
        assert_eq!(bucket(-1.0), 0);
    }

    #[test]
    fn quantiles_are_those_of_the_times() {
        let mut stats = Stats::default();
        for ms in 1..=1_000 {
            stats.started(f64::from(ms), at(1));
        }
        let sum = stats.last(60, at(2));
        assert_eq!(sum.count(Counted::Started), 1_000);
        for (quantile, ms) in [(0.5, 500.0), (0.95, 950.0), (0.99, 990.0)] {
            let shown = sum.latency.quantile_ms(quantile).expect("some");
            assert!((shown - ms).abs() <= ms / 8.0, "{shown} for {ms}");
        }
        assert!(sum.execution.quantile_ms(0.5).is_none());
    }

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let mut stats = Stats::default();
        for second in 0..10_000 {
            stats.ended(Counted::Completed, 1.0, at(second));
        }
        assert_eq!(stats.slots.len(), SLOTS_MAX);
        assert_eq!(stats.last(60, at(9_999)).count(Counted::Completed), 60);
        assert_eq!(stats.last(3_600, at(9_999)).finished(), 3_600);
        // A late answer for a slot that is gone does not grow it.
        stats.count(Counted::Submitted, at(0));
        assert!(stats.slots.len() <= SLOTS_MAX + 1);
        stats.count(Counted::Submitted, at(9_999));
        assert_eq!(stats.slots.len(), SLOTS_MAX);
    }

    #[test]
    fn merged_is_as_counted_together() {
        let (mut one, mut two, mut both) = (Stats::default(), Stats::default(), Stats::default());
        for second in 0..500 {
            let what = if second % 3 == 0 { Counted::Retried } else { Counted::Completed };
            let stats = if second % 2 == 0 { &mut one } else { &mut two };
            stats.ended(what, f64::from(i32::try_from(second).expect("small")), at(second));
            both.ended(what, f64::from(i32::try_from(second).expect("small")), at(second));
        }
        one.merge(&two);
        assert_eq!(one, both);
        assert_eq!(one.since(tick_of(at(490))).slots.len(), 2);
    }
}
