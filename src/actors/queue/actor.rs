//! A queue as an actor: doors in, core, effects out. Nothing is awaited here.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use dashmap::DashMap;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use super::{
    core::{CoreConfig, Effect, Now, QueueCore},
    handle::QueueHandle,
    leases::Holder,
    load::Source,
    messages::QueueMessage,
    recount::Recount,
};
use crate::{
    actors::{
        console::{HubHandle, StreamEvent},
        journal::{JournalHandle, Reply},
        lease::LeaseMessage,
        runtime::{DRAIN_MAX, Directory, Probe},
        shard::ShardWaker,
        worker::{Sessions, messages::SessionOp},
    },
    domain::{BootId, Clock, Fence, JobId},
    store::{Store, read::LeaseRow},
};

/// How often a queue looks at its clock: the wheel's tick.
const TICK: Duration = Duration::from_millis(super::leases::TICK_MS);
/// How many supervisors share the lease actors of a queue: linking takes a lock each.
pub const LEASE_SUPERVISORS: usize = 4;

/// Which job a lease's actor holds, while nobody has asked it to stop.
pub type LeaseActors = DashMap<ActorId, (JobId, Fence)>;

/// What a queue's actor is started with; the same for each incarnation.
#[derive(Debug, Clone)]
pub struct QueueArgs {
    /// Its face.
    pub handle: QueueHandle,
    /// Settings.
    pub config: CoreConfig,
    /// What is read.
    pub store: Arc<dyn Store>,
    /// What is written.
    pub journal: JournalHandle,
    /// The store's clock.
    pub clock: Arc<Clock>,
    /// This run of the node.
    pub boot: BootId,
    /// The sessions that may take jobs.
    pub sessions: Arc<Sessions>,
    /// The streams.
    pub hub: HubHandle,
    /// The other shards.
    pub shards: ShardWaker,
}

/// A queue.
#[derive(Debug)]
pub struct QueueActor;

/// A queue's memory.
#[derive(Debug)]
pub struct QueueState {
    pub(super) args: QueueArgs,
    pub(super) probe: Arc<Probe>,
    pub(super) directory: Arc<Directory>,
    pub(super) supervisor: ractor::ActorCell,
    pub(super) myself: ActorRef<QueueMessage>,
    pub(super) core: QueueCore,
    /// The load that is in force; answers to ops of an earlier one are not for this memory.
    pub(super) incarnation: u64,
    pub(super) is_loaded: bool,
    pub(super) started: Instant,
    pub(super) replies: HashMap<u64, Reply>,
    pub(super) next_tag: u64,
    pub(super) submits_in_journal: usize,
    pub(super) lane: usize,
    pub(super) leases: HashMap<JobId, (Fence, ActorRef<LeaseMessage>)>,
    /// Leases that had no running actor at the last tick.
    pub(super) bare_leases: HashSet<JobId>,
    /// Why the lease's actor that is being started again ended.
    pub(super) lease_failure: Option<String>,
    /// The incarnations of the lease supervisors that were seen last.
    pub(super) lease_supervisors: [Option<ractor::ActorCell>; LEASE_SUPERVISORS],
    pub(super) told: Vec<StreamEvent>,
    /// Whether the queue was full when it was shown last: what explains a waiting job to people must not lag a tick behind.
    pub(super) was_full: bool,
    /// Ops sent to the journal so far.
    pub(super) serial: u64,
    /// Jobs came from elsewhere, which a load may have counted already: count when nothing is under way.
    pub(super) is_count_doubtful: bool,
    pub(super) recount: Recount,
    /// Readers: dropped, and with it stopped, when this incarnation ends.
    pub(super) tasks: JoinSet<()>,
}

impl Actor for QueueActor {
    type Msg = QueueMessage;
    type State = QueueState;
    type Arguments = (QueueArgs, Arc<Probe>, Arc<Directory>, ractor::ActorCell);

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        (args, probe, directory, supervisor): Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        probe.watch_door(args.handle.requests());
        let mut state = QueueState {
            core: QueueCore::new(args.config.clone(), 0),
            incarnation: 0,
            is_loaded: false,
            started: Instant::now(),
            replies: HashMap::new(),
            next_tag: 0,
            submits_in_journal: 0,
            lane: 0,
            leases: HashMap::new(),
            bare_leases: HashSet::new(),
            lease_failure: None,
            lease_supervisors: [const { None }; LEASE_SUPERVISORS],
            told: Vec::new(),
            was_full: false,
            serial: 0,
            is_count_doubtful: false,
            recount: Recount::default(),
            tasks: JoinSet::new(),
            args,
            probe,
            directory,
            supervisor,
            myself: myself.clone(),
        };
        state.adopt_lease_actors();
        state.start_load();
        let doors = state.args.handle.doors().clone();
        let bell = |myself: ActorRef<QueueMessage>| move || drop(myself.cast(QueueMessage::Bell));
        doors.results.attach(bell(myself.clone()));
        doors.ops.attach(bell(myself.clone()));
        doors.requests.attach(bell(myself.clone()));
        drop(myself.send_after(TICK, || QueueMessage::Tick));
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let probe = state.probe.clone();
        match message {
            QueueMessage::Bell => {
                let mut timing = probe.time("Bell");
                timing.handled(state.answer_doors() as u64);
            }
            QueueMessage::Tick => {
                let _timing = probe.time("Tick");
                if state.is_loaded {
                    if state.args.handle.is_stopping() {
                        state.step(|core, _now, out| core.set_granting(false, out));
                    }
                    if !state.is_quiet() {
                        state.tick_core();
                    }
                    state.revive_lease_actors();
                    state.recount();
                    state.publish();
                    state.publish_condition();
                }
                while let Some(ended) = state.tasks.try_join_next() {
                    // What it was to read never comes, and nothing but a new memory asks for it again.
                    ended.map_err(|error| format!("a read ended without an answer: {error}"))?;
                }
                // Re-armed last: a slow handler must not pile up ticks in the mailbox.
                drop(myself.send_after(TICK, || QueueMessage::Tick));
            }
            QueueMessage::Loaded(incarnation, loaded) => {
                let _timing = probe.time("Loaded");
                if incarnation == state.incarnation {
                    state.take_load(*loaded.map_err(|why| format!("cannot be loaded: {why}"))?);
                }
            }
            QueueMessage::Counted { incarnation, serial, counts } => {
                let _timing = probe.time("Counted");
                state.counted(incarnation, serial, counts);
            }
            QueueMessage::Refilled { incarnation, priority, after, limit, rows } => {
                let _timing = probe.time("Refilled");
                if incarnation == state.incarnation {
                    state.step(|core, _now, out| match rows {
                        Some(rows) => core.refilled(priority, after, limit, rows, out),
                        None => core.refill_failed(priority),
                    });
                }
            }
            QueueMessage::DeferredLoaded { incarnation, until, rows } => {
                let _timing = probe.time("DeferredLoaded");
                if incarnation == state.incarnation {
                    state.step(|core, now, out| match rows {
                        Some(rows) => core.deferred_loaded(rows, until, now, out),
                        None => core.deferred_failed(),
                    });
                }
            }
        }
        Ok(())
    }
}

impl QueueState {
    pub(super) fn now(&self) -> Now {
        let mono_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { mono_ms, store: self.args.clock.now() }
    }

    /// One step of the core, and its effects.
    pub(super) fn step(&mut self, step: impl FnOnce(&mut QueueCore, Now, &mut Vec<Effect>)) {
        let now = self.now();
        let mut effects = Vec::new();
        self.core.at(now);
        step(&mut self.core, now, &mut effects);
        self.carry_out(effects);
    }

    /// Drops the memory and reads it anew; doors wait meanwhile.
    pub(super) fn start_load(&mut self) {
        self.incarnation = self.args.handle.next_incarnation();
        self.is_loaded = false;
        self.core = QueueCore::new(self.args.config.clone(), u64::from(rand::random::<u32>()));
        // Whoever waits for an op that was never written hears nothing of it, and asks again: requests
        // time out, sessions repeat their reports.
        self.replies.clear();
        self.submits_in_journal = 0;
        self.recount = Recount::default();
        let (incarnation, source, myself) = (self.incarnation, self.source(), self.myself.clone());
        self.tasks.spawn(async move {
            let loaded = source.load().await;
            drop(myself.cast(QueueMessage::Loaded(incarnation, loaded)));
        });
    }

    fn take_load(&mut self, loaded: super::core::Loaded) {
        let (sessions, boot) = (self.args.sessions.clone(), self.args.boot);
        let holder = |row: &LeaseRow| match sessions.get(row.session) {
            Some(_) => Holder::Live,
            // The worker's actor was restarted while this queue was down, so nobody told it.
            None if row.boot == boot => Holder::Ended,
            None => Holder::Gone,
        };
        self.step(|core, now, out| core.load(loaded, holder, now, out));
        self.is_loaded = true;
        self.args.handle.set_quarantine(None);
        if self.args.handle.is_stopping() {
            self.step(|core, _now, out| core.set_granting(false, out));
        }
        let name = self.args.handle.name().clone();
        for (id, facts) in self.args.sessions.serving(&name) {
            // What the session lent to an earlier memory is void; told before anything new is asked for.
            let anew = SessionOp::Anew(self.args.handle.clone(), self.incarnation);
            if facts.door.try_send(anew).is_err() {
                tracing::warn!(queue.name = %name, "a session did not hear of a new memory; the announcement says so");
            }
            self.reconcile(id);
            self.step(|core, _now, out| core.session_up(id, facts.info(), out));
        }
        self.stop_strays();
        self.publish_condition();
        // What waited at the doors meanwhile; the bell was answered, and not rung since.
        self.answer_doors();
    }

    pub(super) fn source(&self) -> Source {
        Source {
            store: self.args.store.clone(),
            journal: self.args.journal.clone(),
            clock: self.args.clock.clone(),
            shard: self.args.handle.shard(),
            queue: self.args.handle.name().clone(),
            defer_load_max: self.args.config.defer_load_max,
        }
    }

    /// Takes what waits at the doors: answers first, they make room; then what sessions say; then
    /// requests. Returns how many.
    pub(super) fn answer_doors(&mut self) -> usize {
        let mut results = Vec::new();
        self.args.handle.doors().results.answer(DRAIN_MAX, &mut results);
        let mut taken = results.len();
        self.lane = self.args.journal.idlest();
        for applied in results {
            self.take_result(applied);
        }
        if self.is_quiet() {
            self.read_counts();
        }
        if self.is_loaded && !self.is_quiet() {
            let mut ops = Vec::new();
            taken += self.args.handle.doors().ops.answer(DRAIN_MAX, &mut ops).taken;
            for op in ops {
                self.take_op(op);
            }
        }
        if self.is_loaded && !self.is_quiet() {
            let mut requests = Vec::new();
            taken += self.args.handle.doors().requests.answer(DRAIN_MAX, &mut requests).taken;
            for request in requests {
                self.take_request(request);
            }
        }
        self.publish();
        taken
    }

    pub(super) fn publish(&mut self) {
        let view = self.args.handle.view();
        view.publish(self.core.counts());
        view.publish_work(
            self.core.in_journal() + self.submits_in_journal,
            self.is_loaded && self.core.is_granting_at_all(),
        );
        self.args.hub.tell(std::mem::take(&mut self.told));
        if self.is_loaded && std::mem::replace(&mut self.was_full, self.core.is_full()) != self.core.is_full()
        {
            self.publish_condition();
        }
    }

    /// What need not be newer than a tick.
    pub(super) fn publish_condition(&self) {
        let ttl_ms = self.core.leases().shortest_ttl_ms();
        self.args.handle.view().publish_condition(self.core.condition(), ttl_ms);
    }
}
