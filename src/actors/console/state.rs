//! The ring of recent events.

use std::{
    borrow::Cow,
    collections::VecDeque,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use bytes::{BufMut, Bytes, BytesMut};

use super::messages::StreamEvent;

/// How many events are kept for readers who resume: about ten seconds at full speed, hours at rest.
pub(super) const RING_MAX: usize = 65_536;
/// The most events of a chunk: what readers take at once, and what is forgotten at once.
pub(super) const CHUNK_MAX: usize = 256;

/// Events that came together. Readers share it, and the text that the first of them makes.
#[derive(Debug)]
pub(super) struct Chunk {
    /// At least one; their `seq` is dense.
    events: Vec<StreamEvent>,
    /// How many there are of each kind.
    kinds: Vec<(Cow<'static, str>, u64)>,
    texts: OnceLock<Texts>,
}

/// The events as JSON, one behind the other.
#[derive(Debug)]
struct Texts {
    all: Bytes,
    ends: Vec<usize>,
}

impl Chunk {
    fn new(events: Vec<StreamEvent>) -> Self {
        let mut kinds: Vec<(Cow<'static, str>, u64)> = Vec::new();
        for event in &events {
            match kinds.iter_mut().find(|(kind, _)| *kind == event.kind) {
                Some((_, count)) => *count += 1,
                None => kinds.push((event.kind.clone(), 1)),
            }
        }
        Self { events, kinds, texts: OnceLock::new() }
    }

    pub(super) fn events(&self) -> &[StreamEvent] {
        &self.events
    }

    pub(super) fn kinds(&self) -> &[(Cow<'static, str>, u64)] {
        &self.kinds
    }

    fn first(&self) -> u64 {
        self.events.first().map_or(0, |event| event.seq)
    }

    /// The event at `index` as JSON.
    fn text(&self, index: usize) -> Bytes {
        let texts = self.texts.get_or_init(|| {
            let mut all = BytesMut::with_capacity(self.events.len() * 256);
            let mut ends = Vec::with_capacity(self.events.len());
            for event in &self.events {
                // A plain structure has a text; a failure would leave an empty one, which is no JSON.
                drop(serde_json::to_writer((&mut all).writer(), event));
                ends.push(all.len());
            }
            Texts { all: all.freeze(), ends }
        });
        let start = index.checked_sub(1).and_then(|before| texts.ends.get(before)).copied().unwrap_or(0);
        texts.ends.get(index).map_or_else(Bytes::new, |end| texts.all.slice(start..*end))
    }
}

/// An event of the ring. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Told {
    pub(super) chunk: Arc<Chunk>,
    pub(super) index: usize,
}

impl Told {
    /// As JSON: made once, shared by all readers.
    #[must_use]
    pub fn text(&self) -> Bytes {
        self.chunk.text(self.index)
    }
}

impl Deref for Told {
    type Target = StreamEvent;

    fn deref(&self) -> &StreamEvent {
        &self.chunk.events[self.index]
    }
}

#[derive(Debug, Default)]
pub(super) struct Ring {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The `seq` of the newest event; 0 before the first.
    newest: u64,
    chunks: VecDeque<Arc<Chunk>>,
    /// The events in them.
    held: usize,
    /// Readers behind it have missed something.
    gap_at: u64,
}

/// What a reader finds behind its cursor.
#[derive(Debug)]
pub(super) enum Found {
    /// Go on in this chunk, from this index.
    Events(Arc<Chunk>, usize),
    Nothing,
    /// The ring has passed it, or something was lost: it must start anew behind this.
    Missed(u64),
}

impl Ring {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn newest(&self) -> u64 {
        self.lock().newest
    }

    /// Appends events and numbers them; the newest number.
    pub(super) fn append(&self, events: impl Iterator<Item = StreamEvent>) -> u64 {
        let mut events = events.peekable();
        // Chunks are made before the lock is taken, with numbers that are put right in it: readers wait for no
        // allocation.
        let mut made = Vec::new();
        while events.peek().is_some() {
            made.push(Chunk::new(events.by_ref().take(CHUNK_MAX).collect()));
        }
        let mut forgotten = Vec::new();
        let newest = {
            let mut inner = self.lock();
            for mut chunk in made {
                for event in &mut chunk.events {
                    inner.newest += 1;
                    event.seq = inner.newest;
                }
                inner.held += chunk.events.len();
                inner.chunks.push_back(Arc::new(chunk));
            }
            while let Some(oldest) = inner.chunks.front().map(|chunk| chunk.events.len())
                && inner.held - oldest >= RING_MAX
            {
                inner.held -= oldest;
                forgotten.extend(inner.chunks.pop_front());
            }
            inner.newest
        };
        drop(forgotten);
        newest
    }

    /// Events were lost before they came here: whoever has not read past now must start anew.
    pub(super) fn note_gap(&self) {
        let mut inner = self.lock();
        inner.newest += 1;
        inner.gap_at = inner.newest;
        inner.chunks.clear();
        inner.held = 0;
    }

    /// What is behind `cursor`.
    pub(super) fn after(&self, cursor: u64) -> Found {
        let inner = self.lock();
        if cursor > inner.newest || cursor < inner.gap_at {
            return Found::Missed(inner.newest);
        }
        if cursor == inner.newest {
            return Found::Nothing;
        }
        // The last chunk that begins at or before the next event.
        let behind = inner.chunks.partition_point(|chunk| chunk.first() <= cursor + 1);
        let Some(chunk) = behind.checked_sub(1).and_then(|place| inner.chunks.get(place)) else {
            return Found::Missed(inner.newest);
        };
        let index = usize::try_from(cursor + 1 - chunk.first()).unwrap_or(usize::MAX);
        Found::Events(chunk.clone(), index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    fn some(count: usize) -> impl Iterator<Item = StreamEvent> {
        (0..count).map(|_| StreamEvent::new("job.enqueued", Timestamp(0)))
    }

    fn seqs(found: Found) -> Vec<u64> {
        match found {
            Found::Events(chunk, index) => chunk.events[index..].iter().map(|event| event.seq).collect(),
            Found::Nothing => Vec::new(),
            Found::Missed(_) => panic!("missed"),
        }
    }

    fn missed(found: Found) -> Option<u64> {
        if let Found::Missed(newest) = found { Some(newest) } else { None }
    }

    #[test]
    fn events_are_numbered_densely_and_resumed_without_loss_or_repeats() {
        let ring = Ring::default();
        assert_eq!(ring.append(some(5)), 5);
        assert_eq!(ring.append(some(2)), 7);
        assert_eq!(seqs(ring.after(2)), [3, 4, 5]);
        assert_eq!(seqs(ring.after(5)), [6, 7]);
        assert!(matches!(ring.after(7), Found::Nothing));
    }

    #[test]
    fn a_reader_the_ring_has_passed_is_told() {
        let ring = Ring::default();
        ring.append(some(RING_MAX + CHUNK_MAX));
        let newest = (RING_MAX + CHUNK_MAX) as u64;
        let oldest = CHUNK_MAX as u64;
        assert_eq!(missed(ring.after(oldest - 1)), Some(newest));
        assert_eq!(seqs(ring.after(oldest))[0], oldest + 1);
        assert_eq!(missed(ring.after(newest + 1)), Some(newest), "a cursor from the future is no cursor");
    }

    #[test]
    fn a_lost_event_is_never_a_silent_hole() {
        let ring = Ring::default();
        ring.append(some(3));
        ring.note_gap();
        ring.append(some(1));
        assert_eq!(missed(ring.after(3)), Some(5));
        assert_eq!(seqs(ring.after(4)), [5]);
    }

    #[test]
    fn a_text_is_made_once_and_is_the_event() {
        let ring = Ring::default();
        ring.append(some(3));
        let Found::Events(chunk, 1) = ring.after(1) else { panic!("is there") };
        let told = |index| Told { chunk: chunk.clone(), index };
        for index in 0..3 {
            let text = told(index).text();
            let event: StreamEvent = serde_json::from_slice(&text).expect("JSON");
            assert_eq!(event.seq, index as u64 + 1);
        }
        assert_eq!(told(0).text().as_ptr(), told(0).text().as_ptr(), "shared, not copied");
        assert_eq!(chunk.kinds(), [("job.enqueued".into(), 3)]);
    }
}
