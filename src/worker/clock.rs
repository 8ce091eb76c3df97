//! The wall clock, as a value that can be replaced.

use chrono::{DateTime, Utc};

/// Tells the time; tests pass a fixed one.
pub type Clock = fn() -> DateTime<Utc>;

/// The machine's clock.
pub fn system_clock() -> DateTime<Utc> {
    crate::domain::Clock::local().to_datetime()
}
