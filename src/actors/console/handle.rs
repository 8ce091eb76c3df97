//! The face of the hub.

use std::{
    borrow::Cow,
    collections::BTreeMap,
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
    state::{Chunk, Found, Ring, Told},
    topics::Topics,
};
use crate::{
    actors::runtime::{Door, DoorReceiver, door},
    domain::BootId,
};

/// The most batches of events that wait at the hub's door.
const DOOR_MAX: usize = 4_096;
/// How often a reader without events hears that the stream lives.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long readers are left asleep between two wake-ups, for each of them; see [`WAKE_PAUSE_MAX`].
const WAKE_PAUSE_PER_READER: Duration = Duration::from_micros(50);
/// The most of that: what people do not notice. A thousand readers wake twenty times a second, however many
/// events there are, and take what has come meanwhile.
const WAKE_PAUSE_MAX: Duration = Duration::from_millis(50);

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

    /// How long readers sleep after a wake-up; the first event after a silence wakes them at once.
    pub(super) fn wake_pause(&self) -> Duration {
        let readers = u32::try_from(self.readers()).unwrap_or(u32::MAX);
        WAKE_PAUSE_PER_READER.saturating_mul(readers).min(WAKE_PAUSE_MAX)
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
            Some((boot, seq)) if boot == self.shared.boot && seq <= self.newest() => (seq, false),
            Some(_) => (self.newest(), true),
            None => (self.newest(), false),
        };
        Subscription {
            shared: self.shared.clone(),
            newest: self.shared.newest.subscribe(),
            topics,
            cursor,
            at: None,
            reset_due: reset,
            heartbeat_at: Instant::now() + HEARTBEAT,
        }
    }
}

/// What a reader gets.
#[derive(Debug, Clone)]
pub enum StreamItem {
    /// An event.
    Event(Told),
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

/// A reader's place in the stream: a number and a chunk of the ring, however far behind it is.
#[derive(Debug)]
pub struct Subscription {
    shared: Arc<Shared>,
    newest: watch::Receiver<u64>,
    topics: Topics,
    cursor: u64,
    /// The chunk it reads, and where it is in it.
    at: Option<(Arc<Chunk>, usize)>,
    reset_due: bool,
    heartbeat_at: Instant,
}

/// Events that were counted instead of told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The first of them, of whatever topic.
    pub from: u64,
    /// The last of them.
    pub to: u64,
    /// How many of each kind; only those of the reader's topics.
    pub counts: BTreeMap<Cow<'static, str>, u64>,
}

impl Subscription {
    /// The next item. Cancel safe: an item that was not returned is not lost.
    pub async fn next(&mut self) -> StreamItem {
        loop {
            // Before the look, so that what comes after it wakes us.
            self.newest.borrow_and_update();
            if let Some(item) = self.ready() {
                return item;
            }
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

    /// The next item, if there is one without waiting.
    pub fn ready(&mut self) -> Option<StreamItem> {
        loop {
            if self.reset_due {
                self.reset_due = false;
                return Some(StreamItem::Reset { newest: self.cursor });
            }
            if let Some((chunk, index)) = &mut self.at {
                while let Some(event) = chunk.events().get(*index) {
                    let told = *index;
                    *index += 1;
                    self.cursor = event.seq;
                    if self.topics.matches(event) {
                        return Some(StreamItem::Event(Told { chunk: chunk.clone(), index: told }));
                    }
                }
                self.at = None;
            }
            if !self.step() {
                return None;
            }
        }
    }

    /// Goes to the next chunk; whether there is something new.
    fn step(&mut self) -> bool {
        // Up to what readers were woken for, and not what has come since: that comes with the next wake-up.
        if self.cursor >= *self.newest.borrow() {
            return false;
        }
        match self.shared.ring.after(self.cursor) {
            Found::Events(chunk, index) => self.at = Some((chunk, index)),
            Found::Missed(newest) => {
                self.cursor = newest;
                self.reset_due = true;
            }
            Found::Nothing => return false,
        }
        true
    }

    /// How many events are behind its place, of whatever topic.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.newest.borrow().saturating_sub(self.cursor)
    }

    /// Goes on behind the newest event, and counts what lies between. `None` when there is nothing, or it is
    /// gone, which the next item says.
    pub fn merge(&mut self) -> Option<Merged> {
        let mut merged = Merged { from: self.cursor + 1, to: self.cursor, counts: BTreeMap::new() };
        while !self.reset_due {
            if let Some((chunk, index)) = self.at.take() {
                let left = chunk.events().get(index..).unwrap_or_default();
                if index == 0 && self.topics.is_all() {
                    for (kind, count) in chunk.kinds() {
                        *merged.counts.entry(kind.clone()).or_default() += count;
                    }
                } else {
                    for event in left.iter().filter(|event| self.topics.matches(event)) {
                        *merged.counts.entry(event.kind.clone()).or_default() += 1;
                    }
                }
                self.cursor = left.last().map_or(self.cursor, |event| event.seq);
                merged.to = self.cursor;
            }
            if !self.step() {
                break;
            }
        }
        (merged.to >= merged.from).then_some(merged)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let readers = self.shared.readers.fetch_sub(1, Ordering::Relaxed).saturating_sub(1);
        crate::metrics::stream_readers(readers);
    }
}
