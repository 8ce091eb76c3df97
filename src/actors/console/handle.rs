//! The face of the hub.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::{
    details::Details,
    messages::StreamEvent,
    state::{Found, Ring},
};
use crate::{
    actors::runtime::{Door, DoorReceiver, door},
    domain::BootId,
};

/// The most batches of events that wait at the hub's door.
const DOOR_MAX: usize = 4_096;
/// How often a reader without events hears that the stream lives.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// How many events a reader takes from the ring at once.
const READ_MAX: usize = 256;

/// What the hub's actor and its readers share; outlives the actor.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) boot: BootId,
    pub(super) ring: Ring,
    pub(super) newest: watch::Sender<u64>,
    readers: AtomicUsize,
    details: Details,
}

/// Tells the hub, and reads from it.
#[derive(Debug, Clone)]
pub struct HubHandle {
    pub(super) shared: Arc<Shared>,
    door: Door<Vec<StreamEvent>>,
}

/// A hub for the node's run `boot`, and what its actor takes its events from.
#[must_use]
pub fn hub(boot: BootId) -> (HubHandle, DoorReceiver<Vec<StreamEvent>>) {
    let (sender, receiver) = door(DOOR_MAX);
    let newest = watch::Sender::new(0);
    let (ring, readers, details) = (Ring::default(), AtomicUsize::new(0), Details::default());
    let shared = Shared { boot, ring, newest, readers, details };
    (HubHandle { shared: Arc::new(shared), door: sender }, receiver)
}

impl HubHandle {
    /// Tells of events. Never waits: what finds no room is dropped, counted, and shown as a gap.
    pub fn tell(&self, events: Vec<StreamEvent>) {
        if events.is_empty() {
            return;
        }
        if let Err(refused) = self.door.try_send(events) {
            crate::metrics::events_dropped(refused.into_op().len() as u64);
            self.shared.ring.note_gap();
        }
    }

    /// What the stream is called: the node's run.
    #[must_use]
    pub fn stream_id(&self) -> BootId {
        self.shared.boot
    }

    /// The newest event's number.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.shared.ring.newest()
    }

    pub(super) fn details(&self) -> &Details {
        &self.shared.details
    }

    /// How many read.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.shared.readers.load(Ordering::Relaxed)
    }

    /// The hub's door, for its probe.
    #[must_use]
    pub fn door(&self) -> &Door<Vec<StreamEvent>> {
        &self.door
    }

    /// Follows `topics` from behind `since`, or from now. A cursor of another run, or one that is too
    /// old, gets a [`StreamItem::Reset`] first.
    #[must_use]
    pub fn subscribe(&self, topics: Topics, since: Option<(BootId, u64)>) -> Subscription {
        let readers = self.shared.readers.fetch_add(1, Ordering::Relaxed) + 1;
        crate::metrics::stream_readers(readers);
        let (cursor, reset) = match since {
            Some((boot, seq)) if boot == self.shared.boot => (seq, false),
            Some(_) => (self.newest(), true),
            None => (self.newest(), false),
        };
        Subscription {
            shared: self.shared.clone(),
            newest: self.shared.newest.subscribe(),
            topics,
            cursor,
            pending: VecDeque::new(),
            reset_due: reset,
            heartbeat_at: Instant::now() + HEARTBEAT,
        }
    }
}

/// What a reader gets.
#[derive(Debug, Clone)]
pub enum StreamItem {
    /// An event.
    Event(Arc<StreamEvent>),
    /// What came before `newest` is not to be had: read the present state, then go on.
    Reset {
        /// Events go on behind this number.
        newest: u64,
    },
    /// The stream lives.
    Heartbeat {
        /// The newest event's number.
        newest: u64,
    },
    /// The node is stopping.
    Closed,
}

/// A reader's place in the stream.
#[derive(Debug)]
pub struct Subscription {
    shared: Arc<Shared>,
    newest: watch::Receiver<u64>,
    topics: Topics,
    cursor: u64,
    pending: VecDeque<Arc<StreamEvent>>,
    reset_due: bool,
    heartbeat_at: Instant,
}

impl Subscription {
    /// The next item. Cancel safe: an item that was not returned is not lost.
    pub async fn next(&mut self) -> StreamItem {
        loop {
            if self.reset_due {
                self.reset_due = false;
                return StreamItem::Reset { newest: self.cursor };
            }
            if let Some(event) = self.pending.pop_front() {
                return StreamItem::Event(event);
            }
            // Before the look, so that what comes after it wakes us.
            self.newest.borrow_and_update();
            match self.shared.ring.after(self.cursor, READ_MAX) {
                Found::Events(events) => {
                    self.cursor = events.last().map_or(self.cursor, |event| event.seq);
                    self.pending.extend(events.into_iter().filter(|event| self.topics.matches(event)));
                }
                Found::Missed(newest) => {
                    self.cursor = newest;
                    self.reset_due = true;
                }
                Found::Nothing => {
                    tokio::select! {
                        changed = self.newest.changed() => {
                            if changed.is_err() {
                                return StreamItem::Closed;
                            }
                        }
                        () = tokio::time::sleep_until(self.heartbeat_at) => {
                            self.heartbeat_at = Instant::now() + HEARTBEAT;
                            return StreamItem::Heartbeat { newest: self.cursor };
                        }
                    }
                }
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let readers = self.shared.readers.fetch_sub(1, Ordering::Relaxed).saturating_sub(1);
        crate::metrics::stream_readers(readers);
    }
}

/// The most topics of one reader: enough for a page of jobs.
const TOPICS_MAX: usize = 200;

/// What a reader wants to hear of; any one of its topics is enough.
#[derive(Debug, Clone, Default)]
pub struct Topics(Option<Vec<Topic>>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Topic {
    Job(String),
    Queue(String),
    Worker(String),
    Kind(String),
    KindPrefix(String),
}

impl Topics {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self(None)
    }

    /// From `job:{id},queue:{q},worker:{id},kind:job.failed,kind:worker.*`; everything when empty.
    ///
    /// # Errors
    /// The topic that is none of these, or that there are too many.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut topics = Vec::new();
        for topic in text.split(',').map(str::trim).filter(|topic| !topic.is_empty()) {
            let Some((scope, value)) = topic.split_once(':').filter(|(_, value)| !value.is_empty()) else {
                return Err(format!("topic {topic:?} is not of the form scope:value"));
            };
            topics.push(match (scope, value.strip_suffix(".*")) {
                ("job", _) => Topic::Job(value.to_ascii_lowercase()),
                ("queue", _) => Topic::Queue(value.to_owned()),
                ("worker", _) => Topic::Worker(value.to_owned()),
                ("kind", Some(prefix)) => Topic::KindPrefix(format!("{prefix}.")),
                ("kind", None) => Topic::Kind(value.to_owned()),
                _ => {
                    return Err(format!(
                        "unknown topic scope {scope:?}: job, queue, worker and kind are known"
                    ));
                }
            });
        }
        if topics.len() > TOPICS_MAX {
            return Err(format!("more than {TOPICS_MAX} topics"));
        }
        Ok(Self((!topics.is_empty()).then_some(topics)))
    }

    fn matches(&self, event: &StreamEvent) -> bool {
        let Some(topics) = &self.0 else { return true };
        topics.iter().any(|topic| match topic {
            Topic::Job(id) => event.job_id.is_some_and(|job| job.to_string() == *id),
            Topic::Queue(queue) => event.queue.as_deref() == Some(queue),
            Topic::Worker(worker) => event.worker_id.as_deref() == Some(worker),
            Topic::Kind(kind) => event.kind == *kind,
            Topic::KindPrefix(prefix) => event.kind.starts_with(prefix.as_str()),
        })
    }
}
