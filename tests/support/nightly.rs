//! Tests with a short form (every run) and a long one (`tests/run --nightly`), told apart by the environment.

use std::io::Write;
use std::ops::Range;

use serde_json::{Value, json};

/// The rounds to play: `short` of them, or what `--nightly` asks for. A round's number is its seed, so a failed one
/// can be played again alone with `GANGER_ROUND_FIRST=n GANGER_ROUNDS=1`.
pub fn rounds(short: u64) -> Range<u64> {
    let first = number("GANGER_ROUND_FIRST").unwrap_or(0);
    first..first + number("GANGER_ROUNDS").unwrap_or(short)
}

/// Whether this is the long form.
pub fn is_long() -> bool {
    number("GANGER_ROUNDS").is_some()
}

/// Writes a measured figure down: as a JSON line in the file that `--nightly` names, and on standard output.
pub fn figure(part: &str, name: &str, value: impl Into<Value>) {
    let line = json!({
        "part": part,
        "name": name,
        "value": value.into(),
        "at": chrono::Utc::now().to_rfc3339(),
        "commit": std::env::var("GANGER_COMMIT").ok(),
    });
    println!("figure {line}");
    if let Some(path) = std::env::var_os("GANGER_FIGURES") {
        let file = std::fs::File::options().create(true).append(true).open(path);
        writeln!(file.expect("open the file of figures"), "{line}").expect("write a figure");
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}
