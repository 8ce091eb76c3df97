//! The totals of a report, and the page that shows them: one file, no script, nothing from elsewhere.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::worker::{FinishedJob, HistoryFilter, JobError};

/// Types or queues told apart; each has a histogram, and a page with more rows helps nobody.
const GROUPS_MAX: usize = 200;
/// Where further ones are counted.
const REST: &str = "(others)";
/// Longer than any attempt may take; keeps a wrong row from growing a histogram.
const DURATION_MS_MAX: u64 = 30 * 24 * 3600 * 1000;
/// Two digits: percentiles within 1 %.
const DIGITS: u8 = 2;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1b1f24}\
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse;width:100%}\
th,td{padding:.35rem .6rem;text-align:right;border-bottom:1px solid #d8dee4}\
th:first-child,td:first-child{text-align:left;overflow-wrap:anywhere}dt{color:#59636e}dd{margin:0 0 .5rem}";

/// Durations, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Quantiles {
    pub(super) p50: u64,
    pub(super) p95: u64,
    pub(super) p99: u64,
    pub(super) max: u64,
}

/// What jobs of one kind add up to.
struct Tally {
    jobs: u64,
    durations: Histogram<u64>,
}

impl Tally {
    fn new() -> Result<Self, JobError> {
        Ok(Self { jobs: 0, durations: Histogram::new(DIGITS)? })
    }

    fn add(&mut self, job: &FinishedJob) {
        self.jobs += 1;
        if let Some(ms) = job.execution_ms {
            // Resizing fails only beyond the range, which the bound rules out.
            let _ = self.durations.record(ms.min(DURATION_MS_MAX));
        }
    }

    fn quantiles(&self) -> Quantiles {
        let at = |quantile| self.durations.value_at_quantile(quantile);
        Quantiles { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: self.durations.max() }
    }
}

/// What the jobs of a report add up to.
pub(super) struct Totals {
    all: Tally,
    groups: [(&'static str, BTreeMap<String, Tally>); 3],
}

impl Totals {
    pub(super) fn new() -> Result<Self, JobError> {
        Ok(Self {
            all: Tally::new()?,
            groups: ["State", "Type", "Queue"].map(|title| (title, BTreeMap::new())),
        })
    }

    pub(super) fn add(&mut self, job: &FinishedJob) {
        self.all.add(job);
        for ((_, group), name) in self.groups.iter_mut().zip([&job.state, &job.job_type, &job.queue]) {
            let name = if group.contains_key(name) || group.len() < GROUPS_MAX { name } else { REST };
            if let Some(tally) = group.get_mut(name) {
                tally.add(job);
            } else if let Ok(mut tally) = Tally::new() {
                tally.add(job);
                group.insert(name.to_owned(), tally);
            }
        }
    }

    pub(super) fn jobs(&self) -> u64 {
        self.all.jobs
    }

    pub(super) fn by_state(&self) -> BTreeMap<&str, u64> {
        self.groups[0].1.iter().map(|(state, tally)| (state.as_str(), tally.jobs)).collect()
    }

    pub(super) fn quantiles(&self) -> Quantiles {
        self.all.quantiles()
    }
}

/// The page.
pub(super) fn page(
    report_id: &str,
    filter: &HistoryFilter,
    at: DateTime<Utc>,
    totals: &Totals,
    truncated: bool,
) -> String {
    let mut html = String::with_capacity(16 * 1024);
    let title = escaped(report_id);
    // Writing into a string cannot fail.
    let _ = write!(
        html,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Report {title}</title><style>{STYLE}</style>\
         <h1>Report {title}</h1><dl>"
    );
    let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let facts = [
        ("Generated", Some(time(at))),
        ("Tenant", filter.tenant.clone()),
        ("Queue", filter.queue.clone()),
        ("Type", filter.job_type.clone()),
        ("State", filter.state.clone()),
        ("Finished since", filter.since.map(time)),
        ("Finished before", filter.until.map(time)),
        (
            "Note",
            truncated.then(|| "there are more jobs than a report can hold; the newest are here".to_owned()),
        ),
    ];
    for (name, value) in facts {
        if let Some(value) = value {
            let _ = write!(html, "<dt>{name}</dt><dd>{}</dd>", escaped(&value));
        }
    }
    html.push_str("</dl><h2>All jobs</h2>");
    table(&mut html, "", [("all", &totals.all)].into_iter());
    for (title, group) in &totals.groups {
        let _ = write!(html, "<h2>By {}</h2>", title.to_lowercase());
        table(&mut html, title, group.iter().map(|(name, tally)| (name.as_str(), tally)));
    }
    html.push_str("</html>\n");
    html
}

fn table<'a>(html: &mut String, title: &str, rows: impl Iterator<Item = (&'a str, &'a Tally)>) {
    let _ = write!(
        html,
        "<table><tr><th>{title}</th><th>Jobs</th><th>p50 ms</th><th>p95 ms</th><th>p99 ms</th><th>Max ms</th></tr>"
    );
    for (name, tally) in rows {
        let Quantiles { p50, p95, p99, max } = tally.quantiles();
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{p50}</td><td>{p95}</td><td>{p99}</td><td>{max}</td></tr>",
            escaped(name),
            tally.jobs
        );
    }
    html.push_str("</table>");
}

/// `text` with nothing in it that HTML gives a meaning to.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}
