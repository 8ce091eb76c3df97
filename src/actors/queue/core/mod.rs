//! What a queue decides, without IO: ops and time come in, effects go out.
//!
//! ```text
//! submit ─▶ Journal(Submit) ─commit─▶ ready ─▶ window ─credit─▶ Journal(Grant) ─commit─▶ Start
//!                                     deferred ─due─▶ ┘                                    │
//!  window ◀─ entry ◀─ commit ◀─ Journal(End) ◀─ complete, fail, release, expiry ◀──────────┘
//! ```
//! A job has at most one op in the journal; what comes for it meanwhile waits here. The order of effects
//! is the order in which they are to be carried out.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use super::{
    leases::{Holder, Lease, LeaseTable},
    window::Window,
};
use crate::{
    domain::{Fence, JobId, JobState, RetryPolicy, SessionId, ShardEpoch, Timestamp, WorkerId},
    store::{
        ops::{
            AttemptError, Canceled, Changed, ChangedJob, EndKind, Ended, Granted, LiveEntry, ParkOp, Retried,
            UnparkOp,
        },
        read::{LeaseRow, ReadyKey, ReadyRow},
    },
};

/// How many entries are looked at past those whose workers are all busy, so that one type's backlog does
/// not hide another's idle workers.
const LOOKAHEAD_MAX: usize = 64;
/// Worker deaths under one job after which it is poison.
pub const DEATHS_MAX: i32 = 3;
/// How often a lease's actor may end unasked before its job is poison.
pub const ACTOR_FAILURES_MAX: u32 = 3;
/// The most ops of one queue in the journal: two full batches a lane. Bounds the results door.
pub const IN_JOURNAL_MAX: usize = 8_192;
/// The most types that are remembered by name; a queue has a handful.
const TYPES_MAX: usize = 1_024;
/// The most jobs parked or released from a gate by one op.
pub const PARK_MAX: usize = 500;

/// The two clocks, read together.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Milliseconds of this node's monotonic clock.
    pub mono_ms: u64,
    /// The store's clock.
    pub store: Timestamp,
}

/// A session that may take jobs of the queue.
#[derive(Debug, Clone)]
pub struct SessionInfo {
    /// Its worker.
    pub worker: WorkerId,
    /// The types it handles; `None`: any.
    pub types: Option<HashSet<String>>,
}

#[derive(Debug)]
struct Session {
    info: SessionInfo,
    credits: usize,
    /// The queue has said that it has work, and no credit has come since.
    announced: bool,
    unheard_ticks: u32,
}

/// After so many ticks without a credit an announcement is repeated: a second.
const ANNOUNCE_AGAIN_TICKS: u32 = 4;

impl Session {
    fn handles(&self, kind: &str) -> bool {
        self.info.types.as_ref().is_none_or(|types| types.contains(kind))
    }
}

#[derive(Debug)]
enum InJournal {
    Grant {
        session: SessionId,
        key: ReadyKey,
        priority: i16,
        kind: Arc<str>,
    },
    End {
        fence: Fence,
        kind: EndKind,
        /// Its session asked for it; another end it must be told of.
        is_reported: bool,
    },
    /// Lines of its log: what ends it comes behind them.
    Log,
    /// What an operator wants of it: the job keeps its place in memory until it is known what that did.
    Interference,
    /// It was taken out of memory to be put behind a gate.
    Park,
}

#[derive(Debug)]
enum Waiting {
    Report { session: SessionId, fence: Fence, report: Report, tag: Option<u64> },
    Interfere { what: Interference, tag: Option<u64> },
    SessionEnded { fence: Fence, charged: bool },
    Log { said: Said, tag: Option<u64> },
}

/// What the core was loaded with.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Whether dispatch is stopped.
    pub paused: bool,
    /// Whether submissions are refused.
    pub draining: bool,
    /// Settings as stored JSON.
    pub config: Option<String>,
    /// Since when the first of the jobs behind gates is ready.
    pub oldest_parked: Option<Timestamp>,
    /// Counts by state code, deferred jobs that are due counted as queued.
    pub counts: [i64; 9],
    /// The leases found.
    pub leases: Vec<LeaseRow>,
    /// The gates that hold jobs.
    pub gates: Vec<(String, i64)>,
}

/// Settings of a queue's core.
#[derive(Debug, Clone)]
pub struct CoreConfig {
    /// The queue.
    pub queue: String,
    /// The shard and epoch it is owned under.
    pub owner: ShardEpoch,
    /// The retry policy of jobs that have none.
    pub retry: RetryPolicy,
    /// How long a lease lasts without a renewal.
    pub lease_ttl_ms: u64,
    /// The most entries of a priority kept in memory: [`WINDOW_MAX`](super::window::WINDOW_MAX).
    pub window_max: usize,
    /// The most that one read of deferred jobs brings, for one priority: [`DEFER_LOAD_MAX`].
    pub defer_load_max: usize,
    /// The most deferred jobs kept in memory: [`DEFERRED_MAX`].
    pub deferred_max: usize,
}

/// A queue's decisions and its hot state.
#[derive(Debug)]
pub struct QueueCore {
    config: CoreConfig,
    windows: [Window; 10],
    deferred: BTreeMap<ReadyKey, (i16, Arc<str>, JobState)>,
    /// What becomes due up to here is in `deferred`; see [`near`].
    horizon: Option<Timestamp>,
    loading_deferred: Option<Timestamp>,
    /// When the near future is to be read on.
    load_at: Timestamp,
    /// Jobs that left while the near future was read: the reading may not have seen that.
    left_while_loading: HashSet<JobId>,
    leases: LeaseTable,
    sessions: HashMap<SessionId, Session>,
    in_journal: HashMap<JobId, InJournal>,
    bulk_in_journal: usize,
    /// Where the jobs that a purge is canceling were found.
    purging: HashMap<JobId, (i16, ReadyKey)>,
    waiting: HashMap<JobId, VecDeque<Waiting>>,
    /// Ends whose commit failed for a passing reason: tried again at the next tick.
    unended: Vec<JobId>,
    unended_ops: HashMap<JobId, (Fence, EndKind, Option<u64>)>,
    counts: [i64; 9],
    types: HashSet<Arc<str>>,
    gates: BTreeMap<String, i64>,
    opening: HashSet<String>,
    parking: HashMap<Arc<str>, Vec<(ReadyKey, i16)>>,
    /// Since when the first of the jobs behind gates is ready; no later, if that one has left.
    oldest_parked: Option<Timestamp>,
    is_count_doubtful: bool,
    control: Control,
    granting: bool,
    grants_in_journal: usize,
    grant_counter: u32,
    /// The store's clock, as it was told last.
    now: Timestamp,
    random: u64,
}

mod control;
mod dispatch;
mod effect;
mod ending;
mod expiry;
mod intake;
mod interfere;
mod near;
mod said;

pub use near::{DEFER_HORIZON_MS, DEFER_LOAD_MAX, DEFERRED_MAX, known_to};

use control::Control;
pub use control::{CHANGES_WAITING_MAX, Condition, QueueOrder};
pub use effect::{Effect, Happened, Interference, Report, Said, Write};

impl QueueCore {
    /// A core without memory; [`load`](Self::load) gives it some.
    #[must_use]
    pub fn new(config: CoreConfig, seed: u64) -> Self {
        Self {
            windows: std::array::from_fn(|_| Window::new(config.window_max)),
            config,
            deferred: BTreeMap::new(),
            horizon: None,
            loading_deferred: None,
            load_at: Timestamp(i64::MIN),
            left_while_loading: HashSet::new(),
            leases: LeaseTable::default(),
            sessions: HashMap::new(),
            in_journal: HashMap::new(),
            bulk_in_journal: 0,
            purging: HashMap::new(),
            waiting: HashMap::new(),
            unended: Vec::new(),
            unended_ops: HashMap::new(),
            counts: [0; 9],
            types: HashSet::new(),
            gates: BTreeMap::new(),
            opening: HashSet::new(),
            parking: HashMap::new(),
            oldest_parked: None,
            is_count_doubtful: false,
            control: Control::default(),
            granting: true,
            grants_in_journal: 0,
            grant_counter: 0,
            now: Timestamp(0),
            random: seed | 1,
        }
    }

    /// Takes in what was read of the queue. `holder` says what became of a lease's session: leases of a node
    /// that is gone are ended as lost, those of a session that ended here are given back uncharged.
    pub fn load(
        &mut self,
        loaded: Loaded,
        holder: impl Fn(&LeaseRow) -> Holder,
        now: Now,
        out: &mut Vec<Effect>,
    ) {
        self.control = Control::loaded(loaded.paused, loaded.draining, loaded.config.as_deref());
        self.oldest_parked = loaded.oldest_parked;
        self.counts = loaded.counts;
        self.gates = loaded.gates.into_iter().collect();
        for row in loaded.leases {
            // Settings may have prolonged it since it was given.
            let ttl_ms = u64::try_from(row.ttl_ms).unwrap_or(0).max(self.lease_ttl_ms());
            let (job, fence, session, holder) = (row.job, row.fence, row.session, holder(&row));
            let lease = Lease {
                fence,
                session,
                worker: row.worker,
                attempt: row.attempt,
                max_attempts: row.max_attempts,
                deaths: row.deaths,
                kind: row.kind,
                retry: row.retry,
                granted_at: row.granted_at,
                run_at: row.granted_at,
                ttl_ms,
                expires_ms: now.mono_ms.saturating_add(ttl_ms),
                renewed_ms: now.mono_ms,
                cancel_requested: row.cancel_requested,
                // When it was asked is not known by this clock: one TTL from here on is enough for its worker.
                cancel_by_ms: row.cancel_requested.then(|| now.mono_ms.saturating_add(ttl_ms)),
                timeout_by_ms: timeout_by(now, row.granted_at, row.timeout_seconds, ttl_ms),
                actor_failures: 0,
            };
            self.leases.insert(job, lease);
            match holder {
                Holder::Live => self.restart_actor(job, fence, out),
                Holder::Ended => self.give_back(job, fence, "session_ended", out),
                Holder::Gone => self.lose(job, fence, "its node ended while it ran", out),
            }
        }
        self.refill(out);
        self.load_deferred(now, out);
    }

    /// How many jobs are in each state, by the state's code.
    #[must_use]
    pub fn counts(&self) -> &[i64; 9] {
        &self.counts
    }

    /// Whether a job may have been counted twice or under a state it has left since the last question: how
    /// many wait for their time and how many are due is read anew when nothing is under way.
    pub fn take_count_doubt(&mut self) -> bool {
        std::mem::take(&mut self.is_count_doubtful)
    }

    /// The active jobs.
    #[must_use]
    pub fn leases(&self) -> &LeaseTable {
        &self.leases
    }

    /// The gates that hold jobs, with how many each holds.
    #[must_use]
    pub fn gates(&self) -> &BTreeMap<String, i64> {
        &self.gates
    }

    /// How many ops of the queue are in the journal.
    #[must_use]
    pub fn in_journal(&self) -> usize {
        self.in_journal.len() + self.bulk_in_journal
    }

    /// Stops or starts giving leases; what runs goes on.
    pub fn set_granting(&mut self, granting: bool, out: &mut Vec<Effect>) {
        self.granting = granting;
        if granting {
            self.dispatch(out);
        }
    }

    /// The time has come to `now`: deferred jobs become ready, leases run out, failed writes are repeated.
    pub fn tick(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.become_due(now);
        self.load_deferred(now, out);
        for (job, fence) in self.leases.tick(now.mono_ms) {
            // Looked at again in any case: what is under way may come to nothing, and so may the end itself.
            self.leases.postpone(job, fence, now.mono_ms + 1_000);
            if !self.is_busy(job) {
                self.run_out(job, fence, now, out);
            }
        }
        for job in std::mem::take(&mut self.unended) {
            if let Some((fence, kind, tag)) = self.unended_ops.remove(&job) {
                self.write_end(job, fence, kind, tag, out);
            }
        }
        self.refill(out);
        // The sweeps behind two wake-ups: a gate whose opening failed, an announcement that found no room.
        self.open_gates(out);
        for session in self.sessions.values_mut().filter(|session| session.announced) {
            session.unheard_ticks += 1;
            session.announced = session.unheard_ticks < ANNOUNCE_AGAIN_TICKS;
        }
        self.dispatch(out);
        self.return_credits(out);
        self.look_for_the_end_of_a_drain();
    }

    /// Tells the time, for what no tick has to do with.
    pub fn at(&mut self, now: Now) {
        self.now = now.store;
    }

    /// The time has come to `now`, for what becomes ready by it alone.
    pub fn pass(&mut self, now: Now) {
        self.become_due(now);
    }

    fn intern(types: &mut HashSet<Arc<str>>, kind: &str) -> Arc<str> {
        if let Some(known) = types.get(kind) {
            return known.clone();
        }
        if types.len() >= TYPES_MAX {
            types.retain(|known| Arc::strong_count(known) > 1);
        }
        let kind: Arc<str> = kind.into();
        types.insert(kind.clone());
        kind
    }

    /// Whether a job is on its way to a worker, with one, or on its way back: it has no place among those
    /// that wait, whatever a reading says.
    fn is_away(&self, job: JobId) -> bool {
        self.leases.get(job).is_some()
            || matches!(self.in_journal.get(&job), Some(InJournal::Grant { .. } | InJournal::Park))
    }

    /// Whether an op of the job is in the journal, or is to be tried again: the next one waits.
    fn is_busy(&self, job: JobId) -> bool {
        self.in_journal.contains_key(&job) || self.unended_ops.contains_key(&job)
    }

    fn count(&mut self, state: JobState, by: i64) {
        if let Some(count) = usize::try_from(state.code()).ok().and_then(|code| self.counts.get_mut(code)) {
            *count += by;
        }
    }

    fn window(&mut self, priority: i16) -> &mut Window {
        let index = usize::try_from(priority.clamp(0, 9)).unwrap_or(0);
        &mut self.windows[index]
    }

    /// A number in `0.0..1.0` (xorshift64*): good enough to spread retries, and repeatable in tests.
    fn random(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let bits = self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        bits as f64 / (1_u64 << 53) as f64
    }
}

/// When an attempt begun at `granted_at` that outlives its time-out is ended: one TTL after it.
fn timeout_by(now: Now, granted_at: Timestamp, timeout_seconds: i32, ttl_ms: u64) -> u64 {
    let timeout_ms = i64::from(timeout_seconds).saturating_mul(1_000);
    let left = timeout_ms.saturating_sub(now.store.millis_since(granted_at).max(0)).max(0);
    now.mono_ms.saturating_add(left.unsigned_abs()).saturating_add(ttl_ms)
}

#[cfg(test)]
mod tests;
