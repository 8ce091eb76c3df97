//! Operators' changes: of one job, of a queue's settings, and the log lines of an attempt. Each change of an
//! operator is written together with its row in the audit log.

use serde::{Deserialize, Serialize};

use super::LiveEntry;
pub use crate::domain::JobPatch;
use crate::domain::{EventKind, Fence, JobId, JobState, RawJson, ShardEpoch, ShardId, Timestamp};

/// Who asks for a change, for the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requester {
    /// The name of the caller's key, or what the node calls itself.
    pub actor: String,
    /// The request's `X-Request-Id`.
    pub request_id: String,
    /// Why, if the caller said so.
    pub reason: Option<String>,
}

/// What is different when a dead letter runs again; what is `None` stays.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReplayPatch {
    /// Another queue.
    pub queue: Option<String>,
    /// What the handler gets.
    pub payload: Option<RawJson>,
    /// Another type.
    pub kind: Option<String>,
    /// 0 to 9.
    pub priority: Option<i16>,
}

/// Changes a waiting job (`queued`, `scheduled`, `retrying`, `blocked`, `throttled`, without a lease): one
/// `job.updated` row, one audit row; none of them when it is so already. A later `run_at` makes a `queued`,
/// `retrying` or `throttled` one `scheduled`; one that is due makes a deferred one `queued`, and a queued job
/// keeps its place. Both leave their gate, as does a job that changes its queue (a throttled one is `queued`
/// then); otherwise a gate stays. A job that moves is told to the other queue's shard by an `inbox(born)` row;
/// its edges are re-addressed when its parents end.
#[derive(Debug, Clone)]
pub struct UpdateOp {
    /// The shard and epoch.
    pub owner: ShardEpoch,
    /// The job.
    pub job: JobId,
    /// What.
    pub patch: JobPatch,
    /// Who asks.
    pub by: Requester,
}

/// Runs a dead letter again (`failed → queued`, `job.replayed`): attempts and deaths anew, the fence goes on,
/// `replay_count` + 1. Guard: a dead letter of this shard; other jobs are a conflict and stay as they are.
#[derive(Debug, Clone)]
pub struct ReplayOp {
    /// The shard and epoch.
    pub owner: ShardEpoch,
    /// The job.
    pub job: JobId,
    /// What is different.
    pub patch: ReplayPatch,
    /// Who asks.
    pub by: Requester,
}

/// Forgets a terminal job with all that belongs to it. A job that an unfinished one depends on stays.
#[derive(Debug, Clone)]
pub struct ForgetOp {
    /// The shard and epoch.
    pub owner: ShardEpoch,
    /// The job.
    pub job: JobId,
    /// Only when it is a dead letter.
    pub dead_letter_only: bool,
    /// Who asks.
    pub by: Requester,
}

/// What a change of one job did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// It is done.
    Done(Box<ChangedJob>),
    /// It is done, and the job waits where it did, in this state: its place did not change, or it is behind a
    /// gate as before.
    InPlace(JobState),
    /// It is so already; nothing was written. The state it is in.
    Same(JobState),
    /// Its state does not allow it; nothing was written.
    Conflict(JobState),
    /// It has used up this many attempts, more than it would have; nothing was written.
    AttemptsUsed(i32),
    /// An unfinished job depends on it, so it cannot be forgotten; nothing was written.
    DependedOn,
    /// There is no such job in this shard.
    NotFound,
}

/// A job that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedJob {
    /// The state it was in.
    pub from: JobState,
    /// As its owner needs to know it; `None` when it is gone, or in another queue now.
    pub entry: Option<LiveEntry>,
    /// What its timeline says; `None` for a job that was forgotten.
    pub kind: Option<EventKind>,
    /// Shards that got an inbox row: wake their owners.
    pub wakes: Vec<ShardId>,
}

/// Changes a queue's row, which is made if it is missing; what is `None` stays.
#[derive(Debug, Clone)]
pub struct SettingsOp {
    /// The shard and epoch.
    pub owner: ShardEpoch,
    /// The queue.
    pub queue: String,
    /// Whether dispatch is stopped.
    pub paused: Option<bool>,
    /// Whether submissions are refused.
    pub draining: Option<bool>,
    /// Settings as JSON.
    pub config: Option<String>,
    /// The audit log's word for it: `queue.paused`, `queue.configured` …
    pub action: &'static str,
    /// Who asks.
    pub by: Requester,
}

/// How loud a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Each step.
    Trace,
    /// For whoever looks for a fault.
    Debug,
    /// What happens.
    Info,
    /// What should not.
    Warn,
    /// What went wrong.
    Error,
}

impl LogLevel {
    /// The number that stands for it in the store.
    #[must_use]
    pub fn code(self) -> i16 {
        match self {
            Self::Trace => 0,
            Self::Debug => 1,
            Self::Info => 2,
            Self::Warn => 3,
            Self::Error => 4,
        }
    }

    /// The level with this number.
    #[must_use]
    pub fn from_code(code: i16) -> Option<Self> {
        Some(match code {
            0 => Self::Trace,
            1 => Self::Debug,
            2 => Self::Info,
            3 => Self::Warn,
            4 => Self::Error,
            _ => return None,
        })
    }
}

/// A line that a running job said.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLine {
    /// When, by the worker's clock; the store's now when it did not say.
    pub at: Option<Timestamp>,
    /// How loud.
    pub level: LogLevel,
    /// What.
    pub message: String,
    /// More, as a JSON object.
    pub fields: Option<RawJson>,
}

/// The most lines that an attempt keeps: what a person reads. Whoever gathers them holds to it.
pub const LOG_LINES_MAX: usize = 1_000;
/// The most bytes of text that an attempt keeps.
pub const LOG_BYTES_MAX: usize = 256 << 10;

/// Keeps log lines. Guard: a lease row of the job with this very fence. Lines that were kept before, by their
/// number, are not kept twice: the same op may be written again when its answer was lost.
#[derive(Debug, Clone)]
pub struct LogOp {
    /// The shard and epoch.
    pub owner: ShardEpoch,
    /// The job.
    pub job: JobId,
    /// The lease's fence.
    pub fence: Fence,
    /// The number of the first line within its attempt, from 1; lines are numbered without gaps.
    pub first: i32,
    /// The lines.
    pub lines: Vec<LogLine>,
}

/// A row of the audit log for something that has no write of its own, such as the restart of an actor.
#[derive(Debug, Clone)]
pub struct AuditOp {
    /// What was done: `worker.cordoned`, `actor.restarted` …
    pub action: &'static str,
    /// To what kind of thing.
    pub object_type: &'static str,
    /// To which.
    pub object_id: String,
    /// Who asked.
    pub by: Requester,
    /// What it was before.
    pub before: Option<RawJson>,
    /// What it is now.
    pub after: Option<RawJson>,
}
