//! What became of the operations of a batch.

use super::Changed;
use crate::domain::{AttemptStatus, Fence, JobId, JobState, RawJson, RetryPolicy, ShardId, Timestamp};

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
    /// Its key, or unique key, names this earlier job; nothing was written for it but that job's timeline row.
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
    /// Another job has the unique key, and the submission is not to be answered with it.
    NotUnique {
        /// The index of the job in the operation.
        index: usize,
        /// The other job.
        job: JobId,
    },
    /// The queue refuses submissions while it drains.
    Draining {
        /// The index of the job in the operation.
        index: usize,
        /// The queue.
        queue: String,
    },
    /// As many jobs wait in the queue as its settings allow.
    QueueFull {
        /// The index of the job in the operation.
        index: usize,
        /// The queue.
        queue: String,
        /// How many jobs may wait.
        max_depth: i64,
    },
}

impl SubmitRefusal {
    /// The index of the job that is at fault in the operation.
    #[must_use]
    pub fn index(&self) -> usize {
        match self {
            Self::UnknownDependency { index, .. }
            | Self::KeyMismatch { index, .. }
            | Self::NotUnique { index, .. }
            | Self::Draining { index, .. }
            | Self::QueueFull { index, .. } => *index,
        }
    }
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
    /// Shards that got rows for jobs that have moved there: wake their owners.
    pub wakes: Vec<ShardId>,
}

/// The result of an operation, in the place of the operation.
#[derive(Debug, Clone)]
pub enum OpResult {
    /// [`Op::Submit`](super::Op::Submit): one for each job, in their order.
    Submitted(Vec<Submitted>),
    /// [`Op::Submit`](super::Op::Submit): refused as a whole.
    SubmitRefused(SubmitRefusal),
    /// [`Op::Grant`](super::Op::Grant): given.
    Granted(Box<Granted>),
    /// [`Op::Grant`](super::Op::Grant): the job is not ready as the owner believed. Reload, do not retry.
    NotReady,
    /// [`Op::Grant`](super::Op::Grant): the job is past its `expiresAt` and has never been leased. It is to be canceled.
    Expired,
    /// [`Op::End`](super::Op::End): ended.
    Ended(Ended),
    /// [`Op::End`](super::Op::End): no such lease. `recorded` is how the attempt with this fence ended, if it did:
    /// the same end again is acknowledged again, another one is a lost lease.
    Stale {
        /// How that attempt is recorded.
        recorded: Option<AttemptStatus>,
    },
    /// [`Op::Cancel`](super::Op::Cancel).
    Canceled(Canceled),
    /// [`Op::Retry`](super::Op::Retry).
    Retried(Retried),
    /// [`Op::Inbox`](super::Op::Inbox).
    Inbox(InboxTaken),
    /// [`Op::Park`](super::Op::Park): how many jobs were parked.
    Parked(i64),
    /// [`Op::Unpark`](super::Op::Unpark): the jobs, as their owner needs to know them.
    Unparked(Vec<LiveEntry>),
    /// [`Op::Update`](super::Op::Update), [`Op::Replay`](super::Op::Replay), [`Op::Forget`](super::Op::Forget).
    Changed(Changed),
    /// [`Op::Settings`](super::Op::Settings): the queue's row as it is now.
    Configured(super::super::read::QueueRow),
    /// [`Op::Log`](super::Op::Log): the `seq` of the newest line of the job, which is the last of the op. Without such a lease
    /// the answer is [`Stale`](Self::Stale).
    Logged(i64),
    /// [`Op::Audit`](super::Op::Audit).
    Audited,
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
