//! A supervisor's children and what it does about them.
//!
//! ```text
//! Waiting ── start ──> Up ── fails ──> Waiting (a pause) ─┐   too often: escalate, or Quarantined (a long pause)
//!    ^                  └─ told to stop ──> Stopping ──> gone, or (operator's restart) Waiting
//!    └────────────────────────────────────────────────────┘
//! ```
//! An end is matched to a child by actor id, so a late report of an earlier incarnation changes nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use ractor::{ActorCell, ActorId, ActorRef};
use tokio::time::timeout;
use tracing::warn;

use super::child::{AfterStop, Child, Escalated, Failure, Phase, StopReply};
use super::directory::{Directory, OPERATOR_RESTART, ReserveError, Slot};
use super::exit::{Exit, Panicked, in_words};
use super::node::Status;
use super::probe::Probe;
use super::restarts::RestartLog;
use super::shutdown::answer_all;
use super::spec::{ChildSpec, GiveUp, Restart, StartContext, Strategy, SupervisorSpec};
use super::supervisor::{StartReply, SupervisorArgs, SupervisorError, SupervisorMessage};

/// All children of one incarnation of a supervisor, in the order in which they were added.
pub(super) struct Family {
    pub(super) myself: ActorRef<SupervisorMessage>,
    pub(super) slot: Arc<Slot>,
    pub(super) directory: Arc<Directory>,
    pub(super) spec: SupervisorSpec,
    pub(super) children: BTreeMap<u64, Child>,
    pub(super) by_name: HashMap<String, u64>,
    pub(super) by_actor: HashMap<ActorId, u64>,
    /// Stopped by us; the report of their end is still to come.
    pub(super) dismissed: HashSet<ActorId>,
    pub(super) log: RestartLog,
}

impl Family {
    /// Starts the first children in order. An escalating child that fails ends the attempt, in reverse order.
    pub(super) async fn raise(
        myself: ActorRef<SupervisorMessage>,
        args: SupervisorArgs,
    ) -> Result<Self, SupervisorError> {
        let mut spec = args.spec;
        let first_children = std::mem::take(&mut spec.children);
        let mut family = Self {
            myself,
            slot: args.slot,
            directory: args.directory,
            spec,
            children: BTreeMap::new(),
            by_name: HashMap::new(),
            by_actor: HashMap::new(),
            dismissed: HashSet::new(),
            log: RestartLog::default(),
        };
        for spec in first_children {
            let (name, escalates) = (spec.name.clone(), matches!(spec.on_give_up, GiveUp::Escalate));
            let order = family.adopt(spec)?;
            let Some((failed, reason)) = family.start_from(order).await else { continue };
            let given_up = if escalates {
                Err(format!("\"{name}\": {reason}"))
            } else {
                family.failed((failed, reason)).await.map_err(|escalated| escalated.to_string())
            };
            if let Err(reason) = given_up {
                family.stop_all("a sibling did not start").await;
                return Err(SupervisorError::StartFailed(reason));
            }
        }
        Ok(family)
    }

    pub(super) fn probe(&self) -> Arc<Probe> {
        Arc::clone(&self.slot.probe)
    }

    /// Adds a child and starts it.
    pub(super) async fn add(&mut self, spec: ChildSpec, reply: Option<StartReply>) -> Result<(), Escalated> {
        let is_kept = reply.is_none() || !matches!(spec.on_give_up, GiveUp::Escalate);
        let (answer, failure) = match self.adopt(spec) {
            Err(error) => (Err(error), None),
            Ok(order) => {
                let failure = self.start_from(order).await;
                match (self.up(order), failure) {
                    (Some(cell), failure) => (Ok(cell), failure),
                    (None, None) => {
                        (Err(SupervisorError::StartFailed("waits for a sibling".to_owned())), None)
                    }
                    (None, Some((_, reason))) if !is_kept => {
                        self.remove(order);
                        (Err(SupervisorError::StartFailed(reason)), None)
                    }
                    (None, Some((failed, reason))) => {
                        (Err(SupervisorError::StartFailed(reason.clone())), Some((failed, reason)))
                    }
                }
            }
        };
        if let Some(reply) = reply {
            let _caller_gave_up = reply.send(answer);
        }
        match failure {
            Some(failure) => self.failed(failure).await,
            None => Ok(()),
        }
    }

    /// Tells a child to stop for good; `reply` is answered when it has ended.
    pub(super) fn stop_child(&mut self, name: &str, reply: StopReply) {
        let Some(order) = self.by_name.get(name).copied() else {
            let _caller_gave_up = reply.send(Err(SupervisorError::NotFound));
            return;
        };
        let Some(child) = self.children.get_mut(&order) else { return };
        match &mut child.phase {
            Phase::Stopping(_, AfterStop::Remove(replies)) => replies.push(reply),
            Phase::Stopping(_, after @ AfterStop::Restart) => *after = AfterStop::Remove(vec![reply]),
            Phase::Up(cell) => {
                let cell = cell.clone();
                self.begin_stop(order, cell, "supervisor stops it", AfterStop::Remove(vec![reply]));
            }
            Phase::Waiting | Phase::Quarantined => {
                self.remove(order);
                let _caller_gave_up = reply.send(Ok(()));
            }
        }
    }

    /// An operator's restart: forgives failures, and starts at once what is down.
    pub(super) async fn restart_child(&mut self, name: &str) -> Result<(), Escalated> {
        let Some(order) = self.by_name.get(name).copied() else {
            // A leaf: whoever spawned it is told of its end, and decides.
            if let Some(leaf) = self.slot.child(name).and_then(|slot| slot.cell()) {
                leaf.stop(Some(OPERATOR_RESTART.to_owned()));
            }
            return Ok(());
        };
        let Some(child) = self.children.get_mut(&order) else { return Ok(()) };
        match &child.phase {
            Phase::Stopping(..) => Ok(()),
            Phase::Up(cell) => {
                let cell = cell.clone();
                self.begin_stop(order, cell, OPERATOR_RESTART, AfterStop::Restart);
                Ok(())
            }
            Phase::Waiting | Phase::Quarantined => self.start_afresh(order).await,
        }
    }

    /// The pause after a failure is over, unless something else has happened to the child since.
    pub(super) async fn retry(&mut self, order: u64, incarnation: u64) -> Result<(), Escalated> {
        let is_due = self.children.get(&order).is_some_and(|child| {
            child.incarnation == incarnation && matches!(child.phase, Phase::Waiting | Phase::Quarantined)
        });
        if !is_due {
            return Ok(());
        }
        self.await_turn(order);
        match self.start_from(order).await {
            Some(failure) => self.failed(failure).await,
            None => Ok(()),
        }
    }

    /// Kills a child that was told to stop and has not.
    pub(super) fn kill_overdue(&mut self, order: u64, actor: ActorId) {
        if let Some(Child { phase: Phase::Stopping(cell, _), spec, .. }) = self.children.get(&order)
            && cell.get_id() == actor
        {
            warn!(child = spec.name, "child did not stop in time, killing it");
            cell.kill();
        }
    }

    /// A child, a leaf, or somebody dismissed has ended.
    pub(super) async fn exited(&mut self, cell: &ActorCell, exit: Exit) -> Result<(), Escalated> {
        let Some(order) = self.by_actor.remove(&cell.get_id()) else {
            if !self.dismissed.remove(&cell.get_id())
                && let Some(hook) = &self.spec.on_leaf_exit
            {
                hook(cell, &exit);
            }
            return Ok(());
        };
        let Some(child) = self.children.get_mut(&order) else { return Ok(()) };
        match (std::mem::replace(&mut child.phase, Phase::Waiting), exit) {
            (Phase::Stopping(_, AfterStop::Remove(replies)), _) => {
                self.remove(order);
                answer_all(replies);
                Ok(())
            }
            (Phase::Stopping(_, AfterStop::Restart), _) => self.start_afresh(order).await,
            (_, Exit::Normal(Some(reason))) if reason == OPERATOR_RESTART => self.start_afresh(order).await,
            (_, Exit::Normal(_)) if child.spec.restart != Restart::Permanent => {
                self.remove(order);
                Ok(())
            }
            (_, exit) => self.failed((order, exit.reason().to_owned())).await,
        }
    }

    fn adopt(&mut self, spec: ChildSpec) -> Result<u64, SupervisorError> {
        if let Some(order) = self.by_name.get(&spec.name) {
            return Err(SupervisorError::Exists(self.up(*order)));
        }
        let probe = Probe::new(spec.kind, spec.name.as_str());
        let slot =
            self.directory.reserve(&self.slot, self.myself.get_id(), probe).map_err(|error| match error {
                ReserveError::Taken(cell) => SupervisorError::Exists(cell),
                ReserveError::ParentGone => SupervisorError::NotRunning,
            })?;
        let order = slot.sequence;
        self.by_name.insert(spec.name.clone(), order);
        self.children.insert(order, Child::new(spec, slot));
        Ok(order)
    }

    pub(super) fn remove(&mut self, order: u64) {
        if let Some(child) = self.children.remove(&order) {
            self.by_name.remove(&child.spec.name);
            self.directory.release(&child.slot);
        }
    }

    fn up(&self, order: u64) -> Option<ActorCell> {
        match &self.children.get(&order)?.phase {
            Phase::Up(cell) => Some(cell.clone()),
            Phase::Waiting | Phase::Stopping(..) | Phase::Quarantined => None,
        }
    }

    fn is_rest_for_one(&self) -> bool {
        self.spec.strategy == Strategy::RestForOne
    }

    fn await_turn(&mut self, order: u64) {
        if let Some(child) = self.children.get_mut(&order) {
            child.phase = Phase::Waiting;
        }
    }

    async fn start_afresh(&mut self, order: u64) -> Result<(), Escalated> {
        self.clear_place(order).await;
        if let Some(child) = self.children.get_mut(&order) {
            child.forgive();
            child.last_failure = None;
            child.slot.probe.note_end(OPERATOR_RESTART);
        }
        if self.is_rest_for_one() {
            self.bring_down_after(order).await;
        }
        self.await_turn(order);
        match self.start_from(order).await {
            Some(failure) => self.failed(failure).await,
            None => Ok(()),
        }
    }

    /// Starts the child, and with rest_for_one those after it that wait; the first that fails ends it. Nothing is
    /// started while one that it stands on waits itself: that one's start brings it up.
    async fn start_from(&mut self, order: u64) -> Option<Failure> {
        let waits = |child: &Child| matches!(child.phase, Phase::Waiting);
        let mut due = vec![order];
        if self.is_rest_for_one() {
            if self.children.range(..order).any(|(_, child)| waits(child)) {
                return None;
            }
            due = self.children.range(order..).filter(|(_, child)| waits(child)).map(|(o, _)| *o).collect();
        }
        for order in due {
            if let Err(reason) = self.start_one(order).await {
                return Some((order, reason));
            }
        }
        None
    }

    async fn start_one(&mut self, order: u64) -> Result<(), String> {
        let Some(child) = self.children.get_mut(&order) else { return Ok(()) };
        if !matches!(child.phase, Phase::Waiting) {
            return Ok(());
        }
        child.incarnation += 1;
        child.since = Instant::now();
        child.slot.set_awaited(Status::Starting);
        if child.incarnation > 1 {
            child.slot.probe.note_restart();
            self.directory.restarted(&child.slot);
        }
        let context = StartContext {
            supervisor: self.myself.get_cell(),
            directory: Arc::clone(&self.directory),
            probe: Arc::clone(&child.slot.probe),
            incarnation: child.incarnation,
            last_failure: child.last_failure.clone(),
            slot: Arc::clone(&child.slot),
        };
        let start = Arc::clone(&child.spec.start);
        // The closure itself may panic, before there is a future.
        let starting = AssertUnwindSafe(async move { start(context).await }).catch_unwind();
        let cell = match timeout(child.spec.start_deadline, starting).await {
            Ok(Ok(Ok(cell))) => cell,
            Ok(Ok(Err(error))) => return Err(in_words(&*error)),
            Ok(Err(payload)) => return Err(Panicked::from_payload(&*payload).to_string()),
            Err(_) => return Err(format!("did not start within {:?}", child.spec.start_deadline)),
        };
        if cell.try_get_supervisor().is_none() {
            cell.link(self.myself.get_cell());
        }
        if child.slot.cell().is_none_or(|seated| seated != cell) {
            self.directory.occupy(&child.slot, &cell);
        }
        self.by_actor.insert(cell.get_id(), order);
        child.phase = Phase::Up(cell);
        Ok(())
    }

    /// Deals with a failure, and with those that dealing with it brings.
    async fn failed(&mut self, failure: Failure) -> Result<(), Escalated> {
        let mut next = Some(failure);
        while let Some((order, reason)) = next {
            next = self.deal_with(order, reason).await?;
        }
        Ok(())
    }

    async fn deal_with(&mut self, order: u64, reason: String) -> Result<Option<Failure>, Escalated> {
        self.clear_place(order).await;
        let Some(child) = self.children.get_mut(&order) else { return Ok(None) };
        warn!(supervisor = self.spec.name, child = child.spec.name, reason, "child failed");
        if child.spec.restart == Restart::Temporary {
            self.remove(order);
            return Ok(None);
        }
        child.phase = Phase::Waiting;
        child.slot.probe.note_end(&reason);
        child.last_failure = Some(reason.clone());
        if child.since.elapsed() > self.spec.intensity.window {
            child.forgive();
        }
        child.failures += 1;
        match &child.spec.on_give_up {
            GiveUp::Escalate => {
                if let Err(failures) = self.log.note(Instant::now(), &self.spec.intensity) {
                    let (child, window) = (child.spec.name.clone(), self.spec.intensity.window);
                    self.stop_all("a sibling failed too often").await;
                    return Err(Escalated { child, failures, window, reason });
                }
            }
            GiveUp::Quarantine { backoff, notify } => {
                let is_over = child.log.note(Instant::now(), &self.spec.intensity).is_err();
                if is_over || child.quarantines > 0 {
                    child.quarantines += 1;
                    child.phase = Phase::Quarantined;
                    self.directory.quarantine(&child.slot);
                    if let (1, Some(notify)) = (child.quarantines, notify) {
                        notify(&reason);
                    }
                    let pause = backoff.delay(child.quarantines, rand::random());
                    self.retry_after(order, pause);
                    // Those that stood on it go on without it.
                    return Ok(self.start_from(order).await);
                }
            }
        }
        let failures = child.failures;
        if self.is_rest_for_one() {
            self.bring_down_after(order).await;
        }
        if failures == 1 {
            return Ok(self.start_from(order).await);
        }
        self.retry_after(order, self.spec.backoff.delay(failures - 1, rand::random()));
        Ok(None)
    }

    fn retry_after(&self, order: u64, pause: Duration) {
        let Some(child) = self.children.get(&order) else { return };
        let incarnation = child.incarnation;
        self.myself.send_after(pause, move || SupervisorMessage::RetryTick { order, incarnation });
    }
}
