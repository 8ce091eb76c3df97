//! What comes from workers, and what is to be done about it: plain data.

use crate::{
    domain::{Fence, JobId, JobState, SessionId, ShardEpoch, ShardId, Timestamp, WorkerId},
    store::{
        Op,
        ops::{
            AttemptError, CancelOp, EndKind, ForgetOp, Granted, JobPatch, LogLine, ParkOp, ReplayOp,
            ReplayPatch, Requester, RetryOp, UnparkOp, UpdateOp,
        },
        read::ReadyKey,
    },
};

/// What a worker says of its attempt.
#[derive(Debug, Clone)]
pub enum Report {
    /// It succeeded.
    Completed(Option<crate::domain::RawJson>),
    /// It failed.
    Failed {
        /// Why.
        error: AttemptError,
        /// Whether another attempt may succeed.
        retryable: bool,
        /// Not before this many milliseconds, if the worker knows.
        retry_after_ms: Option<i64>,
    },
    /// It gives the job back, for later if a delay is given.
    Released {
        /// Why, for the timeline.
        reason: String,
        /// For how long.
        after_ms: Option<i64>,
    },
    /// It stopped after a cancel.
    Canceled,
}

/// Lines of a job's log.
#[derive(Debug, Clone)]
pub struct Said {
    /// The job.
    pub job: JobId,
    /// The attempt's fence.
    pub fence: Fence,
    /// The number of the first line within the attempt, from 1.
    pub first: i32,
    /// The lines.
    pub lines: Vec<LogLine>,
}

/// What an operator wants of one job.
#[derive(Debug, Clone)]
pub enum Interference {
    /// Cancel it.
    Cancel {
        /// Why.
        reason: String,
        /// Only if it has never been leased.
        unstarted_only: bool,
        /// Who asks, if it is to be a row of the audit log.
        by: Option<Requester>,
    },
    /// Run it again now.
    Retry {
        /// As for a cancel.
        by: Option<Requester>,
    },
    /// Change it while it waits.
    Update {
        /// What.
        patch: Box<JobPatch>,
        /// Who asks.
        by: Requester,
    },
    /// Run it again from the dead letters.
    Replay {
        /// What is different.
        patch: Box<ReplayPatch>,
        /// Who asks.
        by: Requester,
    },
    /// Forget it.
    Forget {
        /// Only when it is a dead letter.
        dead_letter_only: bool,
        /// Who asks.
        by: Requester,
    },
}

impl Interference {
    /// The op that does it.
    #[must_use]
    pub fn into_op(self, owner: ShardEpoch, job: JobId) -> Op {
        match self {
            Self::Cancel { reason, unstarted_only, by } => {
                Op::Cancel(CancelOp { owner, job, reason, unstarted_only, by })
            }
            Self::Retry { by } => Op::Retry(RetryOp { owner, job, by }),
            Self::Update { patch, by } => Op::Update(UpdateOp { owner, job, patch: *patch, by }),
            Self::Replay { patch, by } => Op::Replay(ReplayOp { owner, job, patch: *patch, by }),
            Self::Forget { dead_letter_only, by } => {
                Op::Forget(ForgetOp { owner, job, dead_letter_only, by })
            }
        }
    }
}

/// What is to be written for a queue. `tag` names the waiting caller, if there is one.
#[derive(Debug)]
pub enum Write {
    /// Give a lease.
    Grant {
        /// The job.
        job: JobId,
        /// The least fence.
        floor: Fence,
        /// To whom.
        session: SessionId,
        /// Its worker.
        worker: WorkerId,
    },
    /// End a lease.
    End {
        /// The job.
        job: JobId,
        /// Its fence.
        fence: Fence,
        /// How.
        kind: EndKind,
    },
    /// Do what an operator wants of a job.
    Interfere {
        /// The job.
        job: JobId,
        /// What.
        what: Interference,
    },
    /// Keep lines of a log.
    Log(Said),
    /// Park jobs.
    Park(ParkOp),
    /// Release jobs from a gate.
    Unpark(UnparkOp),
    /// Change the queue's settings; what is `None` stays. Its caller is answered when the queue has heard.
    Settings {
        /// Whether dispatch is stopped.
        paused: Option<bool>,
        /// Whether submissions are refused.
        draining: Option<bool>,
        /// Settings as JSON.
        config: Option<String>,
        /// What it is called.
        action: &'static str,
        /// Who asks.
        by: Requester,
    },
}

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Effect {
    /// Write; the caller with this tag is answered by the journal itself.
    Write(Write, Option<u64>),
    /// Read on behind a key.
    Refill {
        /// The priority.
        priority: i16,
        /// Behind it.
        after: Option<ReadyKey>,
        /// At most so many.
        limit: usize,
    },
    /// Read what becomes due in `(after, until]`, at most so many for each priority as
    /// [`defer_load_max`](super::CoreConfig::defer_load_max) says.
    LoadDeferred {
        /// From, exclusive.
        after: Timestamp,
        /// To, inclusive.
        until: Timestamp,
    },
    /// A lease was given: start its actor, which hands the job over.
    Start(Box<Granted>, SessionId),
    /// A lease's actor ended unasked: start it again; the job was handed over already.
    Restart(JobId, Fence, SessionId),
    /// A lease has ended: stop its actor.
    Stop(JobId, Fence),
    /// A running job is to be canceled: tell its worker.
    TellCancel(JobId, Fence, SessionId),
    /// A lease has ended without its session's doing: tell it.
    TellLost(JobId, Fence, SessionId),
    /// The queue has work and no credit of this session.
    Announce(SessionId),
    /// Credits that are not needed.
    ReturnCredits(SessionId, usize),
    /// This caller is told by another answer.
    Forget(u64),
    /// Something happened to a job, for the streams.
    Told(Happened),
    /// Other shards have something in their inbox.
    Wake(Vec<ShardId>),
    /// Memory and store disagree: drop the memory and load anew.
    Reload(&'static str),
}

/// Something that happened to a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// The job.
    pub job: JobId,
    /// What.
    pub kind: crate::domain::EventKind,
    /// The state after it.
    pub state: JobState,
    /// Who ran it.
    pub worker: Option<WorkerId>,
}
