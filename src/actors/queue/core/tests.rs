//! The core against a model of the store that keeps the contract: any order of requests, commits, lost
//! commits, readings and time, with windows so small that refills, trims and overlays are the rule.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use uuid::Uuid;

use super::*;
use crate::domain::Epoch;

const WINDOW: usize = 10;
const TTL_MS: u64 = 30_000;

#[derive(Debug, Clone)]
struct Live {
    state: JobState,
    priority: i16,
    run_at: Timestamp,
    kind: String,
    gate: Option<String>,
    fence: Fence,
    attempt: i32,
    deaths: i32,
    lease: Option<(Fence, SessionId, bool)>,
}

/// What the transition sequence may do next.
#[derive(Debug, Clone)]
enum Step {
    Submit {
        priority: i16,
        delay_ms: i64,
        kind: u8,
    },
    Session {
        types: Option<Vec<u8>>,
    },
    SessionEnds {
        charged: bool,
    },
    Credit(usize),
    /// The store answers the `nth` write under way; or says that it cannot.
    Commit {
        nth: usize,
        fails: bool,
    },
    /// The store answers the `nth` reading under way; or says that it cannot.
    Read {
        nth: usize,
        fails: bool,
    },
    Report {
        nth: usize,
        how: u8,
    },
    Cancel {
        nth: usize,
    },
    Retry {
        nth: usize,
    },
    Time {
        ms: u64,
    },
    LeaseActorDies {
        nth: usize,
    },
}

#[derive(Debug)]
struct Random;

impl ReferenceStateMachine for Random {
    type State = ();
    type Transition = Step;

    fn init_state() -> BoxedStrategy<()> {
        Just(()).boxed()
    }

    fn transitions((): &()) -> BoxedStrategy<Step> {
        prop_oneof![
            12 => (0..3_i16, prop_oneof![4 => Just(0), 1 => 1..90_000_i64], 0..3_u8)
                .prop_map(|(priority, delay_ms, kind)| Step::Submit { priority, delay_ms, kind }),
            1 => prop::option::of(prop::collection::vec(0..3_u8, 1..3)).prop_map(|types| Step::Session { types }),
            1 => any::<bool>().prop_map(|charged| Step::SessionEnds { charged }),
            6 => (1..5_usize).prop_map(Step::Credit),
            16 => (any::<usize>(), prop::bool::weighted(0.1)).prop_map(|(nth, fails)| Step::Commit { nth, fails }),
            8 => (any::<usize>(), prop::bool::weighted(0.1)).prop_map(|(nth, fails)| Step::Read { nth, fails }),
            8 => (any::<usize>(), 0..6_u8).prop_map(|(nth, how)| Step::Report { nth, how }),
            1 => any::<usize>().prop_map(|nth| Step::Cancel { nth }),
            1 => any::<usize>().prop_map(|nth| Step::Retry { nth }),
            4 => prop_oneof![9 => 1..2_000_u64, 1 => 20_000..70_000_u64].prop_map(|ms| Step::Time { ms }),
            1 => any::<usize>().prop_map(|nth| Step::LeaseActorDies { nth }),
        ]
        .boxed()
    }

    fn apply((): (), _: &Step) {}
}

#[derive(Debug)]
enum Reading {
    Window { priority: i16, after: Option<ReadyKey>, limit: usize, rows: Vec<ReadyRow> },
    Deferred { until: Timestamp, rows: Vec<(i16, ReadyRow)> },
}

#[derive(Debug)]
struct Rig {
    core: QueueCore,
    now: Now,
    live: BTreeMap<JobId, Live>,
    ended: HashMap<JobId, (JobState, Fence)>,
    writes: Vec<Write>,
    readings: Vec<Reading>,
    sessions: HashSet<SessionId>,
    newest_session: Option<SessionId>,
    started: HashMap<JobId, Fence>,
    fences: HashMap<JobId, Fence>,
    made: usize,
    reloads: usize,
}

fn kind_name(kind: u8) -> String {
    format!("type-{kind}")
}

impl Rig {
    fn new() -> Self {
        let config = CoreConfig {
            queue: "q".into(),
            owner: ShardEpoch { shard: ShardId(1), epoch: Epoch(3) },
            retry: RetryPolicy::exponential(
                std::time::Duration::from_secs(1),
                std::time::Duration::from_secs(20),
            ),
            lease_ttl_ms: TTL_MS,
            window_max: WINDOW,
        };
        let mut rig = Self {
            core: QueueCore::new(config, 7),
            now: Now { mono_ms: 1_000, store: Timestamp(1_000_000_000) },
            live: BTreeMap::new(),
            ended: HashMap::new(),
            writes: Vec::new(),
            readings: Vec::new(),
            sessions: HashSet::new(),
            newest_session: None,
            started: HashMap::new(),
            fences: HashMap::new(),
            made: 0,
            reloads: 0,
        };
        rig.step(|core, now, out| core.load(Loaded::default(), |_| Holder::Gone, now, out));
        rig
    }

    fn step(&mut self, step: impl FnOnce(&mut QueueCore, Now, &mut Vec<Effect>)) {
        let mut out = Vec::new();
        step(&mut self.core, self.now, &mut out);
        for effect in out {
            self.take(effect);
        }
    }

    fn take(&mut self, effect: Effect) {
        match effect {
            Effect::Write(write, _) => {
                if let Write::Grant { job, .. } = &write {
                    self.check_order(*job);
                }
                self.writes.push(write);
            }
            // A reading sees the store as it is when it is made; its answer may come much later.
            Effect::Refill { priority, after, limit } => {
                let mut rows: Vec<ReadyRow> = self.ready(priority).filter(|r| Some(r.key) > after).collect();
                rows.sort_by_key(|row| row.key);
                rows.truncate(limit);
                self.readings.push(Reading::Window { priority, after, limit, rows });
            }
            Effect::LoadDeferred { after, until } => {
                let rows = self
                    .live
                    .iter()
                    .filter(|(_, live)| {
                        live.state.is_deferred() && live.lease.is_none() && live.gate.is_none()
                    })
                    .filter(|(_, live)| live.run_at > after && live.run_at <= until)
                    .map(|(job, live)| (live.priority, row(*job, live)))
                    .collect();
                self.readings.push(Reading::Deferred { until, rows });
            }
            Effect::Start(granted, session) => {
                if self.sessions.contains(&session) {
                    self.started.insert(granted.job, granted.fence);
                }
            }
            Effect::Stop(job, fence) => {
                if self.started.get(&job) == Some(&fence) {
                    self.started.remove(&job);
                }
            }
            Effect::Reload(why) => {
                self.reloads += 1;
                // Only the loss of a race between a reading and a write may do this; see `check`.
                panic!("memory and store disagree: {why}");
            }
            Effect::Restart(..)
            | Effect::TellCancel(..)
            | Effect::Announce(_)
            | Effect::ReturnCredits(..)
            | Effect::Told(_)
            | Effect::Wake(_) => {}
        }
    }

    fn ready(&self, priority: i16) -> impl Iterator<Item = ReadyRow> {
        self.live
            .iter()
            .filter(move |(_, live)| {
                live.priority == priority
                    && live.lease.is_none()
                    && live.gate.is_none()
                    && live.run_at <= self.now.store
            })
            .map(|(job, live)| row(*job, live))
    }

    /// What is granted is the first of its priority among those that its worker's type allows, and no
    /// job of a higher priority that somebody has room for is passed over.
    fn check_order(&self, granted: JobId) {
        let live = &self.live[&granted];
        let key = ReadyKey { run_at: live.run_at, job: granted };
        let index = usize::try_from(live.priority).expect("small");
        let before = self.core.windows[index].iter().any(|(other, kind)| {
            other < key && **kind == *live.kind && !self.core.in_journal.contains_key(&other.job)
        });
        assert!(!before, "{granted} was granted before another of its priority and type");
    }

    fn commit(&mut self, nth: usize, fails: bool) {
        if self.writes.is_empty() {
            return;
        }
        let write = self.writes.remove(nth % self.writes.len());
        match write {
            Write::Grant { job, floor, session, .. } => {
                if fails {
                    self.step(|core, _, out| core.grant_failed(job, out));
                    return;
                }
                let live = self.live.get_mut(&job).expect("a granted job is live");
                assert!(live.lease.is_none(), "{job} was granted while it was leased");
                assert!(live.gate.is_none(), "{job} was granted behind a gate");
                let fence = Fence::next(live.fence, floor);
                assert!(Some(&fence) > self.fences.get(&job), "fences grow");
                self.fences.insert(job, fence);
                live.lease = Some((fence, session, false));
                let granted = granted(job, live, fence, self.now.store);
                self.step(|core, now, out| core.granted(Box::new(granted), now, out));
            }
            Write::End { job, fence, kind } => {
                if fails {
                    self.step(|core, _, _| core.end_failed(job, None));
                    return;
                }
                let is_held = |live: &&mut Live| live.lease.is_some_and(|(held, ..)| held == fence);
                let Some(live) = self.live.get_mut(&job).filter(is_held) else {
                    self.step(|core, _, out| core.end_stale(job, out));
                    return;
                };
                let ended = end(job, live, fence, &kind, self.now.store);
                if ended.entry.is_none() {
                    let live = self.live.remove(&job).expect("was there");
                    self.ended.insert(job, (ended.state, live.fence));
                }
                self.step(|core, now, out| core.ended(job, ended, now, out));
            }
            Write::Cancel { job, .. } => {
                if fails {
                    self.step(|core, _, out| core.interference_failed(job, out));
                    return;
                }
                let done = match self.live.get_mut(&job) {
                    Some(Live { lease: Some((_, _, asked)), .. }) => {
                        if std::mem::replace(asked, true) {
                            Canceled::AlreadyRequested
                        } else {
                            Canceled::Requested
                        }
                    }
                    Some(live) => {
                        let (from, fence) = (live.state, live.fence);
                        self.live.remove(&job);
                        self.ended.insert(job, (JobState::Canceled, fence));
                        Canceled::Done { from, wakes: Vec::new() }
                    }
                    None => match self.ended.get_mut(&job) {
                        Some((state @ JobState::Failed, _)) => {
                            *state = JobState::Canceled;
                            Canceled::Done { from: JobState::Failed, wakes: Vec::new() }
                        }
                        Some((state, _)) => Canceled::Conflict(*state),
                        None => Canceled::NotFound,
                    },
                };
                self.step(|core, _, out| core.canceled(job, &done, out));
            }
            Write::Retry { job } => {
                if fails {
                    self.step(|core, _, out| core.interference_failed(job, out));
                    return;
                }
                let done = self.retry(job);
                self.step(|core, now, out| {
                    core.retried(job, done, now, out);
                    core.dispatch_now(out);
                });
            }
            Write::Park(op) => {
                // A failed park drops the memory, which this rig does not model.
                let mut count = 0;
                for job in &op.jobs {
                    if let Some(live) = self.live.get_mut(job).filter(|live| live.lease.is_none()) {
                        live.gate = Some(op.gate.clone());
                        count += 1;
                    }
                }
                self.step(|core, _, out| core.parked(&op.gate, &op.jobs, count, out));
            }
            Write::Unpark(op) => {
                let mut entries = Vec::new();
                for (job, live) in &mut self.live {
                    if live.gate.as_ref() == Some(&op.gate) && entries.len() < PARK_MAX {
                        live.gate = None;
                        entries.push(entry(*job, live));
                    }
                }
                self.step(|core, now, out| core.unparked(&op.gate, entries, now, out));
            }
        }
    }

    fn retry(&mut self, job: JobId) -> Retried {
        let now = self.now.store;
        if let Some(live) = self.live.get_mut(&job) {
            if live.lease.is_some() {
                return Retried::Conflict(JobState::Active);
            }
            if live.state == JobState::Queued || live.run_at <= now {
                return Retried::AlreadyQueued;
            }
            let from = live.state;
            (live.state, live.run_at, live.gate) = (JobState::Queued, now, None);
            return Retried::Done { entry: entry(job, live), from, wakes: Vec::new() };
        }
        match self.ended.get(&job) {
            Some((JobState::Failed, fence)) => {
                let live = Live {
                    state: JobState::Queued,
                    priority: 1,
                    run_at: now,
                    kind: kind_name(0),
                    gate: None,
                    fence: *fence,
                    attempt: 0,
                    deaths: 0,
                    lease: None,
                };
                let (from, wakes) = (JobState::Failed, Vec::new());
                let done = Retried::Done { entry: entry(job, &live), from, wakes };
                self.ended.remove(&job);
                self.live.insert(job, live);
                done
            }
            Some((state, _)) => Retried::Conflict(*state),
            None => Retried::NotFound,
        }
    }

    fn read(&mut self, nth: usize, fails: bool) {
        if self.readings.is_empty() {
            return;
        }
        let reading = self.readings.remove(nth % self.readings.len());
        self.step(|core, now, out| match reading {
            Reading::Window { priority, .. } if fails => core.refill_failed(priority),
            Reading::Window { priority, after, limit, rows } => {
                core.refilled(priority, after, limit, rows, out);
            }
            Reading::Deferred { .. } if fails => core.deferred_failed(),
            Reading::Deferred { until, rows } => core.deferred_loaded(rows, until, now, out),
        });
    }

    fn nth_started(&self, nth: usize) -> Option<(JobId, Fence)> {
        let mut started: Vec<_> = self.started.iter().map(|(job, fence)| (*job, *fence)).collect();
        started.sort_unstable();
        (!started.is_empty()).then(|| started[nth % started.len()])
    }

    fn nth_job(&self, nth: usize) -> Option<JobId> {
        let mut jobs: Vec<_> = self.live.keys().chain(self.ended.keys()).copied().collect();
        jobs.sort_unstable();
        (!jobs.is_empty()).then(|| jobs[nth % jobs.len()])
    }

    /// Everything that is ready is run to its end: nothing is lost, nothing is stuck, all is counted.
    fn drain(&mut self) {
        let session = SessionId::new();
        self.sessions.insert(session);
        let info = SessionInfo { worker: WorkerId("last".into()), types: None };
        self.step(|core, _, out| core.session_up(session, info, out));
        for _ in 0..600 {
            self.step(|core, _, out| core.credit(session, 50, out));
            while !self.writes.is_empty() {
                self.commit(0, false);
            }
            while !self.readings.is_empty() {
                self.read(0, false);
            }
            while let Some((job, fence)) = self.nth_started(0) {
                self.step(|core, _, out| {
                    core.report(session, job, fence, Report::Completed(None), None, out)
                });
                self.started.remove(&job);
                while !self.writes.is_empty() {
                    self.commit(0, false);
                }
            }
            self.pass(1_000);
            if self.live.is_empty() && self.writes.is_empty() {
                break;
            }
        }
        assert!(self.live.is_empty(), "stuck: {:?}", self.live);
        assert_eq!(self.ended.len(), self.made, "every job has ended");
        let mut counts = [0_i64; 9];
        for (state, _) in self.ended.values() {
            counts[usize::try_from(state.code()).expect("small")] += 1;
        }
        let total: i64 = self.core.counts().iter().sum();
        assert_eq!(usize::try_from(total), Ok(self.made), "no job is counted twice or not at all");
        assert_eq!(self.core.counts()[5..], counts[5..], "what runs and what has ended is counted exactly");
        if !self.core.take_count_doubt() {
            assert_eq!(*self.core.counts(), counts, "counters agree with the store");
        }
        assert!(self.core.leases.is_empty(), "no lease is left");
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.store = self.now.store.plus_millis(i64::try_from(ms).expect("small"));
        self.step(|core, now, out| core.tick(now, out));
    }
}

fn row(job: JobId, live: &Live) -> ReadyRow {
    let key = ReadyKey { run_at: live.run_at, job };
    ReadyRow { key, kind: live.kind.clone(), state: live.state }
}

fn entry(job: JobId, live: &Live) -> LiveEntry {
    let (queue, kind) = ("q".to_owned(), live.kind.clone());
    LiveEntry { job, queue, kind, state: live.state, priority: live.priority, run_at: live.run_at }
}

fn granted(job: JobId, live: &Live, fence: Fence, now: Timestamp) -> Granted {
    Granted {
        job,
        fence,
        attempt: live.attempt + 1,
        granted_at: now,
        from: live.state,
        seq: 2,
        kind: live.kind.clone(),
        queue: "q".into(),
        tenant: "default".into(),
        payload: crate::domain::RawJson::null(),
        priority: live.priority,
        run_at: live.run_at,
        max_attempts: 4,
        timeout_seconds: 300,
        schema_version: 1,
        created_at: now,
        deaths: live.deaths,
        retry: None,
        traceparent: None,
        metadata: None,
        tags: Vec::new(),
        dependency_results: Vec::new(),
    }
}

fn end(job: JobId, live: &mut Live, fence: Fence, kind: &EndKind, now: Timestamp) -> Ended {
    live.lease = None;
    live.fence = fence;
    live.state = kind.state();
    if kind.uses_attempt() {
        live.attempt += 1;
    }
    match kind {
        EndKind::Retry { delay_ms, .. } | EndKind::Snoozed { delay_ms } => {
            live.run_at = now.plus_millis(*delay_ms);
        }
        EndKind::Recovered { .. } => live.deaths += 1,
        _ => {}
    }
    let entry = (!live.state.is_terminal()).then(|| entry(job, live));
    Ended { state: live.state, at: now, seq: 3, entry, wakes: Vec::new() }
}

#[derive(Debug)]
struct CoreTest;

impl StateMachineTest for CoreTest {
    type SystemUnderTest = Rig;
    type Reference = Random;

    fn init_test((): &()) -> Rig {
        Rig::new()
    }

    fn apply(mut rig: Rig, (): &(), step: Step) -> Rig {
        match step {
            Step::Submit { priority, delay_ms, kind } => {
                rig.made += 1;
                // Ids in the order of time, as UUIDv7 are.
                let job = JobId(Uuid::from_u128(rig.made as u128));
                let live = Live {
                    state: if delay_ms > 0 { JobState::Scheduled } else { JobState::Queued },
                    priority,
                    run_at: rig.now.store.plus_millis(delay_ms),
                    kind: kind_name(kind),
                    gate: None,
                    fence: Fence(0),
                    attempt: 0,
                    deaths: 0,
                    lease: None,
                };
                let entry = entry(job, &live);
                rig.live.insert(job, live);
                rig.step(|core, now, out| {
                    core.made(entry, now, out);
                    core.dispatch_now(out);
                });
            }
            Step::Session { types } => {
                let id = SessionId::new();
                rig.sessions.insert(id);
                rig.newest_session = Some(id);
                let types = types.map(|types| types.into_iter().map(kind_name).collect());
                let info = SessionInfo { worker: WorkerId("w".into()), types };
                rig.step(|core, _, out| core.session_up(id, info, out));
            }
            Step::SessionEnds { charged } => {
                let Some(id) = rig.newest_session.take() else { return rig };
                rig.sessions.remove(&id);
                let held: Vec<JobId> = rig
                    .live
                    .iter()
                    .filter(|(_, live)| live.lease.is_some_and(|(_, session, _)| session == id))
                    .map(|(job, _)| *job)
                    .collect();
                for job in held {
                    rig.started.remove(&job);
                }
                rig.step(|core, _, out| core.session_down(id, charged, out));
            }
            Step::Credit(credits) => {
                if let Some(id) = rig.newest_session {
                    rig.step(|core, _, out| core.credit(id, credits, out));
                }
            }
            Step::Commit { nth, fails } => {
                let is_park =
                    rig.writes.iter().any(|write| matches!(write, Write::Park(_) | Write::Unpark(_)));
                rig.commit(nth, fails && !is_park);
            }
            Step::Read { nth, fails } => rig.read(nth, fails),
            Step::Report { nth, how } => {
                let Some((job, fence)) = rig.nth_started(nth) else { return rig };
                let Some((_, session, _)) = rig.live.get(&job).and_then(|live| live.lease) else {
                    return rig;
                };
                let error = AttemptError { error_type: "e".into(), message: "m".into(), stack_trace: None };
                let report = match how {
                    0 | 1 => Report::Completed(None),
                    2 => Report::Failed { error, retryable: true, retry_after_ms: None },
                    3 => Report::Failed { error, retryable: false, retry_after_ms: Some(5) },
                    4 => Report::Released { reason: "r".into(), after_ms: None },
                    _ => Report::Released { reason: "r".into(), after_ms: Some(500) },
                };
                rig.started.remove(&job);
                rig.step(|core, _, out| core.report(session, job, fence, report, None, out));
            }
            Step::Cancel { nth } => {
                let Some(job) = rig.nth_job(nth) else { return rig };
                rig.step(|core, _, out| core.cancel(job, "asked".into(), None, out));
            }
            Step::Retry { nth } => {
                let Some(job) = rig.nth_job(nth) else { return rig };
                rig.step(|core, _, out| core.retry(job, None, out));
            }
            Step::Time { ms } => rig.pass(ms),
            Step::LeaseActorDies { nth } => {
                let Some((job, fence)) = rig.nth_started(nth) else { return rig };
                rig.step(|core, _, out| core.actor_down(job, fence, "killed", out));
            }
        }
        rig
    }

    fn check_invariants(rig: &Rig, (): &()) {
        let leased = rig.live.values().filter(|live| live.lease.is_some()).count();
        assert!(rig.core.leases.len() >= leased.saturating_sub(rig.writes.len()));
        for window in &rig.core.windows {
            assert!(window.len() <= WINDOW + WINDOW / 4 + 1, "a window is bounded");
        }
        let mut jobs = HashSet::new();
        for write in &rig.writes {
            let job = match write {
                Write::Grant { job, .. }
                | Write::End { job, .. }
                | Write::Cancel { job, .. }
                | Write::Retry { job } => *job,
                Write::Park(_) | Write::Unpark(_) => continue,
            };
            assert!(jobs.insert(job), "{job} has two ops in the journal");
        }
    }

    fn teardown(mut rig: Rig, (): ()) {
        rig.drain();
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_events_loses_doubles_or_reorders_a_job(sequential 1..200 => CoreTest);
}
