//! What a session is told.

use crate::{
    actors::{journal::Outcome, queue::handle::QueueHandle},
    domain::{Fence, JobId, SessionId},
    store::ops::Granted,
    worker::AttemptReport,
};

/// What comes through a session's door.
#[derive(Debug)]
pub enum SessionOp {
    /// A queue, by this incarnation, has work and no credit of this session.
    Announce(QueueHandle, u64),
    /// A queue has dropped its memory and loaded anew, as this incarnation: what it was lent is void.
    Anew(QueueHandle, u64),
    /// A job was leased to the session.
    Assign {
        /// The session it was leased to: one that is no longer gets its jobs taken back.
        session: SessionId,
        /// The job.
        granted: Box<Granted>,
    },
    /// The end that the session reported of an attempt was written, or was not.
    Ended {
        /// The job.
        job: JobId,
        /// The attempt's fence.
        fence: Fence,
        /// How the write ended.
        outcome: Outcome,
    },
    /// Lines of a job's log that the session brought were written, or were not.
    Logged {
        /// The job.
        job: JobId,
        /// The attempt's fence.
        fence: Fence,
        /// The number of the last of them within the attempt.
        through: i32,
        /// How the write ended.
        outcome: Outcome,
    },
    /// What an operator wants of the worker has changed.
    Steered,
    /// Stop a job.
    Cancel {
        /// The job.
        job: JobId,
        /// The attempt's fence.
        fence: Fence,
    },
    /// These leases are no longer the session's: stop their handlers, report nothing.
    Lost(Vec<(JobId, Fence)>),
    /// A queue, by this incarnation, gives so many credits back.
    Returned(QueueHandle, u64, usize),
    /// A queue asks which of these leases the session has.
    Reconcile {
        /// The queue.
        queue: QueueHandle,
        /// The leases that the queue believes the session has.
        jobs: Vec<(JobId, Fence)>,
    },
    /// A handler ended.
    Done {
        /// The job.
        job: JobId,
        /// The attempt's fence.
        fence: Fence,
        /// How.
        report: Box<AttemptReport>,
    },
}
