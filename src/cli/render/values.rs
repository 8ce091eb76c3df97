//! Answers whose shape may grow: read by JSON pointer, with `-` for what is not there.

use serde_json::Value;

use super::{
    paint::Tone,
    table::{Column, Rows},
};
use crate::{
    cli::{screen::View, text::count, time},
    domain::Timestamp,
};

/// A cell of a row: its text, which may be anything, and its tone.
pub(super) type Cell = (String, Tone);

/// A table: a line an item, each cell made of the item.
pub(super) fn table<const N: usize>(
    columns: [Column; N],
    items: &[Value],
    titles: bool,
    view: &View,
    cells: impl Fn(&Value) -> [Cell; N],
) -> String {
    let mut rows = Rows::new(columns);
    for item in items {
        let cells = cells(item);
        rows.push(cells.each_ref().map(|(text, tone)| (text.as_str(), *tone)));
    }
    rows.text(titles, 0, view)
}

/// What is there, as text; a list with commas.
pub(super) fn text(item: &Value, pointer: &str) -> String {
    match item.pointer(pointer) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            let texts: Vec<String> = items
                .iter()
                .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
                .collect();
            texts.join(", ")
        }
        Some(other) => other.to_string(),
    }
}

/// A text of no tone.
pub(super) fn plain(item: &Value, pointer: &str) -> Cell {
    (text(item, pointer), Tone::Plain)
}

/// A number, grouped.
pub(super) fn number(item: &Value, pointer: &str) -> Cell {
    match item.pointer(pointer).and_then(Value::as_i64) {
        Some(0) => ("0".to_owned(), Tone::Dim),
        Some(number) => (count(number), Tone::Plain),
        None => plain(item, pointer),
    }
}

/// A state in its tone.
pub(super) fn state(item: &Value, pointer: &str) -> Cell {
    let state = text(item, pointer);
    let tone = Tone::of_state(&state);
    (state, tone)
}

/// Milliseconds as a span.
pub(super) fn millis(item: &Value, pointer: &str) -> Cell {
    let millis = item.pointer(pointer).and_then(Value::as_f64);
    #[expect(clippy::cast_possible_truncation, reason = "spans are far below 2⁵³ milliseconds")]
    (millis.map_or_else(String::new, |millis| time::span(millis as i64)), Tone::Plain)
}

/// How long ago a time is.
pub(super) fn ago(item: &Value, pointer: &str, view: &View) -> Cell {
    (moment(item, pointer).map_or_else(String::new, |at| time::age(at, view.now)), Tone::Dim)
}

/// A time.
pub(super) fn at(item: &Value, pointer: &str, view: &View) -> Cell {
    (moment(item, pointer).map_or_else(String::new, |at| time::at(at, view.utc)), Tone::Plain)
}

fn moment(item: &Value, pointer: &str) -> Option<Timestamp> {
    serde_json::from_value(item.pointer(pointer)?.clone()).ok()
}

/// Whether it is there and true.
pub(super) fn is(item: &Value, pointer: &str) -> bool {
    item.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
}
