//! A job as a page.

use super::{
    graph::graph,
    paint::{Tone, paint, state_word, title},
    table::{Column, Rows},
};
use crate::{
    cli::{
        model::{Attempt, DeadLetter, Inspection, Moment},
        screen::View,
        text::{clean, clean_lines, cut},
        time,
    },
    domain::{JobView, RawJson, Timestamp},
};

/// How much of a payload or result is shown; `--json` gives all of it.
const JSON_CHARS_MAX: usize = 2_000;
/// How much of a stack trace is shown.
const TRACE_LINES_MAX: usize = 12;

/// A job in one line, for the answers of submit, cancel and retry.
pub(in crate::cli) fn brief(job: &JobView, view: &View) -> String {
    let mut line = format!("{} {} {}", job.id, state_word(job.state.name(), view), clean(&job.kind));
    line.push_str(&format!(" on {}", clean(&job.queue)));
    if job.cancel_requested && !job.state.is_terminal() {
        line.push_str(", asked to stop");
    }
    if let Some(reason) = &job.blocked_reason {
        line.push_str(&format!(": {}", clean(reason)));
    }
    if let Some(error) = job.last_error.as_ref().filter(|_| job.state.is_terminal()) {
        line.push_str(&format!(": {}", clean(error)));
    }
    line
}

/// All that is known of a job.
pub(in crate::cli) fn inspection(all: &Inspection, view: &View) -> String {
    let mut page = profile(&all.job, all.dead_letter.as_ref(), view);
    for (name, body) in [
        ("Attempts", attempts(&all.attempts, view)),
        ("Timeline", timeline(&all.events, view)),
        ("Graph", if all.graph.nodes.len() > 1 { graph(&all.graph, view) } else { String::new() }),
    ] {
        if !body.is_empty() {
            page.push_str(&format!("\n{}\n{body}", title(name, view)));
        }
    }
    page
}

/// A job's profile.
pub(in crate::cli) fn job(job: &JobView, view: &View) -> String {
    profile(job, None, view)
}

fn profile(job: &JobView, dead: Option<&DeadLetter>, view: &View) -> String {
    let at = |time: Timestamp| format!("{} ({} ago)", time::at(time, view.utc), time::age(time, view.now));
    let until = |time: Timestamp| {
        let left = time.millis_since(view.now);
        let when =
            if left > 0 { format!("in {}", time::span(left)) } else { format!("{} ago", time::span(-left)) };
        format!("{} ({when})", time::at(time, view.utc))
    };
    let mut page =
        format!("{}  {}\n", title(&format!("Job {}", job.id), view), state_word(job.state.name(), view));
    let mut field = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            page.push_str(&format!("  {:<14}{value}\n", name));
        }
    };
    let text = |text: &Option<String>| text.as_deref().map(|text| clean(text).into_owned());
    let waiting = job.waiting_for.and_then(|waiting| serde_json::to_value(waiting).ok());
    field("type", Some(clean(&job.kind).into_owned()));
    field("queue", Some(clean(&job.queue).into_owned()));
    field("tenant", Some(clean(&job.tenant_id).into_owned()));
    field("priority", Some(job.priority.to_string()));
    field("attempts", Some(format!("{} of {}", job.attempts, job.max_attempts)));
    field("waiting for", waiting.and_then(|waiting| Some(clean(waiting.as_str()?).into_owned())));
    field("blocked", text(&job.blocked_reason));
    field("cancel", job.cancel_requested.then(|| "requested".to_owned()));
    field("worker", text(&job.worker_id));
    field("created", Some(at(job.created_at)));
    field("run at", (job.run_at != job.created_at).then(|| until(job.run_at)));
    field("started", job.started_at.map(at));
    field("finished", job.finished_at.map(at));
    field("execution", (job.execution_ms > 0).then(|| time::span(job.execution_ms)));
    field("heartbeat", job.last_heartbeat_at.filter(|_| !job.state.is_terminal()).map(at));
    field("lease ends", job.lease_expires_at.filter(|_| !job.state.is_terminal()).map(until));
    field("throttled", job.throttle_until.map(until));
    field("time-out", Some(time::span(i64::from(job.timeout_seconds) * 1_000)));
    field("workflow", job.workflow_id.map(|id| id.to_string()));
    field("made by", job.parent_job_id.map(|id| id.to_string()));
    field("key", text(&job.idempotency_key));
    field("tags", (!job.tags.is_empty()).then(|| clean(&job.tags.join(", ")).into_owned()));
    field("traceparent", text(&job.traceparent));
    field("progress", job.progress.as_ref().map(json));
    field("metadata", job.metadata.as_ref().map(json));
    field("payload", Some(json(&job.payload)));
    field("result", job.result.as_ref().map(json));
    field("last error", job.last_error.as_deref().map(|error| paint(&clean(error), Tone::Bad, view)));
    field(
        "dead letter",
        dead.map(|dead| {
            let replays = if dead.replay_count > 0 {
                format!(", replayed {} times", dead.replay_count)
            } else {
                String::new()
            };
            let error = format!("{}: {}", dead.error_type, dead.error_message);
            format!("{}{replays}; {}", at(dead.failed_at), clean(&error))
        }),
    );
    page
}

fn json(value: &RawJson) -> String {
    clean(&cut(value.text(), JSON_CHARS_MAX)).into_owned()
}

/// The attempts, each with its error and the beginning of its stack trace.
pub(in crate::cli) fn attempts(all: &[Attempt], view: &View) -> String {
    let mut page = String::new();
    for attempt in all {
        let number = attempt.attempt;
        let took = match attempt.finished_at {
            Some(end) => format!("took {}", time::span(end.millis_since(attempt.started_at))),
            None => format!("for {}", time::span(view.now.millis_since(attempt.started_at).max(0))),
        };
        let status = state_word(&attempt.status, view);
        let (began, worker) = (time::at(attempt.started_at, view.utc), clean(&attempt.worker_id));
        page.push_str(&format!("  {number}  {status}  {began}, {took}, on {worker}\n"));
        let error = match (&attempt.error_type, &attempt.error_message) {
            (Some(kind), Some(message)) => Some(format!("{kind}: {message}")),
            (one, other) => one.as_ref().or(other.as_ref()).cloned(),
        };
        if let Some(error) = error {
            page.push_str(&format!("     {}\n", paint(&clean(&error), Tone::Bad, view)));
        }
        let trace: Vec<&str> = attempt.stack_trace.iter().flat_map(|trace| trace.lines()).collect();
        for line in trace.iter().take(TRACE_LINES_MAX) {
            page.push_str(&format!("       {}\n", paint(&clean_lines(line), Tone::Dim, view)));
        }
        if trace.len() > TRACE_LINES_MAX {
            page.push_str(&format!("       … {} more lines\n", trace.len() - TRACE_LINES_MAX));
        }
    }
    page
}

/// The timeline: when it began, and how long after that each row was written.
pub(in crate::cli) fn timeline(rows: &[Moment], view: &View) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let start = first.occurred_at;
    let mut table = Rows::new([
        Column::whole("#", 4).right(),
        Column::whole("AFTER", 0).right(),
        Column::whole("EVENT", 0),
        Column::whole("STATE", 3),
        Column::whole("ATTEMPT", 5),
        Column::text("WORKER", 6),
        Column::text("MESSAGE", 1),
    ]);
    for row in rows {
        let attempt = row.attempt.map(|attempt| attempt.to_string()).unwrap_or_default();
        let plain = Tone::Plain;
        table.push([
            (&row.seq.to_string(), Tone::Dim),
            (&time::after(start, row.occurred_at), plain),
            (&row.kind, plain),
            (&row.state, Tone::of_state(&row.state)),
            (&attempt, plain),
            (row.worker_id.as_deref().unwrap_or_default(), Tone::Dim),
            (&row.message, plain),
        ]);
    }
    format!("  from {}\n{}", time::at(start, view.utc), table.text(true, 2, view))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{render::samples, text::corpus};

    #[test]
    fn a_failed_job_is_a_page() {
        insta::assert_snapshot!(inspection(&samples::inspection(), &samples::view(Some(120))), @r#"
        Job 019e1000-0000-7000-8000-000000000001  failed
          type          email.send
          queue         mail
          tenant        acme
          priority      7
          attempts      2 of 2
          worker        node-1/worker-2
          created       2026-11-23 19:00:00.000 UTC (15m ago)
          started       2026-11-23 19:00:12.150 UTC (14m ago)
          finished      2026-11-23 19:00:12.500 UTC (14m ago)
          execution     350ms
          time-out      5m 00s
          key           order-7
          tags          welcome, eu
          payload       {"recipient": "ada@example.org"}
          last error    smtp: connection refused by mail.example.org after three tries
          dead letter   2026-11-23 19:00:12.500 UTC (14m ago); SmtpError: connection refused

        Attempts
          1  retrying  2026-11-23 19:00:00.004 UTC, took 200ms, on node-1/worker-1
             SmtpError: connection refused
               at send (mail.rs:7)
               at run (job.rs:3)
          2  failed  2026-11-23 19:00:12.150 UTC, took 350ms, on node-1/worker-2
             SmtpError: connection refused

        Timeline
          from 2026-11-23 19:00:00.000 UTC
          #     AFTER  EVENT         STATE     ATTEMPT  WORKER           MESSAGE
          1   +0.000s  job.enqueued  queued                              submitted
          2   +0.004s  job.started   active    1        node-1/worker-1  attempt 1 of 2
          3   +0.204s  job.retrying  retrying  1                         SmtpError: connection refused
          4  +12.500s  job.failed    failed    2        node-1/worker-2  SmtpError: connection refused

        Graph
          file.ingest 019e1000-0000-7000-8000-00000000000a completed  ← this job
          ├─ image.thumbnail 019e1000-0000-7000-8000-00000000000b completed
          │  └─ metadata.aggregate 019e1000-0000-7000-8000-00000000000e blocked: waits for 2 of 3 jobs
          │     └─ user.notify 019e1000-0000-7000-8000-00000000000f blocked: waits for 1 job
          ├─ image.thumbnail 019e1000-0000-7000-8000-00000000000c active
          │  └─ metadata.aggregate 019e1000-0000-7000-8000-00000000000e blocked  (above)
          └─ image.thumbnail 019e1000-0000-7000-8000-00000000000d queued
             └─ metadata.aggregate 019e1000-0000-7000-8000-00000000000e blocked  (above)
        "#);
    }

    #[test]
    fn a_job_is_told_in_one_line() {
        let job = &samples::jobs()[0];
        insta::assert_snapshot!(brief(job, &samples::view(None)), @r#"
        019e1000-0000-7000-8000-000000000001 failed email.send on mail: smtp: connection refused by mail.example.org after three tries
        "#);
    }

    #[test]
    fn a_hostile_job_is_harmless() {
        for hostile in corpus::HOSTILE {
            let mut all = samples::inspection();
            all.job.payload = RawJson::trusted(format!("[\"{hostile}\"]"));
            all.job.last_error = Some(hostile.to_owned());
            all.job.worker_id = Some(hostile.to_owned());
            all.job.tags = vec![hostile.to_owned()];
            all.attempts[0].stack_trace = Some(format!("{hostile}\n{hostile}"));
            all.attempts[0].status = hostile.to_owned();
            all.events[0].message = hostile.to_owned();
            all.events[0].kind = hostile.to_owned();
            for width in [None, Some(80)] {
                corpus::assert_harmless(&inspection(&all, &samples::view(width)));
            }
            corpus::assert_harmless(&brief(&all.job, &samples::view(None)));
        }
    }
}
