//! What a running handler can see and say: its job, its deadline, progress and log lines.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Assignment, JobError};

/// Longest text of one log line; longer ones are cut, so that a handler cannot fill a node with one line.
pub const LOG_LINE_BYTES_MAX: usize = 16 * 1024;

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only for who debugs the handler.
    Debug,
    /// The ordinary course of the job.
    Info,
    /// Worth a look.
    Warn,
    /// Something failed.
    Error,
}

/// Something a running job said.
#[derive(Debug, Clone)]
pub enum JobNote {
    /// How far it is; newer replaces older.
    Progress {
        /// The job.
        job_id: Uuid,
        /// The attempt's fence.
        fence: u64,
        /// Any JSON.
        progress: Box<RawValue>,
    },
    /// A line for the job's log.
    Log {
        /// The job.
        job_id: Uuid,
        /// The attempt's fence.
        fence: u64,
        /// How much it matters.
        level: LogLevel,
        /// The line, at most [`LOG_LINE_BYTES_MAX`].
        message: String,
    },
    /// It has seen that it is to stop, or has begun to.
    StopSeen {
        /// The job.
        job_id: Uuid,
        /// The attempt's fence.
        fence: u64,
    },
}

/// Takes what running jobs say. It must never block: when full it drops, and the context counts.
pub trait JobSink: Send + Sync + 'static {
    /// Takes `note` if there is room; `false` means that it was dropped.
    fn offer(&self, note: JobNote) -> bool;
}

/// A sink over a bounded channel, read by the session that holds the leases.
impl JobSink for mpsc::Sender<JobNote> {
    fn offer(&self, note: JobNote) -> bool {
        self.try_send(note).is_ok()
    }
}

/// Forgets everything: for tests and for handlers run outside of a session.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullSink;

impl JobSink for NullSink {
    fn offer(&self, _note: JobNote) -> bool {
        true
    }
}

/// A running attempt, as its handler sees it. Cheap to clone.
#[derive(Clone)]
pub struct JobContext {
    shared: Arc<Shared>,
}

struct Shared {
    assignment: Assignment,
    stop: CancellationToken,
    deadline: Instant,
    sink: Arc<dyn JobSink>,
    notes_dropped: AtomicU64,
    stop_seen: AtomicBool,
}

impl JobContext {
    /// A context for `assignment` that is told to stop by `stop`; [`run_attempt`](super::run_attempt) makes it.
    pub fn new(
        assignment: Assignment,
        stop: CancellationToken,
        deadline: Instant,
        sink: Arc<dyn JobSink>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                assignment,
                stop,
                deadline,
                sink,
                notes_dropped: AtomicU64::new(0),
                stop_seen: AtomicBool::new(false),
            }),
        }
    }

    /// The job and its attempt.
    pub fn assignment(&self) -> &Assignment {
        &self.shared.assignment
    }

    /// Shorthand for the job's id.
    pub fn job_id(&self) -> Uuid {
        self.shared.assignment.job_id
    }

    /// Cancelled when the handler should stop: the job was canceled, timed out, or its lease is lost.
    pub fn cancelled(&self) -> &CancellationToken {
        self.is_cancelled();
        &self.shared.stop
    }

    /// Whether the handler should stop. Who asks when that is so has seen it: the cancel shows as acknowledged.
    pub fn is_cancelled(&self) -> bool {
        let is_cancelled = self.shared.stop.is_cancelled();
        if is_cancelled {
            self.note_stop_seen();
        }
        is_cancelled
    }

    /// Tells, once, that the handler knows that it is to stop.
    pub(super) fn note_stop_seen(&self) {
        if !self.shared.stop_seen.swap(true, Ordering::Relaxed) {
            let (job_id, fence) = (self.job_id(), self.shared.assignment.fence);
            self.offer(JobNote::StopSeen { job_id, fence });
        }
    }

    /// When the attempt times out.
    pub fn deadline(&self) -> Instant {
        self.shared.deadline
    }

    /// Tells how far the job is, as any JSON; what cannot be serialised is dropped and counted.
    pub fn progress<T: Serialize + ?Sized>(&self, progress: &T) {
        match serde_json::value::to_raw_value(progress) {
            Ok(progress) => {
                let (job_id, fence) = (self.job_id(), self.shared.assignment.fence);
                self.offer(JobNote::Progress { job_id, fence, progress });
            }
            Err(_) => self.count_dropped(),
        }
    }

    /// Adds a line to the job's log.
    pub fn log(&self, level: LogLevel, message: impl Into<String>) {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(LOG_LINE_BYTES_MAX));
        self.offer(JobNote::Log {
            job_id: self.job_id(),
            fence: self.shared.assignment.fence,
            level,
            message,
        });
    }

    /// The payload as a `T`; a fatal `invalid_payload` that names the field if it is none.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, JobError> {
        let mut json = serde_json::Deserializer::from_str(self.shared.assignment.payload.get());
        serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            let reason = error.into_inner().to_string();
            // Positions say nothing to people who sent the payload from a program.
            let reason = reason.split(" at line ").next().unwrap_or(&reason).to_owned();
            JobError::invalid_payload(if path == "." { reason } else { format!("{path}: {reason}") })
        })
    }

    /// How many notes found no room in the sink.
    pub fn notes_dropped(&self) -> u64 {
        self.shared.notes_dropped.load(Ordering::Relaxed)
    }

    fn offer(&self, note: JobNote) {
        if !self.shared.sink.offer(note) {
            self.count_dropped();
        }
    }

    fn count_dropped(&self) {
        self.shared.notes_dropped.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Debug for JobContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobContext").field("assignment", &self.shared.assignment).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::testing;

    #[derive(Debug, serde::Deserialize)]
    struct Mail {
        #[expect(dead_code, reason = "only its shape matters")]
        to: Vec<String>,
    }

    #[test]
    fn a_wrong_payload_is_a_fatal_error_that_names_the_field() {
        let ctx = testing::context("mail", r#"{"to":["a", 7]}"#);
        let error = ctx.payload::<Mail>().unwrap_err();
        assert_eq!(error.error_type, "invalid_payload");
        assert_eq!(error.message, "to[1]: invalid type: integer `7`, expected a string");
        assert!(!error.retryable);

        let ctx = testing::context("mail", "{}");
        assert_eq!(ctx.payload::<Mail>().unwrap_err().message, "missing field `to`");
    }

    #[tokio::test]
    async fn notes_beyond_the_sink_are_dropped_and_counted() {
        let (sink, mut notes) = mpsc::channel(1);
        let ctx = testing::context_with("mail", "{}", Arc::new(sink));
        ctx.log(LogLevel::Info, "first");
        ctx.log(LogLevel::Info, "second");
        ctx.progress(&serde_json::json!({"percent": 50}));
        assert_eq!(ctx.notes_dropped(), 2);
        assert!(matches!(notes.recv().await, Some(JobNote::Log { message, .. }) if message == "first"));
    }

    #[test]
    fn a_log_line_is_cut_at_a_character() {
        let (sink, mut notes) = mpsc::channel(1);
        let ctx = testing::context_with("mail", "{}", Arc::new(sink));
        ctx.log(LogLevel::Info, "é".repeat(LOG_LINE_BYTES_MAX));
        let Some(JobNote::Log { message, .. }) = notes.blocking_recv() else { panic!("no line") };
        assert_eq!(message.len(), LOG_LINE_BYTES_MAX);
    }
}
