//! What the journal writes.
//!
//! A batch is one transaction. Every operation names its shard and the epoch it is made under; rows
//! of a shard whose epoch is no longer that are not written and answered [`OpResult::FenceLost`].
//! Guards are in the statements: an operation whose guard matches no row writes nothing and says so.
//! The caller sees to it that a batch holds at most one operation for a job.

use crate::domain::{
    AttemptStatus, BootId, Fence, JobId, JobState, NewJob, RawJson, RetryPolicy, SessionId, ShardEpoch,
    ShardId, Timestamp, WorkerId,
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
}

impl Op {
    /// The shard and epoch it is written under; `None` for births, which need none: nothing older
    /// can conflict with a job that did not exist.
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
/// the owner found due), without a gate and without a lease row. The fence is
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

/// A live, unleased job as its owner needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveEntry {
    /// The job.
    pub job: JobId,
    /// Its queue.
    pub queue: String,
    /// What handles it.
    pub kind: String,
    /// `queued`, `scheduled`, `retrying`, `throttled` or `blocked`.
    pub state: JobState,
    /// 0 to 9, 9 first.
    pub priority: i16,
    /// Its place within the priority, and not before it.
    pub run_at: Timestamp,
}

/// What the owner and the worker need of a job whose lease was given.
#[derive(Debug, Clone)]
pub struct Granted {
    /// The job.
    pub job: JobId,
    /// Its fence.
    pub fence: Fence,
    /// The number of this attempt, from 1.
    pub attempt: i32,
    /// When the lease was given, on the store's clock.
    pub granted_at: Timestamp,
    /// The state it was granted from: `queued`, or a deferred one whose time had come.
    pub from: JobState,
    /// The newest `seq` of its timeline (that of `job.started`).
    pub seq: i64,
    /// What handles it.
    pub kind: String,
    /// Its queue.
    pub queue: String,
    /// Whose it is.
    pub tenant: String,
    /// What the handler gets.
    pub payload: RawJson,
    /// 0 to 9.
    pub priority: i16,
    /// Its `run_at`.
    pub run_at: Timestamp,
    /// Attempts it has.
    pub max_attempts: i32,
    /// How long the attempt may take, in seconds.
    pub timeout_seconds: i32,
    /// The version of the payload's shape.
    pub schema_version: i32,
    /// When it was made.
    pub created_at: Timestamp,
    /// Worker deaths under it so far.
    pub deaths: i32,
    /// Its own retry policy.
    pub retry: Option<RetryPolicy>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Free data of the submitter.
    pub metadata: Option<RawJson>,
    /// Free words.
    pub tags: Vec<String>,
    /// The results of the jobs it depended on, in the order of their ids; `None` for one that ended
    /// without.
    pub dependency_results: Vec<(JobId, Option<RawJson>)>,
}

/// What became of a made job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// It was written.
    Made {
        /// As its owner needs to know it.
        entry: LiveEntry,
        /// When, on the store's clock.
        created_at: Timestamp,
        /// Why it is blocked, when a dependency can no longer complete.
        blocked_reason: Option<String>,
    },
    /// Its key names this earlier job; nothing was written for it but that job's timeline row.
    Duplicate(JobId),
}

/// Why jobs were not made; nothing was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmitRefusal {
    /// A dependency does not exist (or is another tenant's, which is the same to the caller).
    UnknownDependency {
        /// The index of the job in the operation.
        index: usize,
        /// The dependency.
        dependency: JobId,
    },
    /// The key names an earlier job with another type, queue or payload.
    KeyMismatch {
        /// The index of the job in the operation.
        index: usize,
        /// The earlier job.
        job: JobId,
    },
}

/// What a cancel did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Canceled {
    /// It was waiting, or had failed, and is canceled.
    Done {
        /// The state it was in.
        from: JobState,
        /// Shards that got an inbox row for dependents: wake their owners.
        wakes: Vec<ShardId>,
    },
    /// It runs; the cancel is recorded and its worker must be told.
    Requested,
    /// It runs and was asked before; nothing was written.
    AlreadyRequested,
    /// It is `completed` or `canceled`; nothing was written.
    Conflict(JobState),
    /// There is no such job in this shard.
    NotFound,
}

/// What a retry did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retried {
    /// It is ready.
    Done {
        /// As its owner needs to know it.
        entry: LiveEntry,
        /// The state it was in.
        from: JobState,
        /// Shards that got an inbox row for dependents, which no longer wait for a failed job: wake their
        /// owners.
        wakes: Vec<ShardId>,
    },
    /// It was ready already; nothing was written.
    AlreadyQueued,
    /// It is in a state that cannot be retried; nothing was written.
    Conflict(JobState),
    /// There is no such job in this shard.
    NotFound,
}

/// What was in the inbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InboxTaken {
    /// Jobs made by others, as they are now (ended ones are left out).
    pub born: Vec<LiveEntry>,
    /// Jobs whose last dependency was met: `queued`, or `scheduled` when not yet due.
    pub unblocked: Vec<LiveEntry>,
    /// Jobs that stay blocked because a parent ended otherwise than they need, with the reason.
    pub stuck: Vec<(LiveEntry, String)>,
    /// Rows taken; fewer than the limit means that the inbox was empty.
    pub rows: i64,
}

/// The result of an operation, in the place of the operation.
#[derive(Debug, Clone)]
pub enum OpResult {
    /// [`Op::Submit`]: one for each job, in their order.
    Submitted(Vec<Submitted>),
    /// [`Op::Submit`]: refused as a whole.
    SubmitRefused(SubmitRefusal),
    /// [`Op::Grant`]: given.
    Granted(Box<Granted>),
    /// [`Op::Grant`]: the job is not ready as the owner believed. Reload, do not retry.
    NotReady,
    /// [`Op::End`]: ended.
    Ended(Ended),
    /// [`Op::End`]: no such lease. `recorded` is how the attempt with this fence ended, if it did:
    /// the same end again is acknowledged again, another one is a lost lease.
    Stale {
        /// How that attempt is recorded.
        recorded: Option<AttemptStatus>,
    },
    /// [`Op::Cancel`].
    Canceled(Canceled),
    /// [`Op::Retry`].
    Retried(Retried),
    /// [`Op::Inbox`].
    Inbox(InboxTaken),
    /// [`Op::Park`]: how many jobs were parked.
    Parked(i64),
    /// [`Op::Unpark`]: the jobs, as their owner needs to know them.
    Unparked(Vec<LiveEntry>),
    /// The store refused this operation alone; nothing was written for it.
    Refused(String),
    /// The shard is no longer owned under this epoch: nothing was written, step down.
    FenceLost(ShardId),
}

/// A lease that was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The state it left.
    pub state: JobState,
    /// When, on the store's clock.
    pub at: Timestamp,
    /// The newest `seq` of its timeline.
    pub seq: i64,
    /// As its owner needs to know it, when the job lives on.
    pub entry: Option<LiveEntry>,
    /// Shards that got an inbox row for dependents: wake their owners.
    pub wakes: Vec<ShardId>,
}
