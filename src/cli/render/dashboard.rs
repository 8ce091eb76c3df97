//! The console's snapshot as a page.

use serde_json::Value;

use super::{
    lists::workers,
    overview::overview,
    paint::title,
    table::Column,
    things,
    values::{ago, plain, table, text},
};
use crate::cli::{model::Overview, screen::View, text::clean};

/// The bars of a trend, lowest first.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Counts, the last hour's rates and latencies, its trend, and what stands still.
pub(in crate::cli) fn dashboard(said: &Value, view: &View) -> String {
    let counts: Overview = serde_json::from_value(said["overview"].clone()).unwrap_or_default();
    let mut page = overview(&counts, view);
    let mut section = |name: &str, body: String| {
        if !body.is_empty() {
            page.push_str(&format!("\n{}\n{body}", title(name, view)));
        }
    };
    if said["metrics"].is_object() {
        section("Last hour", indented(&things::page(&said["metrics"], view)));
    }
    section(
        "Trend",
        said["trend"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, row)| row.is_array())
            .map(|(name, row)| trend(name, row))
            .collect(),
    );
    section("Workers", some(&list(&said["workers"]), workers, view));
    section("Dead letters", some(&list(&said["deadLetters"]), super::dead_letters, view));
    section("Blocked", jobs(&list(&said["blockedJobs"]), view));
    section("Throttled", jobs(&list(&said["throttledJobs"]), view));
    if said["leader"].is_object() {
        section("Leader", indented(&things::page(&said["leader"], view)));
    }
    page
}

fn list(items: &Value) -> Vec<Value> {
    items.as_array().cloned().unwrap_or_default()
}

/// A table without lines is not shown.
fn some(items: &[Value], table: fn(&[Value], bool, &View) -> String, view: &View) -> String {
    if items.is_empty() { String::new() } else { table(items, true, view) }
}

fn indented(page: &str) -> String {
    page.lines().map(|line| format!("  {line}\n")).collect()
}

/// A row of bars, and the last value.
fn trend(name: &str, row: &Value) -> String {
    let values: Vec<f64> =
        row.as_array().into_iter().flatten().map(|at| at["value"].as_f64().unwrap_or(0.0)).collect();
    let most = values.iter().copied().fold(0.0_f64, f64::max);
    let bar = |value: f64| {
        let share = if most > 0.0 { (value / most).clamp(0.0, 1.0) } else { 0.0 };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 7")]
        let at = (share * 7.0).round() as usize;
        BARS[at.min(BARS.len() - 1)]
    };
    let bars: String = values.iter().map(|value| bar(*value)).collect();
    let last = values.last().map_or_else(|| "-".to_owned(), |last| format!("{last:.2}"));
    format!("  {:<20}  {bars}  {last}\n", clean(name))
}

fn jobs(items: &[Value], view: &View) -> String {
    if items.is_empty() {
        return String::new();
    }
    let columns = [
        Column::whole("ID", 0),
        Column::text("TYPE", 1),
        Column::text("QUEUE", 2),
        Column::whole("AGE", 4).right(),
        Column::text("WHY", 3),
    ];
    table(columns, items, true, view, |job| {
        let why = match text(job, "/blockedReason") {
            reason if reason.is_empty() => plain(job, "/waitingFor"),
            reason => (reason, super::paint::Tone::Plain),
        };
        [plain(job, "/id"), plain(job, "/type"), plain(job, "/queue"), ago(job, "/createdAt", view), why]
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::{render::samples, text::corpus};

    #[test]
    fn a_trend_is_drawn_to_its_highest() {
        let row = json!([{ "value": 0 }, { "value": 2.0 }, { "value": 4 }]);
        assert_eq!(trend("throughput", &row), "  throughput            ▁▅█  4.00\n");
        assert!(trend("retryRate", &json!([])).ends_with("  -\n"));
    }

    #[test]
    fn a_dashboard_of_any_shape_is_a_harmless_page() {
        let view = samples::view(Some(100));
        assert!(dashboard(&json!({}), &view).contains("queued"));
        for hostile in corpus::HOSTILE {
            let inner =
                json!({ "id": hostile, "type": hostile, "blockedReason": hostile, "workerId": hostile });
            let said = json!({
                "overview": { "queuedJobs": 3 }, "metrics": { hostile: hostile }, "trend": { hostile: [inner] },
                "workers": [inner], "deadLetters": [inner], "blockedJobs": [inner], "leader": inner,
            });
            corpus::assert_harmless(&dashboard(&said, &view));
        }
    }
}
