//! The face of a queue, and of all queues of a node.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;
use tokio::sync::oneshot;

use super::{
    actor::LeaseActors,
    core::Condition,
    messages::{QueueOp, QueueRequest},
    stats::Stats,
};
use crate::{
    actors::{
        journal::{Applied, Outcome},
        platform::AskError,
        runtime::{Door, DoorReceiver, door},
    },
    domain::{JobState, ShardId},
};

/// The most requests that wait at a queue: some hundred milliseconds' worth.
const REQUESTS_MAX: usize = 8_192;
/// The most ops of sessions and shards that wait: every slot of a large node at once.
const OPS_MAX: usize = 65_536;
/// The most submissions of one queue in the journal.
pub const SUBMITS_IN_JOURNAL_MAX: usize = 8_192;
/// Room for every answer that can be under way, and as many again for those of the load before.
const RESULTS_MAX: usize = 2 * (SUBMITS_IN_JOURNAL_MAX + super::core::IN_JOURNAL_MAX + 1_024);
/// How long a caller waits for its outcome.
pub const ASK_DEADLINE: Duration = Duration::from_secs(25);

/// A queue's counts as others may read them at any time.
#[derive(Debug, Default)]
pub struct QueueView {
    counts: [AtomicI64; 9],
    exec_total_micros: AtomicU64,
    exec_count: AtomicU64,
    in_journal: AtomicUsize,
    grants: AtomicBool,
    /// Written by the queue's actor, for the length of a few instructions.
    stats: Mutex<Stats>,
    condition: Mutex<Condition>,
    /// 0 when nothing runs.
    shortest_ttl_ms: AtomicU64,
}

impl QueueView {
    /// How many jobs are in each state, by the state's code.
    #[must_use]
    pub fn counts(&self) -> [i64; 9] {
        std::array::from_fn(|code| self.counts[code].load(Ordering::Relaxed))
    }

    /// How many jobs are in `state`.
    #[must_use]
    pub fn count(&self, state: JobState) -> i64 {
        self.counts()[usize::try_from(state.code()).unwrap_or(0)]
    }

    /// Whether it may still give leases, or has something under way that a stop must wait for.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.grants.load(Ordering::Acquire)
            || self.in_journal.load(Ordering::Acquire) > 0
            || self.count(JobState::Active) > 0
    }

    pub(super) fn publish_work(&self, in_journal: usize, grants: bool) {
        self.in_journal.store(in_journal, Ordering::Release);
        self.grants.store(grants, Ordering::Release);
    }

    pub(super) fn publish(&self, counts: &[i64; 9]) {
        for (shown, count) in self.counts.iter().zip(counts) {
            shown.store(*count, Ordering::Relaxed);
        }
    }

    /// The queue as operators see it: a tick old at most, and never older than an answered change.
    #[must_use]
    pub fn condition(&self) -> Condition {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The shortest time that a lease of the queue lasts without a renewal; whoever renews does so in time for it.
    #[must_use]
    pub fn shortest_ttl(&self) -> Option<Duration> {
        let ttl_ms = self.shortest_ttl_ms.load(Ordering::Relaxed);
        (ttl_ms > 0).then(|| Duration::from_millis(ttl_ms))
    }

    pub(super) fn publish_condition(&self, condition: Condition, shortest_ttl_ms: Option<u64>) {
        *self.condition.lock().unwrap_or_else(PoisonError::into_inner) = condition;
        self.shortest_ttl_ms.store(shortest_ttl_ms.unwrap_or(0), Ordering::Relaxed);
    }

    /// What it did within the last hour, from the slot `since` on; 0 for all of it.
    #[must_use]
    pub fn stats(&self, since: i64) -> Stats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).since(since)
    }

    pub(super) fn record(&self, record: impl FnOnce(&mut Stats)) {
        record(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn executed(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.exec_total_micros.fetch_add(micros, Ordering::Relaxed);
        self.exec_count.fetch_add(1, Ordering::Relaxed);
    }

    /// The sum of the execution times of attempts that ended, in microseconds, and how many.
    #[must_use]
    pub fn executions(&self) -> (u64, u64) {
        (self.exec_total_micros.load(Ordering::Relaxed), self.exec_count.load(Ordering::Relaxed))
    }
}

#[derive(Debug)]
struct Inner {
    name: Arc<str>,
    shard: ShardId,
    requests: Door<QueueRequest>,
    ops: Door<QueueOp>,
    results: Door<Applied>,
    view: QueueView,
    quarantine: Mutex<Option<String>>,
    doors: QueueDoors,
    lease_actors: Arc<LeaseActors>,
    incarnations: Arc<AtomicU64>,
    is_stopping: AtomicBool,
    expired_told: AtomicBool,
    is_count_doubted: AtomicBool,
}

/// Speaks to a queue, whichever incarnation of its actor runs.
#[derive(Debug, Clone)]
pub struct QueueHandle {
    inner: Arc<Inner>,
}

impl Eq for QueueHandle {}

impl PartialEq for QueueHandle {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

/// What a queue's actor takes from; the same for each incarnation.
#[derive(Debug, Clone)]
pub struct QueueDoors {
    /// Requests.
    pub requests: DoorReceiver<QueueRequest>,
    /// Ops of sessions and shards.
    pub ops: DoorReceiver<QueueOp>,
    /// Answers of the journal.
    pub results: DoorReceiver<Applied>,
}

impl QueueHandle {
    /// A queue's face, with all that outlives the incarnations of its actor.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let (requests, requests_out) = door(REQUESTS_MAX);
        let (ops, ops_out) = door(OPS_MAX);
        let (results, results_out) = door(RESULTS_MAX);
        let inner = Inner {
            name: name.into(),
            shard: ShardId::of_queue(name),
            requests,
            ops,
            results,
            view: QueueView::default(),
            quarantine: Mutex::new(None),
            doors: QueueDoors { requests: requests_out, ops: ops_out, results: results_out },
            lease_actors: Arc::default(),
            incarnations: Arc::default(),
            is_stopping: AtomicBool::new(false),
            expired_told: AtomicBool::new(false),
            is_count_doubted: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The actor's side of the doors.
    #[must_use]
    pub fn doors(&self) -> &QueueDoors {
        &self.inner.doors
    }

    /// The lease actors that run.
    #[must_use]
    pub fn lease_actors(&self) -> &Arc<LeaseActors> {
        &self.inner.lease_actors
    }

    /// Numbers the loads of the queue, over its incarnations.
    #[must_use]
    pub fn next_incarnation(&self) -> u64 {
        self.inner.incarnations.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The queue's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.inner.name
    }

    /// The shard it belongs to.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.inner.shard
    }

    /// Its counts.
    #[must_use]
    pub fn view(&self) -> &QueueView {
        &self.inner.view
    }

    /// Where the journal answers.
    #[must_use]
    pub fn results(&self) -> &Door<Applied> {
        &self.inner.results
    }

    /// The door that its probe watches.
    #[must_use]
    pub fn requests(&self) -> &Door<QueueRequest> {
        &self.inner.requests
    }

    /// Why it is quarantined, if it is.
    #[must_use]
    pub fn quarantine(&self) -> Option<String> {
        self.inner.quarantine.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Marks it as quarantined, or as well again.
    pub fn set_quarantine(&self, reason: Option<String>) {
        *self.inner.quarantine.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Whether it has taken what it was told of jobs past their `expiresAt`; from now on it has not.
    #[must_use]
    pub fn has_time_for_expired(&self) -> bool {
        !self.inner.expired_told.swap(true, Ordering::AcqRel)
    }

    /// It has taken what it was told of jobs past their `expiresAt`.
    pub(super) fn took_expired(&self) {
        self.inner.expired_told.store(false, Ordering::Release);
    }

    /// From now on it gives no leases, whichever memory it has: the node stops.
    pub fn stop_granting(&self) {
        self.inner.is_stopping.store(true, Ordering::Release);
        // Heard at the next tick at the latest.
        drop(self.try_tell(QueueOp::StopGranting));
    }

    /// Asks it to read its counts anew, soon.
    pub fn doubt_counts(&self) {
        self.inner.is_count_doubted.store(true, Ordering::Release);
    }

    pub(super) fn take_count_doubt(&self) -> bool {
        self.inner.is_count_doubted.swap(false, Ordering::AcqRel)
    }

    /// Whether the node stops.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.inner.is_stopping.load(Ordering::Acquire)
    }

    /// Tells it something; `false` if there is no room, which the teller must bear.
    #[must_use]
    pub fn tell(&self, op: QueueOp) -> bool {
        self.inner.ops.try_send(op).is_ok()
    }

    /// As [`tell`](Self::tell), with the op back when there is no room.
    ///
    /// # Errors
    /// The op.
    pub fn try_tell(&self, op: QueueOp) -> Result<(), QueueOp> {
        self.inner.ops.try_send(op).map_err(crate::actors::runtime::DoorError::into_op)
    }

    /// Asks it something and waits for the outcome.
    ///
    /// # Errors
    /// See [`AskError`]; after `TimedOut` the change may have happened.
    pub async fn ask(&self, request: impl FnOnce(oneshot::Sender<Outcome>) -> QueueRequest) -> Outcome {
        if let Some(reason) = self.quarantine() {
            return Err(AskError::Quarantined { queue: self.inner.name.to_string(), reason });
        }
        let (reply, answer) = oneshot::channel();
        if self.inner.requests.try_send(request(reply)).is_err() {
            crate::metrics::refused("queue");
            return Err(AskError::Overloaded { retry_after: Duration::from_secs(1) });
        }
        match tokio::time::timeout(ASK_DEADLINE, answer).await {
            Ok(Ok(outcome)) => outcome,
            // The queue dropped its memory with the request in it: it may have been written.
            Ok(Err(_)) | Err(_) => Err(AskError::TimedOut),
        }
    }
}

impl QueueHandle {
    /// Asks for something that only memory knows; `None` when the queue does not answer within `deadline`.
    pub async fn look<T>(
        &self,
        deadline: Duration,
        request: impl FnOnce(oneshot::Sender<T>) -> QueueRequest,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.inner.requests.try_send(request(reply)).ok()?;
        tokio::time::timeout(deadline, answer).await.ok()?.ok()
    }
}

/// All queues of a node by name.
#[derive(Debug, Default)]
pub struct Queues {
    by_name: DashMap<String, QueueHandle>,
}

impl Queues {
    /// The queue of this name, if it was started.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<QueueHandle> {
        self.by_name.get(name).map(|entry| entry.value().clone())
    }

    /// Adds a queue unless one of its name is there; whichever is there then.
    pub fn insert(&self, handle: QueueHandle) -> QueueHandle {
        self.by_name.entry(handle.name().to_string()).or_insert(handle).value().clone()
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<QueueHandle> {
        self.by_name.iter().map(|entry| entry.value().clone()).collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}
