//! Times and spans for people.

use chrono::{Local, Utc};

use crate::domain::Timestamp;

/// To the millisecond, with the zone: local, or UTC.
pub(super) fn at(time: Timestamp, utc: bool) -> String {
    let time = time.to_datetime();
    if utc {
        time.with_timezone(&Utc).format("%Y-%m-%d %H:%M:%S%.3f UTC").to_string()
    } else {
        time.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S%.3f %:z").to_string()
    }
}

/// A span in at most two units: `850ms`, `12.3s`, `4m 05s`, `3h 12m`, `5d 04h`.
pub(super) fn span(millis: i64) -> String {
    if millis < 0 {
        return format!("-{}", span(millis.saturating_neg().max(0)));
    }
    let seconds = millis / 1_000;
    match seconds {
        0 => format!("{millis}ms"),
        1..60 => format!("{seconds}.{}s", millis % 1_000 / 100),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A span in one unit, for narrow columns: `0s`, `12s`, `4m`, `3h`, `5d`. Clocks that differ a little give no
/// negative ages.
pub(super) fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.millis_since(since).max(0) / 1_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// How long after `start`: `+0.000s`, `+12.345s`, `+4m 05s`.
pub(super) fn after(start: Timestamp, time: Timestamp) -> String {
    let millis = time.millis_since(start);
    match millis {
        0..60_000 => format!("+{}.{:03}s", millis / 1_000, millis % 1_000),
        _ if millis < 0 => span(millis),
        _ => format!("+{}", span(millis)),
    }
}

/// Microseconds, in the unit that fits: `12µs`, `1.2ms`, `3.4s`.
pub(super) fn micros(micros: f64) -> String {
    match micros {
        _ if !micros.is_finite() || micros < 0.0 => "?".to_owned(),
        ..1_000.0 => format!("{micros:.0}µs"),
        ..1_000_000.0 => format!("{:.1}ms", micros / 1_000.0),
        _ => format!("{:.1}s", micros / 1_000_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_at_most_two_units() {
        for (millis, shown) in [
            (0, "0ms"),
            (850, "850ms"),
            (12_345, "12.3s"),
            (59_999, "59.9s"),
            (245_000, "4m 05s"),
            (11_520_000, "3h 12m"),
            (446_400_000, "5d 04h"),
            (-1_500, "-1.5s"),
            (i64::MIN, "-106751991167d 07h"),
        ] {
            assert_eq!(span(millis), shown);
        }
    }

    #[test]
    fn ages_have_one_unit_and_are_never_negative() {
        let age = |seconds: i64| age(Timestamp(0), Timestamp(seconds * 1_000_000));
        assert_eq!([-5, 0, 59, 60, 7_199, 86_400].map(age), ["0s", "0s", "59s", "1m", "1h", "1d"]);
    }

    #[test]
    fn a_timeline_counts_from_its_start() {
        let after = |millis: i64| after(Timestamp(5_000), Timestamp(5_000 + millis * 1_000));
        assert_eq!([0, 12_345, 245_000, -40].map(after), ["+0.000s", "+12.345s", "+4m 05s", "-40ms"]);
    }

    #[test]
    fn times_carry_their_zone() {
        let time = Timestamp(1_700_000_000_123_456);
        assert_eq!(at(time, true), "2023-11-14 22:13:20.123 UTC");
        let local = at(time, false);
        assert!(chrono::DateTime::parse_from_str(&local, "%Y-%m-%d %H:%M:%S%.3f %:z").is_ok(), "{local}");
    }

    #[test]
    fn microseconds_get_the_unit_that_fits() {
        let all = [0.4, 999.0, 1_250.0, 3_400_000.0, f64::NAN].map(micros);
        assert_eq!(all, ["0µs", "999µs", "1.2ms", "3.4s", "?"]);
    }
}
