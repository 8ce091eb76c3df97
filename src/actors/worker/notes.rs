//! What a running handler says, until it is written and told.
//!
//! The handler's side never waits and holds the lock for a push: what finds no room is counted. The bounds are an
//! attempt's, so that a handler that logs in a hot loop costs the node what one page of text costs.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    actors::lease::LeaseFacts,
    domain::{Clock, Control, RawJson},
    store::{
        logs::LogRow,
        ops::{LOG_BYTES_MAX, LOG_LINES_MAX, LogLevel, LogLine},
    },
    worker::{self, JobNote, JobSink},
};

/// The most bytes of a progress that is kept: a few numbers and words, not a result.
const PROGRESS_BYTES_MAX: usize = 16 << 10;

/// The notes of one attempt.
#[derive(Debug)]
pub(super) struct AttemptNotes {
    facts: Arc<LeaseFacts>,
    clock: Arc<Clock>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Lines that are not known to be kept, oldest first.
    pending: VecDeque<LogLine>,
    /// How many of them are under way, and since when.
    sent: Option<(usize, Instant)>,
    /// Lines that are kept.
    kept: usize,
    /// Lines and bytes taken in, kept or pending.
    lines: usize,
    bytes: usize,
    dropped: u64,
    is_closed: bool,
    has_progress: bool,
    acknowledged: Option<Control>,
}

impl AttemptNotes {
    pub(super) fn new(facts: Arc<LeaseFacts>, clock: Arc<Clock>) -> Self {
        Self { facts, clock, inner: Mutex::default() }
    }

    pub(super) fn facts(&self) -> &LeaseFacts {
        &self.facts
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lines to be written next, with the number of the first; `None` while some are under way, or when there
    /// are none.
    pub(super) fn take(&self) -> Option<(i32, Vec<LogLine>)> {
        let mut inner = self.inner();
        if inner.sent.is_some() || inner.pending.is_empty() {
            return None;
        }
        inner.sent = Some((inner.pending.len(), Instant::now()));
        let first = i32::try_from(inner.kept + 1).unwrap_or(i32::MAX);
        Some((first, inner.pending.iter().cloned().collect()))
    }

    /// The lines up to number `through` are kept, `newest` is the last one's `seq`; those that were not known to be
    /// are given back as they are kept. Lines that were brought twice are answered twice.
    pub(super) fn kept(&self, through: i32, newest: i64) -> Vec<LogRow> {
        let mut inner = self.inner();
        let through = usize::try_from(through).unwrap_or(0);
        let count = through.saturating_sub(inner.kept).min(inner.pending.len());
        inner.sent = inner.sent.filter(|(sent, _)| inner.kept + sent > through);
        inner.sent = inner.sent.map(|(sent, at)| (sent - count, at));
        inner.kept += count;
        let first = newest + 1 - i64::try_from(count).unwrap_or(0);
        let facts = &self.facts;
        (first..)
            .zip(inner.pending.drain(..count))
            .map(|(seq, line)| LogRow {
                job_id: facts.job,
                seq,
                at: line.at.unwrap_or(facts.granted_at),
                attempt: facts.attempt,
                fence: facts.fence,
                level: line.level,
                message: line.message,
                fields: line.fields,
            })
            .collect()
    }

    /// The lines under way were not written; they are brought again.
    pub(super) fn unsent(&self) {
        self.inner().sent = None;
    }

    /// As [`unsent`](Self::unsent) when nothing was heard of them for so long.
    pub(super) fn unsent_after(&self, patience: Duration) {
        let mut inner = self.inner();
        inner.sent = inner.sent.filter(|(_, at)| at.elapsed() < patience);
    }

    /// Nothing more of this attempt can be written.
    pub(super) fn abandon(&self) {
        let mut inner = self.inner();
        inner.is_closed = true;
        inner.sent = None;
        inner.pending.clear();
    }

    /// The handler has ended: nothing more is taken in but the count of what was not kept.
    pub(super) fn close(&self) {
        let mut inner = self.inner();
        if std::mem::replace(&mut inner.is_closed, true) || inner.dropped == 0 {
            return;
        }
        crate::metrics::log_lines_dropped(inner.dropped);
        let message = format!(
            "{} more lines were not kept: an attempt keeps {LOG_LINES_MAX} lines and {} KiB",
            inner.dropped,
            LOG_BYTES_MAX >> 10,
        );
        let at = Some(self.clock.now());
        inner.pending.push_back(LogLine { at, level: LogLevel::Warn, message, fields: None });
    }

    /// Whether every line taken in was written.
    pub(super) fn is_written(&self) -> bool {
        self.inner().pending.is_empty()
    }

    /// The newest progress, if it is newer than at the last question.
    pub(super) fn take_progress(&self) -> Option<RawJson> {
        let is_new = std::mem::take(&mut self.inner().has_progress);
        if is_new { self.facts.lively().progress } else { None }
    }

    /// The control that the handler has obeyed since the last question.
    pub(super) fn take_acknowledged(&self) -> Option<Control> {
        self.inner().acknowledged.take()
    }

    fn log(&self, level: worker::LogLevel, message: String) -> bool {
        let at = Some(self.clock.now());
        let mut inner = self.inner();
        if inner.is_closed || inner.lines >= LOG_LINES_MAX || inner.bytes + message.len() > LOG_BYTES_MAX {
            inner.dropped += 1;
            return false;
        }
        inner.lines += 1;
        inner.bytes += message.len();
        let level = match level {
            worker::LogLevel::Debug => LogLevel::Debug,
            worker::LogLevel::Info => LogLevel::Info,
            worker::LogLevel::Warn => LogLevel::Warn,
            worker::LogLevel::Error => LogLevel::Error,
        };
        inner.pending.push_back(LogLine { at, level, message, fields: None });
        true
    }
}

impl JobSink for AttemptNotes {
    fn offer(&self, note: JobNote) -> bool {
        match note {
            JobNote::Log { level, message, .. } => self.log(level, message),
            JobNote::Progress { progress, .. } if progress.get().len() > PROGRESS_BYTES_MAX => false,
            JobNote::Progress { progress, .. } => {
                self.facts.set_progress(RawJson::trusted(progress.get()));
                self.inner().has_progress = true;
                true
            }
            JobNote::StopSeen { .. } => {
                if let Some(control) = self.facts.acknowledge_cancel(self.clock.now()) {
                    self.inner().acknowledged = Some(control);
                }
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        actors::lease::Attempt,
        domain::{Fence, JobId, SessionId, Timestamp, WorkerId},
    };

    fn notes() -> AttemptNotes {
        let attempt = Attempt {
            job: JobId::new(),
            kind: "t".into(),
            queue: "q".into(),
            attempt: 1,
            fence: Fence(7),
            worker: WorkerId("w".into()),
            session: SessionId::new(),
            granted_at: Timestamp(0),
        };
        AttemptNotes::new(Arc::new(LeaseFacts::new(attempt, Timestamp(1))), Arc::default())
    }

    fn say(notes: &AttemptNotes, message: &str) -> bool {
        notes.log(worker::LogLevel::Info, message.to_owned())
    }

    #[test]
    fn lines_are_numbered_and_brought_until_they_are_kept() {
        let notes = notes();
        assert!(say(&notes, "a") && say(&notes, "b"));
        assert_eq!(notes.take().map(|(first, lines)| (first, lines.len())), Some((1, 2)));
        assert!(say(&notes, "c"));
        assert!(notes.take().is_none(), "one write at a time");
        notes.unsent();
        assert_eq!(notes.take().map(|(first, lines)| (first, lines.len())), Some((1, 3)));
        // Two lines of an earlier attempt are before them.
        let rows = notes.kept(3, 5);
        assert_eq!(rows.iter().map(|row| row.seq).collect::<Vec<_>>(), [3, 4, 5]);
        assert!(notes.is_written());
        assert!(say(&notes, "d"));
        assert_eq!(notes.take().map(|(first, _)| first), Some(4));
        notes.unsent_after(Duration::ZERO);
        assert!(notes.take().is_some());
    }

    #[test]
    fn a_late_answer_to_lines_that_were_brought_again_counts_each_line_once() {
        let notes = notes();
        assert!(say(&notes, "a") && say(&notes, "b"));
        assert!(notes.take().is_some());
        notes.unsent();
        assert!(say(&notes, "c"));
        assert_eq!(notes.take().map(|(first, lines)| (first, lines.len())), Some((1, 3)));
        let seqs = |rows: Vec<LogRow>| rows.iter().map(|row| row.seq).collect::<Vec<_>>();
        assert_eq!(seqs(notes.kept(2, 2)), [1, 2], "the first answer");
        assert!(notes.take().is_none(), "the second is still to come");
        assert!(say(&notes, "d"));
        assert_eq!(seqs(notes.kept(3, 3)), [3]);
        assert_eq!(seqs(notes.kept(3, 3)), [0_i64; 0]);
        assert_eq!(notes.take().map(|(first, lines)| (first, lines.len())), Some((4, 1)));
    }

    #[test]
    fn what_is_beyond_an_attempts_bounds_is_counted_in_its_last_line() {
        for (size, kept) in [(1, LOG_LINES_MAX), (1 << 10, LOG_BYTES_MAX >> 10)] {
            let notes = notes();
            let line = "x".repeat(size);
            let said = (0..kept + 25).filter(|_| say(&notes, &line)).count();
            assert_eq!(said, kept);
            notes.close();
            notes.close();
            assert!(!say(&notes, "late"));
            let (_, lines) = notes.take().expect("lines");
            assert_eq!(lines.len(), kept + 1);
            assert!(lines[kept].message.starts_with("25 more lines"), "{}", lines[kept].message);
        }
    }

    #[test]
    fn the_newest_progress_is_told_once_and_a_large_one_is_none() {
        let notes = notes();
        let progress = |text: &str| JobNote::Progress {
            job_id: uuid::Uuid::nil(),
            fence: 7,
            progress: serde_json::value::RawValue::from_string(text.to_owned()).expect("JSON"),
        };
        assert!(notes.offer(progress("1")) && notes.offer(progress("2")));
        assert_eq!(notes.take_progress().as_ref().map(RawJson::text), Some("2"));
        assert_eq!(notes.take_progress(), None);
        assert!(!notes.offer(progress(&format!("\"{}\"", "x".repeat(PROGRESS_BYTES_MAX)))));
        assert_eq!(notes.facts().lively().progress.as_ref().map(RawJson::text), Some("2"));
    }
}
