//! What people type, as values.

use std::io::Read;
use std::time::Duration;

use chrono::{DateTime, Local, NaiveDateTime, TimeZone};

use super::CliError;
use crate::domain::{BootId, Clock, JobState, RawJson, Timestamp};

/// No payload is larger; a file that is would only be read to be refused.
const PAYLOAD_FILE_BYTES_MAX: u64 = 4 << 20;
/// The longest span taken: ten years, as for a node.
const SPAN_SECONDS_MAX: f64 = 10.0 * 366.0 * 86_400.0;

/// A span: `250ms`, `30s`, `15m`, `2h`, `7d`, or a number of seconds.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err(SPAN_HELP.to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| SPAN_HELP.to_owned())?;
    let seconds = number * unit_seconds;
    if !(0.0..=SPAN_SECONDS_MAX).contains(&seconds) {
        return Err("longer than ten years".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

const SPAN_HELP: &str = "write a span as 250ms, 30s, 15m, 2h, 7d, or in seconds (options with a value of their own \
    go behind the other arguments)";

/// A point in time: RFC 3339, or a local time without a zone.
pub(super) fn time(text: &str) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.to_utc().into());
    }
    let naive = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(&text.replacen(' ', "T", 1), format).ok());
    let naive = naive.ok_or("write a time as 2026-11-23T19:00:00Z, or as 2026-11-23T19:00 for local time")?;
    // Twice a year an hour happens twice: the first is taken; or not at all.
    let local = Local.from_local_datetime(&naive).earliest();
    Ok(local.ok_or("that local time does not exist: name its zone")?.to_utc().into())
}

/// A point in time, or how long ago it is.
pub(super) fn time_or_ago(text: &str) -> Result<Timestamp, String> {
    match span(text) {
        Ok(ago) => {
            let millis = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
            Ok(Clock::local().plus_millis(-millis))
        }
        Err(_) => time(text).map_err(|why| format!("{why}, or how long ago as 15m")),
    }
}

/// A point in time, or how far ahead it is.
pub(super) fn time_or_ahead(text: &str) -> Result<Timestamp, String> {
    match span(text) {
        Ok(ahead) => {
            let millis = i64::try_from(ahead.as_millis()).unwrap_or(i64::MAX);
            Ok(Clock::local().plus_millis(millis))
        }
        Err(_) => time(text).map_err(|why| format!("{why}, or how far ahead as 15m")),
    }
}

/// A state.
pub(super) fn state(text: &str) -> Result<JobState, String> {
    text.parse().map_err(|()| format!("one of {}", JobState::ALL.map(JobState::name).join(", ")))
}

/// A place in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The node's run.
    pub(super) stream: BootId,
    /// The last event that was seen.
    pub(super) seq: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.stream, self.seq)
    }
}

/// `streamId:seq`.
pub(super) fn place(text: &str) -> Result<Place, String> {
    let parsed = text
        .split_once(':')
        .and_then(|(stream, seq)| Some(Place { stream: stream.parse().ok()?, seq: seq.parse().ok()? }));
    parsed.ok_or_else(|| "write a place as streamId:seq, both from `ganger watch --json`".to_owned())
}

/// A payload: JSON, `@` and the name of a file with JSON, or `-` for standard input. Kept byte for byte.
pub(super) fn payload(argument: &str, stdin: impl Read) -> Result<RawJson, CliError> {
    let (text, source) = match argument.strip_prefix('@') {
        _ if argument == "-" => (read(stdin, "standard input")?, "standard input"),
        Some(path) => {
            let file = std::fs::File::open(path)
                .map_err(|error| CliError::Usage(format!("cannot open the payload {path}: {error}")))?;
            (read(file, path)?, path)
        }
        None => (argument.to_owned(), "--payload"),
    };
    serde_json::from_str(&text).map_err(|error| {
        CliError::Usage(format!(
            "the payload of {source} is not JSON: {error} (a text needs its own quotes: --payload '\"text\"')"
        ))
    })
}

/// JSON of an option.
pub(super) fn json(option: &str, text: &str) -> Result<RawJson, CliError> {
    serde_json::from_str(text).map_err(|error| CliError::Usage(format!("{option} is not JSON: {error}")))
}

fn read(from: impl Read, name: &str) -> Result<String, CliError> {
    let mut text = String::new();
    let read = from.take(PAYLOAD_FILE_BYTES_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| CliError::Usage(format!("cannot read the payload from {name}: {error}")))?;
    if text.len() as u64 > PAYLOAD_FILE_BYTES_MAX {
        return Err(CliError::Usage(format!("the payload in {name} is larger than any node takes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_in_their_units() {
        for (text, millis) in
            [("250ms", 250), ("30s", 30_000), ("15m", 900_000), ("2h", 7_200_000), ("1.5", 1_500), ("0", 0)]
        {
            assert_eq!(span(text).map(|span| span.as_millis()), Ok(millis), "{text}");
        }
        for bad in ["", "s", "-1", "1w", "1e400", "nan", "noop", "99999d", "1.2.3", " 5 m"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_read_with_and_without_a_zone() {
        assert_eq!(time("2023-11-14T23:13:20+01:00"), Ok(Timestamp(1_700_000_000_000_000)));
        let local = time("2023-11-14 22:13").expect("a local time");
        let back = local.to_datetime().with_timezone(&Local).naive_local();
        assert_eq!(back.to_string(), "2023-11-14 22:13:00");
        for bad in ["", "now", "2023-11-14", "2023-13-14T00:00", "2023-11-14T22:13:20+99:00"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_span_stands_for_that_long_ago() {
        let then = time_or_ago("15m").expect("a span");
        let age = Clock::local().millis_since(then);
        assert!((900_000..910_000).contains(&age), "{age}");
        assert!(time_or_ago("2023-11-14T22:13:20Z").is_ok());
        let ahead = Clock::local().millis_since(time_or_ahead("15m").expect("a span"));
        assert!((-900_000..-890_000).contains(&ahead), "{ahead}");
    }

    #[test]
    fn places_are_read_and_written() {
        let text = "0199a1b2-0000-7000-8000-000000000001:42";
        assert_eq!(place(text).map(|place| place.to_string()), Ok(text.to_owned()));
        for bad in ["", "42", "x:42", "0199a1b2-0000-7000-8000-000000000001:-1"] {
            assert!(place(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn payloads_are_kept_byte_for_byte() {
        let text = r#"{ "big": 9007199254740993,  "nul": "\u0000" }"#;
        assert_eq!(payload(text, std::io::empty()).expect("JSON").text(), text);
        assert_eq!(payload("-", format!("\n{text}\n").as_bytes()).expect("JSON").text(), text);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("p.json");
        std::fs::write(&file, text).expect("a file");
        let argument = format!("@{}", file.display());
        assert_eq!(payload(&argument, std::io::empty()).expect("JSON").text(), text);
    }

    #[test]
    fn what_is_no_payload_is_a_usage_fault() {
        for bad in ["", "text", "{} {}", "@/nowhere/at/all", "-"] {
            assert!(matches!(payload(bad, std::io::empty()), Err(CliError::Usage(_))), "{bad}");
        }
        let endless = payload("-", std::io::repeat(b'1'));
        assert!(matches!(endless, Err(CliError::Usage(why)) if why.contains("larger")));
    }
}
