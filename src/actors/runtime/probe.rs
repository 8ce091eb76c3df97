//! What an actor shows of itself: a few atomics that its handler moves and the supervision tree reads.
//!
//! A probe belongs to the actor's place in the tree, not to one incarnation: counts and restarts survive a panic.
//! Only the actor itself records; readers may see one message counted and its time not yet, never more.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::door::Door;
use super::gauge::{LatencyLog, RateWindow};
use crate::domain::Clock;

type MailboxSupplier = Arc<dyn Fn() -> Mailbox + Send + Sync>;
type DetailSupplier = Arc<dyn Fn() -> Value + Send + Sync>;

/// How much waits for an actor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mailbox {
    /// Ops waiting now.
    pub depth: u64,
    /// The most that ever waited.
    pub high_water: u64,
}

/// When and why an actor was last started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastRestart {
    /// When its end was noticed.
    pub at: DateTime<Utc>,
    /// How it ended: `panicked: …`, `killed`, or the text of its error.
    pub reason: String,
}

/// What an actor has handled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Messages {
    /// Messages handled since the actor's place was made, over all restarts.
    pub handled: u64,
    /// Rate over about the last ten seconds.
    pub per_second: f64,
    /// Mean time a message took.
    pub mean_micros: f64,
    /// 99th percentile of recent messages, to a factor of two; 0 before the first.
    pub p99_micros: f64,
}

/// One actor's counters; shared between the actor and the directory.
pub struct Probe {
    kind: &'static str,
    name: Box<str>,
    created: Instant,
    started_at_millis: AtomicI64,
    handled: AtomicU64,
    busy_nanos: AtomicU64,
    rate: RateWindow,
    restarts: AtomicU32,
    last_message: Mutex<&'static str>,
    last_restart: Mutex<Option<Box<LastRestart>>>,
    latency: OnceLock<Box<LatencyLog>>,
    mailbox: Mutex<Option<MailboxSupplier>>,
    detail: Mutex<Option<DetailSupplier>>,
}

/// Measures one handler call; what it saw is recorded when it is dropped, also by a panic.
#[derive(Debug)]
#[must_use = "the time is taken when the guard is dropped"]
pub struct Timing<'a> {
    probe: &'a Probe,
    kind: &'static str,
    began: Instant,
    count: u64,
}

impl Timing<'_> {
    /// The call handled `count` messages, not one.
    pub fn handled(&mut self, count: u64) {
        self.count = count;
    }
}

impl Drop for Timing<'_> {
    fn drop(&mut self) {
        self.probe.record(self.kind, self.count, self.began.elapsed());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Probe {
    /// A probe for an actor of `kind` (`queue`, `lease`, …) called `name` among its siblings.
    pub fn new(kind: &'static str, name: impl Into<Box<str>>) -> Arc<Self> {
        Arc::new(Self {
            kind,
            name: name.into(),
            created: Instant::now(),
            started_at_millis: AtomicI64::new(Clock::local().to_datetime().timestamp_millis()),
            handled: AtomicU64::new(0),
            busy_nanos: AtomicU64::new(0),
            rate: RateWindow::default(),
            restarts: AtomicU32::new(0),
            last_message: Mutex::new(""),
            last_restart: Mutex::new(None),
            latency: OnceLock::new(),
            mailbox: Mutex::new(None),
            detail: Mutex::new(None),
        })
    }

    /// What sort of actor this is.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Its name among its siblings, as given (not escaped).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When the present incarnation was started.
    pub fn started_at(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.started_at_millis.load(Relaxed)).unwrap_or_default()
    }

    /// Shows the depth of `door`. Replaces an earlier supplier.
    pub fn watch_door<Op: Send + 'static>(&self, door: &Door<Op>) {
        let door = door.clone();
        self.watch_mailbox(move || Mailbox {
            depth: door.depth() as u64,
            high_water: door.high_water() as u64,
        });
    }

    /// Shows what `supplier` answers as the mailbox. It is called by whoever looks, so it must be quick.
    pub fn watch_mailbox(&self, supplier: impl Fn() -> Mailbox + Send + Sync + 'static) {
        *lock(&self.mailbox) = Some(Arc::new(supplier));
    }

    /// Shows what `supplier` answers as `detail`, for a lease its job. Same rule as for the mailbox.
    pub fn describe(&self, supplier: impl Fn() -> Value + Send + Sync + 'static) {
        *lock(&self.detail) = Some(Arc::new(supplier));
    }

    /// Begins measuring one handler call of message `kind`.
    pub fn time(&self, kind: &'static str) -> Timing<'_> {
        Timing { probe: self, kind, began: Instant::now(), count: 1 }
    }

    /// Counts `count` messages that took no time worth measuring.
    pub fn handled(&self, kind: &'static str, count: u64) {
        self.record(kind, count, Duration::ZERO);
    }

    fn record(&self, kind: &'static str, count: u64, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.handled.fetch_add(count, Relaxed);
        self.busy_nanos.fetch_add(nanos, Relaxed);
        self.rate.record(self.created.elapsed(), count);
        *lock(&self.last_message) = kind;
        if let Some(each) = nanos.checked_div(count) {
            // 160 bytes, for those alone that handle something: most leases are never told anything.
            self.latency.get_or_init(Box::default).record(each);
        }
    }

    /// The kind of the message handled last; empty before the first.
    pub fn last_message(&self) -> &'static str {
        *lock(&self.last_message)
    }

    /// How often the actor was started again.
    pub fn restarts(&self) -> u32 {
        self.restarts.load(Relaxed)
    }

    /// When and why it was last started again, or, while it is down, will be.
    pub fn last_restart(&self) -> Option<LastRestart> {
        lock(&self.last_restart).as_deref().cloned()
    }

    /// Notes that the actor ended for `reason`; the supervisor does, and who respawns leaves on its own.
    pub fn note_end(&self, reason: &str) {
        let note = LastRestart { at: Clock::local().to_datetime(), reason: reason.to_owned() };
        *lock(&self.last_restart) = Some(Box::new(note));
    }

    /// Notes that the actor is started again.
    pub fn note_restart(&self) {
        self.restarts.fetch_add(1, Relaxed);
    }

    /// Notes the start of an incarnation.
    pub fn note_start(&self) {
        self.started_at_millis.store(Clock::local().to_datetime().timestamp_millis(), Relaxed);
    }

    /// How much waits for the actor; zero where nothing was set to be watched.
    pub fn mailbox(&self) -> Mailbox {
        let supplier = lock(&self.mailbox).clone();
        supplier.map(|supplier| supplier()).unwrap_or_default()
    }

    /// What the actor says of itself.
    pub fn detail(&self) -> Option<Value> {
        let supplier = lock(&self.detail).clone();
        supplier.map(|supplier| supplier())
    }

    /// What the actor has handled.
    #[expect(clippy::cast_precision_loss, reason = "shown to people")]
    pub fn messages(&self) -> Messages {
        let handled = self.handled.load(Relaxed);
        let busy_micros = self.busy_nanos.load(Relaxed) as f64 / 1_000.0;
        Messages {
            handled,
            per_second: self.rate.per_second(self.created.elapsed()),
            mean_micros: if handled == 0 { 0.0 } else { busy_micros / handled as f64 },
            p99_micros: self.latency.get().map_or(0.0, |log| log.quantile_nanos(0.99) as f64 / 1_000.0),
        }
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("kind", &self.kind).field("name", &self.name).finish_non_exhaustive()
    }
}
