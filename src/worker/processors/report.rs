//! `report.generate`: finished jobs of a tenant as CSV, and their totals as a page.
//!
//! Rows go from the history into the content store through a pipe: a report of a million jobs takes no more memory
//! than one of a thousand.

use std::io::Cursor;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncWriteExt, DuplexStream};

use crate::worker::{ContentHash, ContentRef, FinishedJob, HistoryFilter, JobContext, JobError, LogLevel};

use super::Tools;
use super::payload::Id;
use super::report_html::{Quantiles, Totals, page};

/// Jobs read at a time.
const PAGE_ROWS: u32 = 1000;
/// Jobs in one report; more belong in a query of the store's copy, and the result says that some are missing.
const ROWS_MAX: u64 = 1_000_000;
/// Largest report file: a million long rows fit.
const REPORT_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Room between the history and the store: one page of rows.
const PIPE_BYTES: usize = 256 * 1024;

const COLUMNS: [&str; 11] = [
    "id",
    "type",
    "queue",
    "tenant",
    "state",
    "attempts",
    "createdAt",
    "startedAt",
    "finishedAt",
    "executionMs",
    "lastError",
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Payload {
    report_id: Id,
    #[serde(default)]
    format: Format,
    /// Filters may stand here or beside it.
    filters: Option<Filters>,
    #[serde(flatten)]
    beside: Filters,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Csv,
    Html,
    #[default]
    Both,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filters {
    tenant_id: Option<String>,
    queue: Option<String>,
    #[serde(rename = "type")]
    job_type: Option<String>,
    state: Option<String>,
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    report_id: Id,
    rows: u64,
    /// Whether there were more jobs than a report may have rows.
    truncated: bool,
    by_state: serde_json::Value,
    execution_ms: Quantiles,
    files: Vec<ReportFile>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReportFile {
    format: &'static str,
    sha256: ContentHash,
    bytes: u64,
    /// Relative to the data directory.
    path: String,
}

pub(super) async fn run(tools: Arc<Tools>, ctx: JobContext, payload: Payload) -> Result<Report, JobError> {
    let Payload { report_id, format, filters, beside } = payload;
    let filter = filter(&ctx, filters.unwrap_or_default(), beside)?;
    let mut files = Vec::new();
    let tallied = if format == Format::Html {
        tally(&tools, &ctx, &filter, None).await?
    } else {
        let (writer, reader) = tokio::io::duplex(PIPE_BYTES);
        // Dropping the writer at the end of the tally is what ends the store's reading.
        let (tallied, stored) = tokio::join!(
            tally(&tools, &ctx, &filter, Some(writer)),
            tools.platform.content.put(Box::pin(reader), Some("text/csv"), REPORT_BYTES_MAX),
        );
        // A failed store also breaks the pipe, and is the cause then.
        let stored = stored.map_err(|error| error.into_job_error())?;
        let tallied = tallied?;
        files.push(publish(&tools, &ctx, &report_id, "csv", stored).await?);
        tallied
    };
    if format != Format::Csv {
        let html =
            page(report_id.as_str(), &filter, (tools.platform.clock)(), &tallied.totals, tallied.truncated);
        let html = Box::pin(Cursor::new(html.into_bytes()));
        let stored = tools.platform.content.put(html, Some("text/html"), REPORT_BYTES_MAX).await;
        let stored = stored.map_err(|error| error.into_job_error())?;
        files.push(publish(&tools, &ctx, &report_id, "html", stored).await?);
    }
    let (rows, kinds) = (tallied.totals.jobs(), files.len());
    ctx.log(LogLevel::Info, format!("{rows} jobs in {kinds} files"));
    if tallied.truncated {
        ctx.log(LogLevel::Warn, format!("there were more jobs than the {ROWS_MAX} of a report"));
    }
    Ok(Report {
        report_id,
        rows: tallied.totals.jobs(),
        truncated: tallied.truncated,
        by_state: json!(tallied.totals.by_state()),
        execution_ms: tallied.totals.quantiles(),
        files,
    })
}

/// What the payload asks for, within the job's own tenant.
fn filter(ctx: &JobContext, inner: Filters, beside: Filters) -> Result<HistoryFilter, JobError> {
    let tenant = ctx.assignment().tenant.clone();
    if inner.tenant_id.or(beside.tenant_id).is_some_and(|asked| asked != tenant) {
        return Err(JobError::invalid_payload("filters.tenantId: a report covers the tenant of its own job"));
    }
    Ok(HistoryFilter {
        tenant: Some(tenant),
        queue: inner.queue.or(beside.queue),
        job_type: inner.job_type.or(beside.job_type),
        state: inner.state.or(beside.state),
        since: inner.since.or(beside.since),
        until: inner.until.or(beside.until),
    })
}

struct Tallied {
    totals: Totals,
    truncated: bool,
}

/// Reads all pages, adds their jobs up, and writes them as rows into `pipe`.
async fn tally(
    tools: &Tools,
    ctx: &JobContext,
    filter: &HistoryFilter,
    mut pipe: Option<DuplexStream>,
) -> Result<Tallied, JobError> {
    let mut totals = Totals::new()?;
    let mut after = None;
    if let Some(pipe) = &mut pipe {
        pipe.write_all(&csv_of(&[], true)?).await?;
    }
    loop {
        let room = ROWS_MAX - totals.jobs();
        let limit = u32::try_from(room).unwrap_or(PAGE_ROWS).min(PAGE_ROWS);
        let page = tools.platform.history.finished_jobs(filter, after, limit).await;
        let page = page.map_err(|error| error.into_job_error())?;
        for job in &page.rows {
            totals.add(job);
        }
        if let Some(pipe) = &mut pipe {
            pipe.write_all(&csv_of(&page.rows, false)?).await?;
        }
        ctx.progress(&json!({ "rows": totals.jobs() }));
        if page.next.is_none() || page.rows.is_empty() || totals.jobs() >= ROWS_MAX {
            let truncated = page.next.is_some() && totals.jobs() >= ROWS_MAX;
            return Ok(Tallied { totals, truncated });
        }
        after = page.next;
    }
}

fn csv_of(jobs: &[FinishedJob], header: bool) -> Result<Vec<u8>, JobError> {
    let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Millis, true);
    let mut writer = csv::Writer::from_writer(Vec::new());
    if header {
        writer.write_record(COLUMNS)?;
    }
    for job in jobs {
        let cells: [String; COLUMNS.len()] = [
            job.id.to_string(),
            inert(&job.job_type),
            inert(&job.queue),
            inert(&job.tenant),
            inert(&job.state),
            job.attempts.to_string(),
            time(job.created_at),
            job.started_at.map(time).unwrap_or_default(),
            time(job.finished_at),
            job.execution_ms.map(|ms| ms.to_string()).unwrap_or_default(),
            inert(job.last_error.as_deref().unwrap_or_default()),
        ];
        writer.write_record(cells)?;
    }
    writer.into_inner().map_err(|error| JobError::caused_by("report", error.error()))
}

/// A cell that no spreadsheet takes for a formula: what starts like one is marked as text.
fn inert(text: &str) -> String {
    let first = text.trim_start_matches([' ', '\u{a0}']).chars().next();
    match first {
        Some('=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠') => {
            format!("'{text}")
        }
        _ => text.to_owned(),
    }
}

async fn publish(
    tools: &Tools,
    ctx: &JobContext,
    report_id: &Id,
    format: &'static str,
    content: ContentRef,
) -> Result<ReportFile, JobError> {
    let store = &tools.platform.content;
    let tenant = &ctx.assignment().tenant;
    let name = format!("{}.{format}", report_id.as_str());
    let path = store.publish(&["reports", tenant], &name, &content).await;
    let path = path.map_err(|error| error.into_job_error())?;
    Ok(ReportFile { format, sha256: content.sha256, bytes: content.bytes, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_starts_a_formula() {
        for bad in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1"] {
            assert!(inert(bad).starts_with('\''), "{bad:?}");
        }
        assert_eq!(inert("email.send"), "email.send");
    }
}
