//! The in-process worker as an actor.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    core::Slots,
    messages::SessionOp,
    notes::AttemptNotes,
    registry::{Sessions, WorkerFacts},
    run::{assignment_of, report_of},
};
use crate::{
    actors::{
        console::{HubHandle, StreamEvent},
        journal::{Outcome, Reply},
        platform::AskError,
        queue::{
            core::Report,
            handle::{QueueHandle, Queues},
            messages::QueueOp,
        },
        runtime::{DRAIN_MAX, Door, DoorError, DoorReceiver, Probe},
    },
    domain::{Clock, Fence, JobId, SessionId, WorkerId},
    store::{OpResult, ops::AttemptError, ops::Granted},
    worker::{AttemptControl, AttemptReport, Registry, run_attempt},
};

/// How often a session looks after what it has: reports without an answer, handlers of lost leases.
const TICK: Duration = Duration::from_millis(250);
/// When a report without an answer is repeated: its queue dropped its memory. Repeats are safe, by the fence.
pub(super) const REPORT_AGAIN: Duration = Duration::from_secs(5);
/// How long a handler that timed out, or whose node stops, may take before it is aborted. One that is canceled has
/// a lease's time.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What the in-process worker is started with; the same for each incarnation.
#[derive(Clone)]
pub struct WorkerArgs {
    /// Its worker.
    pub worker: WorkerId,
    /// The queues it serves; `None`: all.
    pub queues_served: Option<HashSet<String>>,
    /// How many jobs it runs at once.
    pub concurrency: usize,
    /// What runs them.
    pub handlers: Arc<Registry>,
    /// The machine.
    pub hostname: Arc<str>,
    /// The node.
    pub node: Arc<str>,
    /// How long a lease lasts without a renewal, and a canceled handler may take to stop.
    pub lease_ttl: Duration,
    /// How often it renews its leases.
    pub heartbeat: Duration,
    /// The sessions of the node.
    pub sessions: Arc<Sessions>,
    /// The queues of the node.
    pub queues: Arc<Queues>,
    /// The streams.
    pub hub: HubHandle,
    /// The store's clock.
    pub clock: Arc<Clock>,
    /// Its door.
    pub door: Door<SessionOp>,
    /// Its side of the door.
    pub receiver: DoorReceiver<SessionOp>,
    /// Cancelled when running handlers must stop: the node's deadline is near.
    pub stop_handlers: CancellationToken,
    /// Counts.
    pub probe: Arc<Probe>,
}

impl std::fmt::Debug for WorkerArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerArgs").field("worker", &self.worker).finish_non_exhaustive()
    }
}

/// What the in-process worker is told.
#[derive(Debug)]
pub enum WorkerMessage {
    /// Something waits at the door.
    Bell,
    /// Private: time has passed.
    Tick,
}

/// The in-process worker's session.
#[derive(Debug)]
pub struct WorkerActor;

#[derive(Debug)]
pub(super) struct Running {
    pub(super) fence: Fence,
    pub(super) queue: QueueHandle,
    cancel: CancellationToken,
    /// Cancelled when its handler has only the short grace to stop.
    hurry: CancellationToken,
    started: Instant,
    task: Option<tokio::task::AbortHandle>,
    timeout: Duration,
    pub(super) notes: Arc<AttemptNotes>,
    /// What its handler's end is to be reported as, when its last lines are written.
    pub(super) ended: Option<Report>,
    /// What the handler's end was reported as, and when last.
    reported: Option<(Report, Instant)>,
}

/// A session's memory.
#[derive(Debug)]
pub struct WorkerState {
    pub(super) args: WorkerArgs,
    session: SessionId,
    facts: Arc<WorkerFacts>,
    slots: Slots<QueueKey>,
    pub(super) running: HashMap<JobId, Running>,
    renewed: Instant,
    /// The handlers: dropped, and with it stopped, when this incarnation ends.
    /// A task answers what found no room at the door.
    tasks: JoinSet<Option<Ended>>,
    task_jobs: HashMap<tokio::task::Id, (JobId, Fence)>,
}

/// A handler that has ended.
#[derive(Debug)]
struct Ended {
    job: JobId,
    fence: Fence,
    report: Box<AttemptReport>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct QueueKey(QueueHandle);

impl std::hash::Hash for QueueKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.name().hash(state);
    }
}

impl Actor for WorkerActor {
    type Msg = WorkerMessage;
    type State = WorkerState;
    type Arguments = WorkerArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let session = SessionId::new();
        args.probe.watch_door(&args.door);
        let facts = Arc::new(WorkerFacts {
            worker: args.worker.clone(),
            queues: args.queues_served.clone(),
            types: Some(args.handlers.types().into_iter().collect()),
            concurrency: args.concurrency,
            running: 0.into(),
            door: args.door.clone(),
            hostname: args.hostname.clone(),
            node: args.node.clone(),
            started_at: args.clock.now(),
            seen: args.clock.now().0.into(),
            control: args.sessions.control(&args.worker),
        });
        // What waited for the incarnation before is not for this one: its queues give those jobs back.
        let mut stale = Vec::new();
        while args.receiver.answer(DRAIN_MAX, &mut stale).taken > 0 {
            stale.clear();
        }
        let before = args.sessions.begin(session, facts.clone());
        for queue in args.queues.all() {
            if let Some(session) = before {
                // The handlers were dropped with the incarnation: nothing of theirs runs on.
                tell_queue(&queue, QueueOp::SessionDown { session, charged: false });
            }
            if facts.serves(queue.name()) {
                tell_queue(&queue, QueueOp::SessionUp(session));
            }
        }
        let mut event = StreamEvent::new("worker.started", args.clock.now());
        event.worker_id = Some(args.worker.to_string());
        args.hub.tell(vec![event]);
        let bell = myself.clone();
        args.receiver.attach(move || drop(bell.cast(WorkerMessage::Bell)));
        drop(myself.send_after(TICK, || WorkerMessage::Tick));
        let mut slots = Slots::new(args.concurrency);
        slots.set_lending(!facts.is_cordoned());
        Ok(WorkerState {
            slots,
            session,
            facts,
            running: HashMap::new(),
            renewed: Instant::now(),
            tasks: JoinSet::new(),
            task_jobs: HashMap::new(),
            args,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let probe = state.args.probe.clone();
        match message {
            WorkerMessage::Bell => {
                let mut timing = probe.time("Bell");
                let mut ops = Vec::new();
                timing.handled(state.args.receiver.answer(DRAIN_MAX, &mut ops).taken as u64);
                for op in ops {
                    state.take(op);
                }
                if state.facts.is_cordoned() {
                    state.steer();
                }
                state.lend();
            }
            WorkerMessage::Tick => {
                let _timing = probe.time("Tick");
                state.look_after();
                drop(myself.send_after(TICK, || WorkerMessage::Tick));
            }
        }
        state.reap();
        Ok(())
    }
}

impl WorkerState {
    fn take(&mut self, op: SessionOp) {
        match op {
            SessionOp::Announce(queue, incarnation) => self.slots.want(QueueKey(queue), incarnation),
            SessionOp::Anew(queue, incarnation) => self.slots.renew(&QueueKey(queue), incarnation),
            SessionOp::Assign { session, granted } if session == self.session => self.assign(*granted),
            // Leased to an incarnation that is gone: its queue has been told, and gives the job back.
            SessionOp::Assign { .. } => {}
            SessionOp::Logged { job, fence, through, outcome } => self.logged(job, fence, through, &outcome),
            SessionOp::Steered => self.steer(),
            SessionOp::Ended { job, fence, outcome } => self.ended(job, fence, &outcome),
            SessionOp::Cancel { job, fence } => {
                if let Some(running) = self.running.get(&job).filter(|running| running.fence == fence) {
                    self.tell_delivered(running);
                    running.cancel.cancel();
                }
            }
            SessionOp::Lost(jobs) => {
                for (job, fence) in jobs {
                    self.lost(job, fence);
                }
            }
            SessionOp::Returned(queue, incarnation, count) => {
                self.slots.returned(&QueueKey(queue), incarnation, count);
            }
            SessionOp::Reconcile { queue, jobs } => {
                let is_missing = |(job, fence): &(JobId, Fence)| {
                    self.running.get(job).is_none_or(|running| running.fence != *fence)
                };
                let missing: Vec<_> = jobs.into_iter().filter(is_missing).collect();
                if !missing.is_empty() {
                    let key = QueueKey(queue.clone());
                    self.slots.returned(&key, self.slots.incarnation(&key), missing.len());
                    tell_queue(&queue, QueueOp::Undelivered(missing));
                }
            }
            SessionOp::Done { job, fence, report } => self.done(Ended { job, fence, report }),
        }
    }

    fn done(&mut self, Ended { job, fence, report }: Ended) {
        let _ = crate::crash_point::pass("worker", "done");
        // Asked here, not at the last tick: a handler may obey sooner than that.
        let is_stopping = self.args.stop_handlers.is_cancelled();
        let Some(running) = self.running.get_mut(&job).filter(|running| running.fence == fence) else {
            return;
        };
        let report = report_of(*report, running.timeout, is_stopping);
        self.end(job, report);
    }

    /// A lease ended without our doing. A handler that was told to stop has had its time; another one has the short
    /// grace. Its slot is free at once, even when it blocks its thread and cannot be stopped.
    fn lost(&mut self, job: JobId, fence: Fence) {
        let Some(running) = self.running.get(&job).filter(|running| running.fence == fence) else { return };
        let was_told = running.cancel.is_cancelled() || running.started.elapsed() >= running.timeout;
        if let Some(task) = running.task.as_ref().filter(|_| was_told) {
            task.abort();
        }
        self.forget(job);
    }

    /// Looks after tasks that have ended: most have told so through the door; one that found no room there,
    /// or panicked outside of its handler, has its attempt ended here.
    fn reap(&mut self) {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            match ended {
                Ok((id, told)) => {
                    self.task_jobs.remove(&id);
                    if let Some(ended) = told {
                        self.done(ended);
                    }
                }
                Err(error) => {
                    let Some((job, fence)) = self.task_jobs.remove(&error.id()) else { continue };
                    if self.running.get(&job).is_some_and(|running| running.fence == fence) {
                        let error = AttemptError {
                            error_type: "panic".to_owned(),
                            message: error.to_string(),
                            stack_trace: None,
                        };
                        self.end(job, Report::Failed { error, retryable: true, retry_after_ms: None });
                    }
                }
            }
        }
    }

    fn assign(&mut self, granted: Granted) {
        let _ = crate::crash_point::pass("worker", "assign");
        let (job, fence) = (granted.job, granted.fence);
        let Some(queue) = self.args.queues.get(&granted.queue) else { return };
        self.slots.take(&QueueKey(queue.clone()));
        // Its lease ended without our hearing of it: the former handler must not run beside the new one.
        self.forget(job);
        // Its queue has put it there before it was handed over; without it the lease is over already.
        let facts = self.args.sessions.runs().get(job).filter(|facts| facts.fence == fence);
        let Some(facts) = facts else { return self.slots.give_back() };
        let cancel = self.args.stop_handlers.child_token();
        let timeout = Duration::from_secs(u64::try_from(granted.timeout_seconds).unwrap_or(300));
        let notes = Arc::new(AttemptNotes::new(facts, self.args.clock.clone()));
        let running = Running {
            fence,
            queue,
            cancel: cancel.clone(),
            hurry: self.args.stop_handlers.child_token(),
            started: Instant::now(),
            task: None,
            timeout,
            notes: notes.clone(),
            ended: None,
            reported: None,
        };
        let hurry = running.hurry.clone();
        self.running.insert(job, running);
        self.facts.running.store(self.running.len(), Ordering::Relaxed);
        let Some(assignment) = assignment_of(granted) else {
            let error = AttemptError {
                error_type: "invalid_payload".to_owned(),
                message: "the stored payload is not JSON".to_owned(),
                stack_trace: None,
            };
            self.report(job, Report::Failed { error, retryable: false, retry_after_ms: None });
            return;
        };
        let (handlers, door) = (self.args.handlers.clone(), self.args.door.clone());
        let mut control = AttemptControl::new(cancel, notes);
        control.grace = STOP_GRACE;
        control.cancel_grace = Some(self.args.lease_ttl);
        control.hurry = hurry;
        let task = self.tasks.spawn(async move {
            let report = Box::new(run_attempt(&handlers, assignment, control).await);
            // Without room at the door the task itself keeps it, and the next tick finds it.
            match door.try_send(SessionOp::Done { job, fence, report }).map_err(DoorError::into_op) {
                Err(SessionOp::Done { job, fence, report }) => Some(Ended { job, fence, report }),
                Ok(()) | Err(_) => None,
            }
        });
        self.task_jobs.insert(task.id(), (job, fence));
        if let Some(running) = self.running.get_mut(&job) {
            running.task = Some(task);
        }
    }

    pub(super) fn report(&mut self, job: JobId, report: Report) {
        let Some(running) = self.running.get_mut(&job) else { return };
        running.reported = Some((report.clone(), Instant::now()));
        let reply = Reply::Session { door: self.args.door.clone(), job, fence: running.fence };
        let (session, fence, report) = (self.session, running.fence, Box::new(report));
        // Without room it is repeated by the tick.
        drop(running.queue.try_tell(QueueOp::Report { session, job, fence, report, reply }));
    }

    fn ended(&mut self, job: JobId, fence: Fence, outcome: &Outcome) {
        let Some(running) = self.running.get(&job).filter(|running| running.fence == fence) else { return };
        match outcome {
            Ok(OpResult::Ended(_) | OpResult::Stale { .. } | OpResult::FenceLost(_)) => self.forget(job),
            Err(AskError::Refused(why)) if matches!(running.reported, Some((Report::Completed(_), _))) => {
                // What it made cannot be kept; that it failed can.
                let error = AttemptError {
                    error_type: "result_refused".to_owned(),
                    message: why.clone(),
                    stack_trace: None,
                };
                self.report(job, Report::Failed { error, retryable: false, retry_after_ms: None });
            }
            // Repeated by the tick.
            Ok(_) | Err(_) => {}
        }
    }

    fn forget(&mut self, job: JobId) {
        if let Some(running) = self.running.remove(&job) {
            running.cancel.cancel();
            running.hurry.cancel();
            self.slots.give_back();
            self.facts.running.store(self.running.len(), Ordering::Relaxed);
        }
    }

    fn lend(&mut self) {
        for (queue, count) in self.slots.lend() {
            let incarnation = self.slots.incarnation(&queue);
            if !queue.0.tell(QueueOp::Credit { session: self.session, incarnation, count }) {
                self.slots.returned(&queue, incarnation, count);
                self.slots.want(queue, incarnation);
            }
        }
    }

    fn look_after(&mut self) {
        self.facts.note_seen(self.args.clock.now());
        self.tell_all_notes();
        self.steer();
        let overdue: Vec<_> = self
            .running
            .iter()
            .filter_map(|(job, running)| Some((*job, running.reported.as_ref()?)))
            .filter(|(_, (_, at))| at.elapsed() >= REPORT_AGAIN)
            .map(|(job, (report, _))| (job, report.clone()))
            .collect();
        for (job, report) in overdue {
            self.report(job, report);
        }
        if self.renewed.elapsed() >= self.heartbeat() {
            self.renewed = Instant::now();
            self.renew();
        }
        self.lend();
    }

    /// How often leases are renewed: thrice within the shortest of them, whatever their queues' settings say.
    fn heartbeat(&self) -> Duration {
        let ttls = self.running.values().filter_map(|running| running.queue.view().shortest_ttl());
        ttls.min().map_or(self.args.heartbeat, |ttl| self.args.heartbeat.min(ttl / 3))
    }

    /// Does what operators want: who lends no more wants back what is not used.
    fn steer(&mut self) {
        if self.args.stop_handlers.is_cancelled() {
            self.slots.stop_lending();
            return;
        }
        self.slots.set_lending(!self.facts.is_cordoned());
        if !self.facts.is_cordoned() || self.slots.lent() == 0 {
            self.facts.control.note_obeyed();
        }
        if !self.facts.is_cordoned() {
            return;
        }
        for queue in self.slots.borrowers() {
            tell_queue(&queue.0, QueueOp::Recall(self.session));
        }
        if self.running.is_empty() && self.slots.lent() == 0 && self.facts.control.note_idle() {
            let mut event = StreamEvent::new("worker.drained", self.args.clock.now());
            event.worker_id = Some(self.args.worker.to_string());
            self.args.hub.tell(vec![event]);
        }
    }
}

pub(super) fn tell_queue(queue: &QueueHandle, op: QueueOp) {
    if !queue.tell(op) {
        // Each has a sweep behind it: leases run out, reconciling asks again.
        tracing::warn!(queue.name = %queue.name(), "no room at a queue's door");
    }
}
