//! What the journal writes.
//!
//! A batch is one transaction. Every operation names its shard and the epoch it is made under; rows
//! of a shard whose epoch is no longer that are not written and answered [`OpResult::FenceLost`].
//! Guards are in the statements: an operation whose guard matches no row writes nothing and says so.
//! The caller sees to it that a batch holds at most one operation for a job.

mod change;
mod result;

pub use change::{
    AuditOp, Changed, ChangedJob, ForgetOp, JobPatch, LOG_BYTES_MAX, LOG_LINES_MAX, LogLevel, LogLine, LogOp,
    ReplayOp, ReplayPatch, Requester, SettingsOp, UpdateOp,
};
pub use result::{
    Canceled, Ended, Granted, InboxTaken, LiveEntry, OpResult, Retried, SubmitRefusal, Submitted,
};

use crate::domain::{
    AttemptStatus, BootId, Fence, JobId, JobState, NewJob, RawJson, SessionId, ShardEpoch, WorkerId,
};

/// One operation of a batch.
#[derive(Debug, Clone)]
pub enum Op {
    /// Makes jobs: all of them or, when one is refused, none.
    Submit(SubmitOp),
    /// Gives a lease for a ready job.
    Grant(GrantOp),
    /// Ends a lease.
    End(EndOp),
    /// Cancels a waiting job, or asks it of a running one.
    Cancel(CancelOp),
    /// Runs a failed or waiting job again now.
    Retry(RetryOp),
    /// Takes what other shards left for this one.
    Inbox(InboxOp),
    /// Parks ready jobs behind a gate.
    Park(ParkOp),
    /// Opens a gate for some of the jobs behind it.
    Unpark(UnparkOp),
    /// Changes a waiting job.
    Update(UpdateOp),
    /// Runs a dead letter again.
    Replay(ReplayOp),
    /// Forgets a terminal job.
    Forget(ForgetOp),
    /// Changes a queue's settings.
    Settings(SettingsOp),
    /// Keeps log lines of an attempt.
    Log(LogOp),
    /// Writes a row of the audit log.
    Audit(AuditOp),
}

impl Op {
    /// What it is, in a word: for crash points.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Submit(op) if op.owner.is_none() => "births",
            Self::Submit(_) => "submit",
            Self::Grant(_) => "grant",
            Self::End(op) => match op.kind {
                EndKind::Completed { .. } => "complete",
                EndKind::Retry { .. } => "fail",
                EndKind::Failed { .. } => "dead_letter",
                EndKind::Released { .. } => "release",
                EndKind::Snoozed { .. } => "snooze",
                EndKind::Recovered { .. } => "recover",
                EndKind::RecoveredFailed { .. } => "poison",
                EndKind::Canceled { .. } => "cancel_running",
            },
            Self::Cancel(_) => "cancel",
            Self::Retry(_) => "retry",
            Self::Inbox(_) => "inbox",
            Self::Park(_) => "park",
            Self::Unpark(_) => "unpark",
            Self::Update(_) => "update",
            Self::Replay(_) => "replay",
            Self::Forget(_) => "forget",
            Self::Settings(_) => "settings",
            Self::Log(_) => "log",
            Self::Audit(_) => "audit",
        }
    }

    /// The shard and epoch it is written under; `None` for births and audit rows, which need none: nothing
    /// older can conflict with what did not exist.
    #[must_use]
    pub fn shard_epoch(&self) -> Option<ShardEpoch> {
        match self {
            Self::Submit(op) => op.owner,
            Self::Grant(op) => Some(op.owner),
            Self::End(op) => Some(op.owner),
            Self::Cancel(op) => Some(op.owner),
            Self::Retry(op) => Some(op.owner),
            Self::Inbox(op) => Some(op.owner),
            Self::Park(op) => Some(op.owner),
            Self::Unpark(op) => Some(op.owner),
            Self::Update(op) => Some(op.owner),
            Self::Replay(op) => Some(op.owner),
            Self::Forget(op) => Some(op.owner),
            Self::Settings(op) => Some(op.owner),
            Self::Log(op) => Some(op.owner),
            Self::Audit(_) => None,
        }
    }
}

/// Makes jobs.
///
/// With `owner`, the one job belongs to that shard and its owner learns of it from the result. Without,
/// the jobs are births: they may belong to any shards and each leaves an `inbox(born)` row for its
/// shard's owner. Jobs of one operation may depend on one another (earlier in the list), and on any
/// job of the same tenant that exists.
#[derive(Debug, Clone)]
pub struct SubmitOp {
    /// The shard and epoch, when its owner submits.
    pub owner: Option<ShardEpoch>,
    /// The jobs.
    pub jobs: Vec<NewJob>,
}

/// Gives a lease.
///
/// Guard: a live row that is ready (state `queued`, or `scheduled`, `retrying`, `throttled` whose time
/// the owner found due), without a gate and without a lease row, and not past its `expires_at` unless it was
/// leased before. The fence is
/// `max(last fence + 1, fence_floor)`. The live row's state is not changed: a lease row makes a job
/// active.
#[derive(Debug, Clone)]
pub struct GrantOp {
    /// The shard and epoch.
    pub owner: ShardEpoch,
    /// The job.
    pub job: JobId,
    /// The least fence of this grant.
    pub fence_floor: Fence,
    /// Who gets it.
    pub worker: WorkerId,
    /// Over which session.
    pub session: SessionId,
    /// The boot of the node that holds the session.
    pub boot: BootId,
    /// How long the lease lasts without a renewal, in milliseconds.
    pub ttl_ms: i64,
}

/// An error of an attempt, cut to the limits below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptError {
    /// Its type, such as `timeout`, `panic`, `lease_expired` or the handler's own.
    pub error_type: String,
    /// Its text.
    pub message: String,
    /// Where it happened.
    pub stack_trace: Option<String>,
}

/// The most bytes of an error's text that are kept.
pub const ERROR_BYTES_MAX: usize = 8 << 10;
/// The most bytes of a stack trace that are kept.
pub const STACK_BYTES_MAX: usize = 32 << 10;

/// How a lease ends.
#[derive(Debug, Clone)]
pub enum EndKind {
    /// The attempt succeeded: `active → completed`, an outcome row.
    Completed {
        /// What it made.
        result: Option<RawJson>,
    },
    /// The attempt failed and another follows: `active → retrying`, attempt used up.
    Retry {
        /// Until the next, in milliseconds.
        delay_ms: i64,
        /// Why.
        error: AttemptError,
    },
    /// The attempt failed and none is left (or it cannot be tried again): `active → failed`, an
    /// outcome row and a dead letter.
    Failed {
        /// Why.
        error: AttemptError,
    },
    /// Given back: `active → queued`, no attempt used up. `run_at` stays, so it keeps its place.
    Released {
        /// Why, for the timeline: `released`, `drained`, `session_ended`, `undelivered`.
        reason: String,
    },
    /// Given back for later: `active → scheduled`, no attempt used up.
    Snoozed {
        /// Until when, in milliseconds from now.
        delay_ms: i64,
    },
    /// The lease ended without a word and attempts are left: `active → retrying → queued` in one
    /// commit, attempt used up, `run_at` kept (the head of its priority), worker deaths + 1.
    Recovered {
        /// What is known of it.
        error: AttemptError,
    },
    /// The lease ended without a word on the last attempt, or for the last death allowed:
    /// `active → failed` by one row `job.recovered`, an outcome row and a dead letter.
    RecoveredFailed {
        /// What is known of it.
        error: AttemptError,
    },
    /// Ended as canceled: `active → canceled`, an outcome row.
    Canceled {
        /// Why.
        reason: String,
    },
}

impl EndKind {
    /// How the attempt is recorded.
    #[must_use]
    pub fn attempt_status(&self) -> AttemptStatus {
        match self {
            Self::Completed { .. } => AttemptStatus::Completed,
            Self::Retry { .. } => AttemptStatus::Retrying,
            Self::Failed { .. } => AttemptStatus::Failed,
            Self::Released { .. } | Self::Snoozed { .. } => AttemptStatus::Released,
            Self::Recovered { .. } | Self::RecoveredFailed { .. } => AttemptStatus::LeaseExpired,
            Self::Canceled { .. } => AttemptStatus::Canceled,
        }
    }

    /// The state it leaves the job in.
    #[must_use]
    pub fn state(&self) -> JobState {
        match self {
            Self::Completed { .. } => JobState::Completed,
            Self::Retry { .. } => JobState::Retrying,
            Self::Failed { .. } | Self::RecoveredFailed { .. } => JobState::Failed,
            Self::Released { .. } | Self::Recovered { .. } => JobState::Queued,
            Self::Snoozed { .. } => JobState::Scheduled,
            Self::Canceled { .. } => JobState::Canceled,
        }
    }

    /// Whether the attempt counts towards the job's maximum.
    #[must_use]
    pub fn uses_attempt(&self) -> bool {
        !matches!(self, Self::Released { .. } | Self::Snoozed { .. })
    }
}

/// Ends a lease. Guard: a lease row of the job with this very fence.
#[derive(Debug, Clone)]
pub struct EndOp {
    /// The shard and epoch.
    pub owner: ShardEpoch,
    /// The job.
    pub job: JobId,
    /// The lease's fence.
    pub fence: Fence,
    /// How.
    pub kind: EndKind,
}

/// Cancels a waiting job at once (`→ canceled`, an outcome row; a `failed` one too, whose dead letter
/// goes), or marks a running one (`cancel_requested` on its lease, timeline row) whose owner then tells
/// its worker.
#[derive(Debug, Clone)]
pub struct CancelOp {
    /// The shard and epoch.
    pub owner: ShardEpoch,
    /// The job.
    pub job: JobId,
    /// Why, for the timeline.
    pub reason: String,
    /// Only if it has never been leased: how a job past its `expiresAt` ends. Another one is a conflict.
    pub unstarted_only: bool,
    /// Who asks, for a row of the audit log; `None` for the node itself, and for a change that has a row for all its jobs.
    pub by: Option<Requester>,
}

/// Runs a job again now: a failed one leaves outcome and dead letters, its attempts and worker deaths
/// start anew, its fence goes on, and its dependents' shards are told; a `scheduled`, `retrying` or
/// `throttled` one becomes `queued`, and leaves its gate.
#[derive(Debug, Clone)]
pub struct RetryOp {
    /// The shard and epoch.
    pub owner: ShardEpoch,
    /// The job.
    pub job: JobId,
    /// As for [`CancelOp`].
    pub by: Option<Requester>,
}

/// Takes up to `limit` rows of the shard's inbox, in the order they were written, and does what they
/// say: `born` tells of a job; `finished` resolves the edges of this shard's jobs to that parent, which
/// has ended or, after a retry, runs again.
#[derive(Debug, Clone)]
pub struct InboxOp {
    /// The shard and epoch.
    pub owner: ShardEpoch,
    /// The most rows taken.
    pub limit: i64,
}

/// Parks ready jobs: sets their gate, which takes them out of the ready order. Guard: live, of this shard,
/// not blocked, not leased, without a gate. What is shown does not change (a `type:` gate leaves a job
/// `queued`): a deferred job whose time has come is written as `queued`, with its timeline row.
#[derive(Debug, Clone)]
pub struct ParkOp {
    /// The shard and epoch.
    pub owner: ShardEpoch,
    /// The jobs.
    pub jobs: Vec<JobId>,
    /// The gate: `type:…`, `limit:…`, `hold:…`.
    pub gate: String,
}

/// Clears the gate of up to `limit` jobs of a queue behind it, in ready order.
#[derive(Debug, Clone)]
pub struct UnparkOp {
    /// The shard and epoch.
    pub owner: ShardEpoch,
    /// The queue.
    pub queue: String,
    /// The gate.
    pub gate: String,
    /// The most jobs.
    pub limit: i64,
}
