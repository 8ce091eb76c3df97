//! An event of a stream as a line.

use super::paint::{Tone, paint, state_word};
use crate::cli::{
    model::StreamMessage,
    screen::View,
    text::{clean, count, cut},
    time,
};

/// As wide as the longest kind of a job's events, so that lines stand below one another.
const KIND_WIDTH: usize = 24;
/// As wide as a job's id.
const JOB_WIDTH: usize = 36;

/// How much of a line or a progress is shown; `--json` gives all of it.
const DETAIL_CHARS_MAX: usize = 2_000;

/// Time, kind, job, queue, state, message; `-` for what it does not have. `None` for what is of no interest to
/// people: the stream's greeting, what it says of a job before anything happens, and signs of life.
pub(in crate::cli) fn event(message: &StreamMessage, view: &View) -> Option<String> {
    let at = paint(&time::at(message.timestamp, view.utc), Tone::Dim, view);
    match message.kind.as_str() {
        "stream.hello" | "stream.heartbeat" | "job.snapshot" | "job.heartbeat" => return None,
        "stream.reset" => {
            let told = paint("the stream was reset: events before this one were missed", Tone::Waiting, view);
            return Some(format!("{at}  {:<KIND_WIDTH$}  {told}", "stream.reset"));
        }
        _ => {}
    }
    let kind = clean(&message.kind);
    let subject = message.job_id.map(|id| id.to_string());
    let subject = subject.or_else(|| message.worker_id.as_deref().map(|id| clean(id).into_owned()));
    let subject = subject.unwrap_or_else(|| "-".to_owned());
    let queue = message.queue.as_deref().map_or_else(|| "-".into(), clean);
    let state = message.state.as_deref().map_or_else(|| "-".to_owned(), |state| state_word(state, view));
    let mut line = format!("{at}  {kind:<KIND_WIDTH$}  {subject:<JOB_WIDTH$}  {queue}  {state}");
    for text in [message.message.clone(), detail(message)].into_iter().flatten() {
        line.push_str(&format!("  {}", clean(&cut(&text, DETAIL_CHARS_MAX))));
    }
    Some(line)
}

/// What only a job's own followers, or slow readers, are told.
fn detail(message: &StreamMessage) -> Option<String> {
    if let Some(log) = &message.log {
        return Some(format!("{} {}", log.level, log.message));
    }
    if let Some(counts) = &message.counts {
        let counts = counts.iter().map(|(kind, number)| format!("{} {kind}", count(*number)));
        return Some(format!("instead of {}", counts.collect::<Vec<_>>().join(", ")));
    }
    message.progress.as_ref().map(serde_json::Value::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{model::SaidLine, render::samples, text::corpus};

    fn message(json: &str) -> StreamMessage {
        serde_json::from_str(json).expect("a message")
    }

    #[test]
    fn details_are_told_in_short() {
        let told = |json: &str| event(&message(json), &samples::view(None)).expect("a line");
        let base = r#""seq":1,"timestamp":"2026-11-23T19:00:00.000Z""#;
        let log =
            told(&format!(r#"{{"kind":"job.log",{base},"log":{{"level":"warn","message":"a\u001bb"}}}}"#));
        assert!(log.ends_with("  -  -  warn a\\x1bb"), "{log}");
        let progress = told(&format!(r#"{{"kind":"job.progress",{base},"progress":{{"done":3}}}}"#));
        assert!(progress.ends_with(r#"  {"done":3}"#), "{progress}");
        let merged = told(&format!(r#"{{"kind":"stream.merged",{base},"counts":{{"job.started":1200}}}}"#));
        assert!(merged.ends_with("  instead of 1,200 job.started"), "{merged}");
    }

    #[test]
    fn each_event_is_a_line() {
        let lines: Vec<String> =
            samples::STREAM.iter().filter_map(|json| event(&message(json), &samples::view(None))).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        2026-11-23 19:00:00.004 UTC  job.started               019e1000-0000-7000-8000-000000000001  mail  active  attempt 1 of 2
        2026-11-23 19:00:01.000 UTC  actor.restarted           -                                     mail  -  panicked: index out of bounds
        2026-11-23 19:00:09.000 UTC  stream.reset              the stream was reset: events before this one were missed
        "#);
    }

    #[test]
    fn hostile_events_are_harmless_and_stay_on_their_line() {
        for hostile in corpus::HOSTILE {
            let mut bad = message(samples::STREAM[1]);
            bad.kind = hostile.to_owned();
            bad.queue = Some(hostile.to_owned());
            bad.state = Some(hostile.to_owned());
            bad.message = Some(format!("{hostile}\nforged line"));
            bad.log = Some(SaidLine { level: hostile.to_owned(), message: hostile.to_owned() });
            bad.progress = Some(hostile.into());
            let line = event(&bad, &samples::view(None)).expect("shown");
            corpus::assert_harmless(&line);
            assert_eq!(line.lines().count(), 1, "{line:?}");
        }
    }
}
