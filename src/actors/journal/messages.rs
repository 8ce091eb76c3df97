//! What is written and where its answer goes.

use tokio::sync::oneshot;

use crate::{
    actors::{
        platform::AskError,
        runtime::{Door, DoorError},
        worker::messages::SessionOp,
    },
    domain::{Fence, JobId},
    store::{Op, OpResult},
};

/// How an op ended: its result, or why it was not written.
pub type Outcome = Result<OpResult, AskError>;

/// Who waits for an op.
#[derive(Debug)]
pub enum Reply {
    /// A request; it may have gone away.
    Caller(oneshot::Sender<Outcome>),
    /// A worker's session that reported the end of an attempt.
    Session {
        /// Its door.
        door: Door<SessionOp>,
        /// The job.
        job: JobId,
        /// The fence of the attempt.
        fence: Fence,
    },
    /// A worker's session that brought lines of a log.
    Log {
        /// Its door.
        door: Door<SessionOp>,
        /// The job.
        job: JobId,
        /// The fence of the attempt.
        fence: Fence,
        /// The number of the last line.
        through: i32,
    },
}

impl Reply {
    /// Answers.
    pub fn send(self, outcome: Outcome) {
        match self {
            Self::Caller(caller) => {
                // The caller may have gone: the change holds all the same.
                drop(caller.send(outcome));
            }
            Self::Session { door, job, fence } => {
                if let Err(DoorError::Full(_) | DoorError::Closed(_)) =
                    door.try_send(SessionOp::Ended { job, fence, outcome })
                {
                    // A session reserves room for every job it runs; one that is gone needs no answer.
                    tracing::debug!(job.id = %job, "no room for an acknowledgement at a session's door");
                }
            }
            Self::Log { door, job, fence, through } => {
                // Unheard, the session brings the lines again; they are kept once.
                drop(door.try_send(SessionOp::Logged { job, fence, through, outcome }));
            }
        }
    }
}

/// What an op of a queue was about: what its answer leaves out.
#[derive(Debug, Clone)]
pub enum OpKey {
    /// A job was to be made.
    Submit,
    /// A lease was to be given.
    Grant(JobId),
    /// A lease was to be ended.
    End(JobId),
    /// Lines of a log were to be kept.
    Log(JobId),
    /// What an operator wanted of a job was to be done.
    Interfere(JobId),
    /// Jobs were to be parked behind a gate.
    Park(String, Vec<JobId>),
    /// A gate was to be opened for some.
    Unpark(String),
    /// The queue's settings were to be changed: who waits, and what it is called.
    Settings(Option<u64>, &'static str),
}

impl OpKey {
    /// What it is, in a word: for crash points.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Grant(_) => "grant",
            Self::End(_) => "end",
            Self::Interfere(_) => "interfere",
            Self::Log(_) => "log",
            Self::Settings(..) => "settings",
            Self::Park(..) => "park",
            Self::Unpark(_) => "unpark",
        }
    }
}

/// An op's answer as its queue hears it.
#[derive(Debug)]
pub struct Applied {
    /// The incarnation of the queue that sent the op.
    pub incarnation: u64,
    /// What the op was about.
    pub key: OpKey,
    /// How it ended.
    pub outcome: Outcome,
    /// Who waits, when the op was not written for a passing reason and the queue will try it again.
    pub reply: Option<Reply>,
    /// The op was dropped without an answer: it may have been written.
    pub is_lost: bool,
}

/// Where an op's answer goes besides to its caller: the results door of its queue. Dropping it unanswered
/// tells the queue that the outcome is not known.
#[derive(Debug)]
pub struct QueueTicket {
    door: Door<Applied>,
    incarnation: u64,
    key: Option<OpKey>,
}

impl QueueTicket {
    /// A ticket for an op. The queue sees to it that its results door has room for every op under way.
    #[must_use]
    pub fn new(door: Door<Applied>, incarnation: u64, key: OpKey) -> Self {
        Self { door, incarnation, key: Some(key) }
    }

    fn deliver(mut self, outcome: Outcome, reply: Option<Reply>) {
        self.put(outcome, reply, false);
    }

    fn put(&mut self, outcome: Outcome, reply: Option<Reply>, is_lost: bool) {
        let Some(key) = self.key.take() else { return };
        let applied = Applied { incarnation: self.incarnation, key, outcome, reply, is_lost };
        if let Err(DoorError::Full(_)) = self.door.try_send(applied) {
            // Cannot be, by the reservation; if it is, the queue finds out at its next reload.
            tracing::error!("a queue's results door is full: an answer was dropped");
        }
    }
}

impl Drop for QueueTicket {
    fn drop(&mut self) {
        self.put(Err(AskError::TimedOut), None, true);
    }
}

/// An op on its way to the store.
#[derive(Debug)]
pub struct Entry {
    /// The op; `None` for a barrier, which is answered when everything before it is.
    pub op: Option<Op>,
    /// Who waits.
    pub reply: Option<Reply>,
    /// The queue that must know.
    pub ticket: Option<QueueTicket>,
    /// The caller of a barrier.
    pub barrier: Option<oneshot::Sender<()>>,
}

impl Entry {
    /// Answers everyone. On a passing failure the caller of a lease's end goes back to the queue, which
    /// tries it again; everyone else hears of it.
    pub(super) fn answer(self, outcome: Outcome) {
        let is_end = self.ticket.as_ref().is_some_and(|t| matches!(t.key, Some(OpKey::End(_))));
        let is_retried =
            is_end && matches!(&outcome, Err(AskError::Unavailable { .. } | AskError::Overloaded { .. }));
        match (self.ticket, self.reply) {
            (Some(ticket), reply) if is_retried => ticket.deliver(outcome, reply),
            (ticket, reply) => {
                // The reply first: a session that hears of an end after its queue could be given the job
                // anew before it has let go of it.
                if let Some(reply) = reply {
                    reply.send(outcome.clone());
                }
                if let Some(ticket) = ticket {
                    ticket.deliver(outcome, None);
                }
            }
        }
    }
}
