//! Single answers as pages and lines.

use serde_json::Value;

use super::{
    paint::{Tone, paint, title},
    values::{at, is, text},
};
use crate::cli::{
    screen::View,
    text::{clean, count, cut},
    time,
};

/// How much of a field's JSON is shown; `--json` gives all of it.
const JSON_CHARS_MAX: usize = 400;
/// As wide as most names of fields.
const NAME_WIDTH: usize = 20;
/// Deeper objects are shown as JSON.
const DEPTH_MAX: usize = 2;

/// Any object, a line a field: also what a newer node adds is shown.
pub(in crate::cli) fn page(item: &Value, view: &View) -> String {
    let mut page = String::new();
    fields(item, 0, view, &mut page);
    page
}

fn fields(item: &Value, depth: usize, view: &View, page: &mut String) {
    let Value::Object(object) = item else {
        page.push_str(&format!("{}\n", value("", item, view)));
        return;
    };
    let margin = "  ".repeat(depth);
    for (name, field) in object {
        let name = clean(name);
        match field {
            Value::Object(inner) if !inner.is_empty() && depth < DEPTH_MAX => {
                page.push_str(&format!("{margin}{name}\n"));
                fields(field, depth + 1, view, page);
            }
            _ => {
                let width = NAME_WIDTH.saturating_sub(margin.len());
                page.push_str(&format!("{margin}{name:<width$}  {}\n", value(&name, field, view)));
            }
        }
    }
}

fn value(name: &str, field: &Value, view: &View) -> String {
    let shown = match field {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => match number.as_i64() {
            Some(millis) if name.ends_with("Ms") => time::span(millis),
            Some(number) => count(number),
            None => number.as_f64().map_or_else(|| number.to_string(), decimal),
        },
        Value::String(text) if name.ends_with("At") => match serde_json::from_value(field.clone()) {
            Ok(moment) => time::at(moment, view.utc),
            Err(_) => text.clone(),
        },
        Value::String(text) if matches!(name, "state" | "status") => {
            return paint(&clean(text), Tone::of_state(text), view);
        }
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            if texts.is_empty() { "-".to_owned() } else { texts.join(", ") }
        }
        Value::Array(_) | Value::Object(_) => field.to_string(),
    };
    clean(&cut(&shown, JSON_CHARS_MAX)).into_owned()
}

/// With as many places as say something: rates are often small.
fn decimal(number: f64) -> String {
    let places = if number.abs() < 1.0 { 4 } else { 2 };
    let text = format!("{number:.places$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A job of which little may be told, in one line.
pub(in crate::cli) fn job_line(job: &Value, view: &View) -> String {
    let state = text(job, "/state");
    let mut line = clean(&text(job, "/id")).into_owned();
    for (before, word) in [
        (" ", paint(&clean(&state), Tone::of_state(&state), view)),
        (" ", clean(&text(job, "/type")).into_owned()),
        (" on ", clean(&text(job, "/queue")).into_owned()),
    ] {
        if !word.is_empty() {
            line.push_str(&format!("{before}{word}"));
        }
    }
    line
}

/// What a change did: its counts, or the operation that goes on; `done` where the answer says nothing of these.
pub(in crate::cli) fn changed(said: &Value, done: &str) -> String {
    if let Some(id) = said.get("operationId").and_then(Value::as_str) {
        let id = clean(id);
        return format!("operation {id} goes on; look with `ganger operations get {id} --watch`");
    }
    let counts: Vec<String> = ["matched", "changed", "deleted", "replayed", "skipped"]
        .iter()
        .filter_map(|name| Some(format!("{} {name}", count(said.get(*name)?.as_i64()?))))
        .collect();
    if !counts.is_empty() {
        let reason = text(said, "/reason");
        let reason = if reason.is_empty() { reason } else { format!(": {}", clean(&reason)) };
        return format!("{}{reason}", counts.join(", "));
    }
    done.to_owned()
}

/// Why a job is not running, or is.
pub(in crate::cli) fn explanation(said: &Value, view: &View) -> String {
    let state = text(said, "/state");
    let mut page = format!("{}\n", paint(&clean(&state), Tone::of_state(&state), view));
    for reason in said["reasons"].as_array().into_iter().flatten() {
        let mut line = format!("  {}: {}", clean(&text(reason, "/code")), clean(&text(reason, "/message")));
        let (until, _) = at(reason, "/until", view);
        if !until.is_empty() {
            line.push_str(&format!(", until {until}"));
        }
        for (name, pointer) in [("policy", "/policyId"), ("depends on", "/dependsOn")] {
            let named = text(reason, pointer);
            if !named.is_empty() {
                line.push_str(&format!(", {name} {}", clean(&named)));
            }
        }
        page.push_str(&format!("{line}\n"));
    }
    if let Some(position) = said["position"].as_i64() {
        page.push_str(&format!("  position {}\n", count(position)));
    }
    let (start, _) = at(said, "/estimatedStartAt", view);
    if !start.is_empty() {
        page.push_str(&format!("  likely to start at {start}\n"));
    }
    page
}

/// A line that a handler has logged.
pub(in crate::cli) fn log_line(line: &Value, view: &View) -> String {
    let level = text(line, "/level");
    let tone = match level.as_str() {
        "error" | "fatal" => Tone::Bad,
        "warn" | "warning" => Tone::Waiting,
        "debug" | "trace" => Tone::Dim,
        _ => Tone::Plain,
    };
    let (at, _) = at(line, "/at", view);
    let level = paint(&format!("{:<5}", clean(&level)), tone, view);
    let mut shown = format!("{}  {level}  {}", paint(&at, Tone::Dim, view), clean(&text(line, "/message")));
    if let Some(fields) = line.get("fields").filter(|fields| !fields.is_null()) {
        shown.push_str(&format!("  {}", paint(&clean(&fields.to_string()), Tone::Dim, view)));
    }
    shown
}

/// Whether a node lives and is ready, and its parts.
pub(in crate::cli) fn health(lives: bool, ready: bool, readiness: &Value, view: &View) -> String {
    let word = |good: bool, yes: &str, no: &str| {
        if good { paint(yes, Tone::Good, view) } else { paint(no, Tone::Bad, view) }
    };
    let mut page = format!("{}, {}\n", word(lives, "alive", "not alive"), word(ready, "ready", "not ready"));
    let parts: Vec<&Value> = readiness["parts"].as_array().into_iter().flatten().collect();
    if !parts.is_empty() {
        page.push_str(&format!("\n{}\n", title("Parts", view)));
    }
    for part in parts {
        let state = word(is(part, "/ready"), "ready    ", "not ready");
        let mut line = format!("  {state}  {}", clean(&text(part, "/part")));
        for pointer in ["/detail", "/reason"] {
            let why = text(part, pointer);
            if !why.is_empty() {
                line.push_str(&format!(": {}", clean(&why)));
            }
        }
        page.push_str(&format!("{line}\n"));
    }
    page
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::{render::samples, text::corpus};

    #[test]
    fn a_change_is_told_by_what_it_did() {
        let counts = json!({ "matched": 12_000, "changed": 11_999, "skipped": 1 });
        assert_eq!(changed(&counts, "done"), "12,000 matched, 11,999 changed, 1 skipped");
        assert!(changed(&json!({ "operationId": "op-1" }), "done").contains("operations get op-1"));
        assert_eq!(changed(&json!({}), "mail is paused"), "mail is paused");
        let queue = json!({ "name": "mail", "paused": true });
        assert_eq!(changed(&queue, "mail is paused"), "mail is paused");
    }

    #[test]
    fn a_page_has_a_line_a_field() {
        let thing = json!({
            "config": { "agingSeconds": 90.0, "retry": { "jitter": 0.2 } }, "counts": {}, "paused": false,
            "oldestMs": 65_000, "queues": ["a", "b"], "startedAt": "2026-11-23T19:15:00.000Z", "rate": 0.01666,
            "state": "failed",
        });
        insta::assert_snapshot!(page(&thing, &samples::view(None)), @r"
        config
          agingSeconds        90
          retry
            jitter            0.2
        counts                {}
        oldestMs              1m 05s
        paused                no
        queues                a, b
        rate                  0.0167
        startedAt             2026-11-23 19:15:00.000 UTC
        state                 failed
        ");
    }

    #[test]
    fn an_explanation_lists_its_reasons() {
        let said = json!({
            "state": "queued", "position": 7, "estimatedStartAt": "2026-11-23T19:15:00.000Z",
            "reasons": [
                { "code": "queue_paused", "message": "the queue is paused" },
                { "code": "scheduled", "message": "not due", "until": "2026-11-23T19:15:00.000Z" },
            ],
        });
        insta::assert_snapshot!(explanation(&said, &samples::view(None)), @r"
        queued
          queue_paused: the queue is paused
          scheduled: not due, until 2026-11-23 19:15:00.000 UTC
          position 7
          likely to start at 2026-11-23 19:15:00.000 UTC
        ");
    }

    #[test]
    fn health_lists_the_parts() {
        let said = json!({ "status": "ready", "parts": [
            { "part": "store", "ready": true }, { "part": "queue:a", "ready": false, "detail": "quarantined" },
        ] });
        insta::assert_snapshot!(health(true, true, &said, &samples::view(None)), @r"
        alive, ready

        Parts
          ready      store
          not ready  queue:a: quarantined
        ");
    }

    #[test]
    fn hostile_answers_are_harmless() {
        let view = samples::view(Some(60));
        for hostile in corpus::HOSTILE {
            let inner = json!({ hostile: hostile, "code": hostile, "message": hostile, "part": hostile });
            let item = json!({
                hostile: hostile, "state": hostile, "level": hostile, "message": hostile, "fields": inner,
                "reasons": [inner], "parts": [inner], "list": [hostile], "operationId": hostile, "inner": inner,
            });
            for text in [
                page(&item, &view),
                job_line(&item, &view),
                changed(&item, "done"),
                changed(&json!({ "matched": 1, "reason": hostile }), "done"),
                explanation(&item, &view),
                log_line(&item, &view),
                health(true, false, &item, &view),
            ] {
                corpus::assert_harmless(&text);
            }
        }
    }
}
