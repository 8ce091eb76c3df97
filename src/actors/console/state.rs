//! The ring of recent events.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::messages::StreamEvent;

/// How many events are kept for readers who resume: about ten seconds at full speed, hours at rest.
pub(super) const RING_MAX: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Ring {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The `seq` of the newest event; 0 before the first.
    newest: u64,
    events: VecDeque<Arc<StreamEvent>>,
    /// Readers behind it have missed something.
    gap_at: u64,
}

/// What a reader finds behind its cursor.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    Events(Vec<Arc<StreamEvent>>),
    Nothing,
    /// The ring has passed it, or something was lost: it must start anew behind this.
    Missed(u64),
}

impl PartialEq for StreamEvent {
    fn eq(&self, other: &Self) -> bool {
        self.seq == other.seq
    }
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
        let mut inner = self.lock();
        for mut event in events {
            inner.newest += 1;
            event.seq = inner.newest;
            if inner.events.len() >= RING_MAX {
                inner.events.pop_front();
            }
            inner.events.push_back(Arc::new(event));
        }
        inner.newest
    }

    /// Events were lost before they came here: whoever has not read past now must start anew.
    pub(super) fn note_gap(&self) {
        let mut inner = self.lock();
        inner.newest += 1;
        inner.gap_at = inner.newest;
        inner.events.clear();
    }

    /// What is behind `cursor`, at most `limit`.
    pub(super) fn after(&self, cursor: u64, limit: usize) -> Found {
        let inner = self.lock();
        if cursor > inner.newest || cursor < inner.gap_at {
            return Found::Missed(inner.newest);
        }
        if cursor == inner.newest {
            return Found::Nothing;
        }
        let first = inner.events.front().map_or(inner.newest + 1, |event| event.seq);
        if cursor + 1 < first {
            return Found::Missed(inner.newest);
        }
        let skip = usize::try_from(cursor + 1 - first).unwrap_or(usize::MAX);
        Found::Events(inner.events.iter().skip(skip).take(limit).cloned().collect())
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
            Found::Events(events) => events.iter().map(|event| event.seq).collect(),
            Found::Nothing => Vec::new(),
            Found::Missed(_) => panic!("missed"),
        }
    }

    #[test]
    fn events_are_numbered_densely_and_resumed_without_loss_or_repeats() {
        let ring = Ring::default();
        assert_eq!(ring.append(some(5)), 5);
        assert_eq!(seqs(ring.after(2, 100)), [3, 4, 5]);
        assert_eq!(seqs(ring.after(2, 2)), [3, 4]);
        assert_eq!(ring.after(5, 100), Found::Nothing);
    }

    #[test]
    fn a_reader_the_ring_has_passed_is_told() {
        let ring = Ring::default();
        ring.append(some(RING_MAX + 10));
        let newest = (RING_MAX + 10) as u64;
        assert_eq!(ring.after(9, 1), Found::Missed(newest));
        assert_eq!(seqs(ring.after(10, 1)), [11]);
        assert_eq!(ring.after(newest + 1, 1), Found::Missed(newest), "a cursor from the future is no cursor");
    }

    #[test]
    fn a_lost_event_is_never_a_silent_hole() {
        let ring = Ring::default();
        ring.append(some(3));
        ring.note_gap();
        ring.append(some(1));
        assert_eq!(ring.after(3, 10), Found::Missed(5));
        assert_eq!(seqs(ring.after(4, 10)), [5]);
    }
}
