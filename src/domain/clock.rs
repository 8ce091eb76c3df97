//! Time as the store tells it.
//!
//! Nodes never compare their clocks with one another. A node keeps the offset between its clock and
//! the store's, and every time that is written or compared with a written one is on the store's clock.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A point in time on the store's clock, in microseconds since 1970 (UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The time `millis` milliseconds later; saturates.
    #[must_use]
    pub fn plus_millis(self, millis: i64) -> Self {
        Self(self.0.saturating_add(millis.saturating_mul(1_000)))
    }

    /// Milliseconds from `earlier` to `self`; negative when `self` is before it.
    #[must_use]
    pub fn millis_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0) / 1_000
    }

    /// As a `chrono` value; times outside its range are clamped to 1970.
    #[must_use]
    pub fn to_datetime(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or_default()
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(at: DateTime<Utc>) -> Self {
        Self(at.timestamp_micros())
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_datetime().to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        DateTime::parse_from_rfc3339(&text)
            .map(|at| at.with_timezone(&Utc).into())
            .map_err(|_| de::Error::custom("not an RFC 3339 time such as 2026-11-23T19:00:00Z"))
    }
}

/// The store's clock as this node knows it: its own clock plus a measured offset.
#[derive(Debug, Default)]
pub struct Clock {
    offset_micros: AtomicI64,
}

impl Clock {
    /// Now, on the store's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(Self::local().0.saturating_add(self.offset_micros.load(Ordering::Relaxed)))
    }

    /// Now, on this node's clock; only for measuring the offset and for logs.
    #[must_use]
    pub fn local() -> Timestamp {
        Utc::now().into()
    }

    /// Sets the offset from a reading of the store's clock taken between two local readings:
    /// the midpoint of the round trip is compared with it.
    pub fn adjust(&self, before: Timestamp, store: Timestamp, after: Timestamp) {
        let midpoint = before.0 + (after.0 - before.0) / 2;
        self.offset_micros.store(store.0.saturating_sub(midpoint), Ordering::Relaxed);
    }

    /// The measured offset of the store's clock from this node's, in microseconds.
    #[must_use]
    pub fn offset_micros(&self) -> i64 {
        self.offset_micros.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_rfc_3339_and_read_back() {
        let at = Timestamp(1_700_000_000_123_456);
        let text = serde_json::to_string(&at).expect("a time serialises");
        assert_eq!(text, "\"2023-11-14T22:13:20.123456Z\"");
        assert_eq!(serde_json::from_str::<Timestamp>(&text).expect("and parses"), at);
    }

    #[test]
    fn the_offset_is_taken_from_the_middle_of_the_round_trip() {
        let clock = Clock::default();
        clock.adjust(Timestamp(1_000), Timestamp(5_100), Timestamp(1_200));
        assert_eq!(clock.offset_micros(), 4_000);
    }
}
