//! What a queue is told, and by which way.

use tokio::sync::oneshot;

use super::core::{Interference, QueueOrder, Report, Said};
use crate::{
    actors::{
        journal::{Outcome, Reply},
        runtime::Door,
        worker::messages::SessionOp,
    },
    domain::{Fence, JobId, NewJob, SessionId, Timestamp},
    store::{
        ops::{LiveEntry, Requester},
        read::{ReadyKey, ReadyRow},
    },
};

/// Requests from outside; refused when their door is full.
#[derive(Debug)]
pub enum QueueRequest {
    /// Make a job.
    Submit {
        /// The job.
        job: Box<NewJob>,
        /// Who waits.
        reply: oneshot::Sender<Outcome>,
    },
    /// Do what an operator wants of a job.
    Interfere {
        /// The job.
        job: JobId,
        /// What.
        what: Interference,
        /// Who waits.
        reply: oneshot::Sender<Outcome>,
    },
    /// Change the queue's settings.
    Order {
        /// What.
        order: QueueOrder,
        /// Who asks.
        by: Requester,
        /// Who waits: answered when the queue has heard that it is written.
        reply: oneshot::Sender<Outcome>,
    },
    /// Cancel a job that a purge has found waiting.
    Purge {
        /// The job.
        job: JobId,
        /// Its priority and place, if it has one.
        place: Option<(i16, ReadyKey)>,
        /// Why.
        reason: String,
        /// Who waits.
        reply: oneshot::Sender<Outcome>,
    },
    /// Grant nothing as long as a purge lives.
    Hold {
        /// Its life.
        purge: std::sync::Weak<()>,
        /// Who waits: whether what was under way is over.
        reply: oneshot::Sender<bool>,
    },
    /// Where a ready job stands in line.
    Position {
        /// The job.
        job: JobId,
        /// Its priority.
        priority: i16,
        /// Since when it is ready.
        run_at: Timestamp,
        /// Who waits: 1 is the next; nothing when it is not known.
        reply: oneshot::Sender<Option<usize>>,
    },
}

/// How a job from the inbox comes to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It was made elsewhere.
    Born,
    /// Its last dependency was met.
    Unblocked,
}

/// What sessions, shards and supervisors tell; a door of its own, so that a flood of requests never keeps
/// a result or a credit out.
#[derive(Debug)]
pub enum QueueOp {
    /// A worker reports the end of an attempt.
    Report {
        /// Its session.
        session: SessionId,
        /// The job.
        job: JobId,
        /// The attempt's fence.
        fence: Fence,
        /// How it ended.
        report: Box<Report>,
        /// Who is told when it is written.
        reply: Reply,
    },
    /// A worker brings lines of a job's log.
    Log {
        /// The lines.
        said: Box<Said>,
        /// Who is told when they are written.
        reply: Reply,
    },
    /// A session lends no more slots, and wants back those that are not used.
    Recall(SessionId),
    /// A session lends slots.
    Credit {
        /// The session.
        session: SessionId,
        /// The memory of the queue that it lends to; another has no use for them.
        incarnation: u64,
        /// How many.
        count: usize,
    },
    /// A session renews its leases.
    Renew {
        /// The leases.
        jobs: Vec<(JobId, Fence)>,
        /// Where the lost ones are told.
        door: Door<SessionOp>,
    },
    /// A session serves the queue from now on.
    SessionUp(SessionId),
    /// A session has ended; its handlers are stopped unless `charged`.
    SessionDown {
        /// The session.
        session: SessionId,
        /// Whether its jobs' attempts are used up.
        charged: bool,
    },
    /// The session never got these jobs.
    Undelivered(Vec<(JobId, Fence)>),
    /// Jobs from the inbox.
    Arrived(Vec<(Arrival, LiveEntry)>),
    /// These jobs are past their `expiresAt`.
    Expired(Vec<JobId>),
    /// The actor of a lease ended unasked.
    LeaseDown {
        /// The job.
        job: JobId,
        /// The lease's fence.
        fence: Fence,
        /// Why.
        reason: String,
    },
    /// Stop giving leases: the node is stopping.
    StopGranting,
}

/// Control: what wakes a queue, and what its own readers bring.
#[derive(Debug)]
pub enum QueueMessage {
    /// Something waits at a door.
    Bell,
    /// Private: time has passed.
    Tick,
    /// Private: what the queue was loaded with, or why it cannot be; for this load alone.
    Loaded(u64, Result<Box<super::core::Loaded>, String>),
    /// Private: the counts were read, or not, while nothing was under way; `serial` tells whether that still holds.
    Counted {
        /// The load it belongs to.
        incarnation: u64,
        /// The number of ops sent before the reading.
        serial: u64,
        /// By state code; `None` when they could not be read.
        counts: Option<[i64; 9]>,
    },
    /// Private: a refill was read, or not.
    Refilled {
        /// The load it belongs to.
        incarnation: u64,
        /// The priority.
        priority: i16,
        /// Behind which key.
        after: Option<ReadyKey>,
        /// How many were asked for.
        limit: usize,
        /// What was read.
        rows: Option<Vec<ReadyRow>>,
    },
    /// Private: the near future was read, or not.
    DeferredLoaded {
        /// The load it belongs to.
        incarnation: u64,
        /// Up to when it is known.
        until: Timestamp,
        /// What was read.
        rows: Option<Vec<(i16, ReadyRow)>>,
    },
}
