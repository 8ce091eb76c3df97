//! The model of the store, and the core that runs against it.

use super::*;
use crate::store::{ops::Requester, read::QueueRow};

#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) state: JobState,
    pub(super) priority: i16,
    pub(super) run_at: Timestamp,
    pub(super) kind: String,
    pub(super) gate: Option<String>,
    pub(super) fence: Fence,
    pub(super) attempt: i32,
    pub(super) deaths: i32,
    pub(super) lease: Option<(Fence, SessionId, bool)>,
}

/// How much of the near future is read at once, and kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) load: usize,
    pub(super) deferred: usize,
}

#[derive(Debug)]
pub(super) enum Reading {
    Window { priority: i16, after: Option<ReadyKey>, limit: usize, rows: Vec<ReadyRow> },
    Deferred { until: Timestamp, rows: Vec<(i16, ReadyRow)> },
}

#[derive(Debug)]
pub(super) struct Rig {
    pub(super) core: QueueCore,
    pub(super) now: Now,
    pub(super) live: BTreeMap<JobId, Live>,
    pub(super) ended: HashMap<JobId, (JobState, Fence)>,
    pub(super) writes: Vec<Write>,
    pub(super) readings: Vec<Reading>,
    pub(super) sessions: HashSet<SessionId>,
    pub(super) newest_session: Option<SessionId>,
    pub(super) started: HashMap<JobId, Fence>,
    pub(super) fences: HashMap<JobId, Fence>,
    pub(super) made: usize,
    /// What went to another queue.
    pub(super) moved: BTreeMap<JobId, Live>,
    pub(super) forgotten: usize,
    pub(super) reloads: usize,
    /// The queue's row.
    pub(super) row: QueueRow,
    /// What sessions lent and have not got back, nor seen used.
    pub(super) returned: usize,
    pub(super) granted: Vec<JobId>,
}

pub(super) fn somebody() -> Requester {
    Requester { actor: "admin".into(), request_id: "r".into(), reason: None }
}

pub(super) fn kind_name(kind: u8) -> String {
    format!("type-{kind}")
}

impl Rig {
    pub(super) fn new(limits: Limits) -> Self {
        let config = CoreConfig {
            queue: "q".into(),
            owner: ShardEpoch { shard: crate::domain::ShardId(1), epoch: Epoch(3) },
            retry: RetryPolicy::exponential(
                std::time::Duration::from_secs(1),
                std::time::Duration::from_secs(20),
            ),
            lease_ttl_ms: TTL_MS,
            window_max: WINDOW,
            defer_load_max: limits.load,
            deferred_max: limits.deferred,
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
            moved: BTreeMap::new(),
            forgotten: 0,
            reloads: 0,
            row: QueueRow::default(),
            returned: 0,
            granted: Vec::new(),
        };
        rig.step(|core, now, out| core.load(Loaded::default(), |_| Holder::Gone, now, out));
        rig
    }

    pub(super) fn step(&mut self, step: impl FnOnce(&mut QueueCore, Now, &mut Vec<Effect>)) {
        let mut out = Vec::new();
        self.core.at(self.now);
        step(&mut self.core, self.now, &mut out);
        for effect in out {
            self.take(effect);
        }
    }

    pub(super) fn take(&mut self, effect: Effect) {
        match effect {
            Effect::Write(write, _) => {
                self.writes.push(write);
                match self.writes.last() {
                    Some(Write::Grant { job, .. }) => {
                        let job = *job;
                        self.granted.push(job);
                        self.check_order(job);
                        self.check_control();
                    }
                    Some(Write::Settings { action: "queue.drained", .. }) => self.check_drained(),
                    _ => {}
                }
            }
            // A reading sees the store as it is when it is made; its answer may come much later.
            Effect::Refill { priority, after, limit } => {
                let mut rows: Vec<ReadyRow> = self.ready(priority).filter(|r| Some(r.key) > after).collect();
                rows.sort_by_key(|row| row.key);
                rows.truncate(limit);
                self.readings.push(Reading::Window { priority, after, limit, rows });
            }
            Effect::LoadDeferred { after, until } => {
                let (until, rows) = self.near(after, until);
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
            Effect::ReturnCredits(_, count) => self.returned += count,
            Effect::Restart(..)
            | Effect::TellCancel(..)
            | Effect::TellLost(..)
            | Effect::Announce(_)
            | Effect::Forget(_)
            | Effect::Told(_)
            | Effect::Wake(_) => {}
        }
    }

    pub(super) fn ready(&self, priority: i16) -> impl Iterator<Item = ReadyRow> {
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

    /// The near future as `Source::deferred` reads it.
    fn near(&self, after: Timestamp, until: Timestamp) -> (Timestamp, Vec<(i16, ReadyRow)>) {
        let limit = self.core.config.defer_load_max;
        let (mut known, mut rows) = (until, Vec::new());
        for priority in 0..10_i16 {
            let mut read: Vec<ReadyRow> = self
                .live
                .iter()
                .filter(|(_, live)| live.priority == priority && live.lease.is_none() && live.gate.is_none())
                .filter(|(_, live)| live.run_at > after && live.run_at <= until)
                .map(|(job, live)| row(*job, live))
                .collect();
            read.sort_by_key(|row| row.key);
            read.truncate(limit);
            known = known.min(known_to(&read, limit, until));
            rows.extend(read.into_iter().map(|row| (priority, row)));
        }
        (known, rows)
    }

    /// Jobs are made that become due together.
    pub(super) fn submit(&mut self, count: usize, priority: i16, delay_ms: i64, kind: u8) {
        for _ in 0..count {
            self.made += 1;
            // Ids in the order of time, as UUIDv7 are.
            let job = JobId(Uuid::from_u128(self.made as u128));
            let live = Live {
                state: if delay_ms > 0 { JobState::Scheduled } else { JobState::Queued },
                priority,
                run_at: self.now.store.plus_millis(delay_ms),
                kind: kind_name(kind),
                gate: None,
                fence: Fence(0),
                attempt: 0,
                deaths: 0,
                lease: None,
            };
            let entry = entry(job, &live);
            self.live.insert(job, live);
            self.step(|core, now, out| {
                core.made(entry, now, out);
                core.dispatch_now(out);
            });
        }
    }

    pub(super) fn commit(&mut self, nth: usize, fails: bool) {
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
            // Whether it is kept or not: what comes behind it must get its turn.
            Write::Log(said) => self.step(|core, _, out| core.logged(said.job, out)),
            Write::Interfere { job, what: Interference::Cancel { .. } } => {
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
                self.step(|core, now, out| core.canceled(job, &done, now, out));
            }
            Write::Interfere { job, what: Interference::Retry { .. } } => {
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
            Write::Interfere { job, what } => {
                if fails {
                    self.step(|core, _, out| core.interference_failed(job, out));
                    return;
                }
                let done = self.change(job, what);
                self.step(|core, now, out| {
                    core.changed(job, done, now, out);
                    core.dispatch_now(out);
                });
            }
            Write::Settings { .. } if fails => self.step(|core, _, out| core.order_failed(out)),
            Write::Settings { paused, draining, config, .. } => self.configure(paused, draining, config),
            Write::Park(op) => {
                // A failed park drops the memory, which this rig does not model.
                let mut count = 0;
                for job in &op.jobs {
                    let waits = |live: &&mut Live| live.lease.is_none() && live.gate.is_none();
                    if let Some(live) = self.live.get_mut(job).filter(waits) {
                        // What was only shown as due is written as such.
                        if live.run_at <= self.now.store {
                            live.state = JobState::Queued;
                        }
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

    pub(super) fn read(&mut self, nth: usize, fails: bool) {
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

    pub(super) fn nth_started(&self, nth: usize) -> Option<(JobId, Fence)> {
        let mut started: Vec<_> = self.started.iter().map(|(job, fence)| (*job, *fence)).collect();
        started.sort_unstable();
        (!started.is_empty()).then(|| started[nth % started.len()])
    }

    pub(super) fn nth_job(&self, nth: usize) -> Option<JobId> {
        let mut jobs: Vec<_> = self.live.keys().chain(self.ended.keys()).copied().collect();
        jobs.sort_unstable();
        (!jobs.is_empty()).then(|| jobs[nth % jobs.len()])
    }

    /// Everything that is ready is run to its end: nothing is lost, nothing is stuck, all is counted.
    pub(super) fn drain(&mut self) {
        let session = SessionId::new();
        self.sessions.insert(session);
        self.resume();
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
        let gone = self.moved.len() + self.forgotten;
        assert_eq!(self.ended.len() + gone, self.made, "every job has ended");
        let mut counts = [0_i64; 9];
        for (state, _) in self.ended.values() {
            counts[usize::try_from(state.code()).expect("small")] += 1;
        }
        let total: i64 = self.core.counts().iter().sum();
        assert_eq!(usize::try_from(total), Ok(self.made - gone), "no job is counted twice or not at all");
        assert_eq!(self.core.counts()[5..], counts[5..], "what runs and what has ended is counted exactly");
        if !self.core.take_count_doubt() {
            assert_eq!(*self.core.counts(), counts, "counters agree with the store");
        }
        assert!(self.core.leases.is_empty(), "no lease is left");
    }

    pub(super) fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.store = self.now.store.plus_millis(i64::try_from(ms).expect("small"));
        self.step(|core, now, out| core.tick(now, out));
        self.recount();
    }
}

pub(super) fn row(job: JobId, live: &Live) -> ReadyRow {
    let key = ReadyKey { run_at: live.run_at, job };
    ReadyRow { key, kind: live.kind.clone(), state: live.state }
}

pub(super) fn entry(job: JobId, live: &Live) -> LiveEntry {
    let (queue, kind) = ("q".to_owned(), live.kind.clone());
    LiveEntry { job, queue, kind, state: live.state, priority: live.priority, run_at: live.run_at }
}

pub(super) fn granted(job: JobId, live: &Live, fence: Fence, now: Timestamp) -> Granted {
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

pub(super) fn end(job: JobId, live: &mut Live, fence: Fence, kind: &EndKind, now: Timestamp) -> Ended {
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
