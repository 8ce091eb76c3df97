//! The ready jobs of one priority, of which only the first few thousand are in memory.
//!
//! Everything in the store with a key at or below `high` is in `entries`; what is above is only known
//! to be there (`complete` is false). A refill reads on behind `high`. What is added or taken away while
//! a refill is under way is kept beside it, since the read may or may not have seen it.
//! (After Temporal's fair task reader, and Restate's overlay of adds and tombstones.)

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use crate::{
    domain::{JobId, Timestamp},
    store::read::{ReadyKey, ReadyRow},
};

/// The most entries kept for one priority: a refill ahead of need takes a few milliseconds, and 5,000
/// jobs last longer than that at any rate we reach.
pub const WINDOW_MAX: usize = 5_000;
/// After so many failed reads in a row lower priorities no longer wait for what may be there: one that cannot be
/// read must not stop the others. A second, at a read each tick.
const FAILURES_MAX: u32 = 4;

#[derive(Debug, Default)]
struct Refill {
    added: BTreeMap<ReadyKey, Arc<str>>,
    removed: HashSet<JobId>,
    /// More became due since it was asked for: that it saw the end says nothing.
    is_reopened: bool,
}

/// The head of one priority's order. Entries carry the job's type, never its payload.
#[derive(Debug)]
pub struct Window {
    entries: BTreeMap<ReadyKey, Arc<str>>,
    /// The greatest key that was loaded; all up to it are in `entries`.
    high: Option<ReadyKey>,
    /// Nothing is in the store beyond `entries`.
    complete: bool,
    refill: Option<Refill>,
    /// Jobs that are only in the store may come before everything of the lower priorities.
    is_doubtful: bool,
    /// Reads that failed in a row.
    failures: u32,
    max: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self::new(WINDOW_MAX)
    }
}

impl Window {
    /// A window that knows nothing of the store yet.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            entries: BTreeMap::new(),
            high: None,
            complete: false,
            refill: None,
            is_doubtful: true,
            failures: 0,
            max,
        }
    }

    /// How many are in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is in memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes in a job that became ready.
    pub fn insert(&mut self, key: ReadyKey, kind: Arc<str>) {
        // One that left while a refill was under way stays among the removed: the read may bring it at the place it
        // had, which is not where it is now.
        let is_below = self.high.is_some_and(|high| key <= high);
        if is_below || (self.complete && self.entries.len() < self.max) {
            self.entries.insert(key, kind);
            if self.complete {
                self.high = self.high.max(Some(key));
            }
            self.trim();
        } else {
            self.is_doubtful = true;
            if let Some(refill) = &mut self.refill {
                refill.added.insert(key, kind);
            } else if self.complete {
                // Full: from now on it, and what comes behind it, is only in the store.
                self.complete = false;
                self.high = self.entries.last_key_value().map(|(key, _)| *key);
            }
        }
    }

    /// Keeps the bound when entries were inserted below `high`: the last ones go back to being only in
    /// the store.
    fn trim(&mut self) {
        // Some slack, so that not every insert at the bound takes one out again.
        if self.entries.len() <= self.max + self.max / 4 {
            return;
        }
        while self.entries.len() > self.max {
            self.entries.pop_last();
        }
        self.complete = false;
        self.is_doubtful = true;
        self.high = self.entries.last_key_value().map(|(key, _)| *key);
        if let Some(refill) = &mut self.refill {
            // The running read starts behind the old `high`: it cannot bring back what was just dropped.
            refill.added.clear();
        }
    }

    /// Takes a job out: it was canceled, moved or parked.
    pub fn remove(&mut self, key: ReadyKey) -> bool {
        if let Some(refill) = &mut self.refill {
            refill.added.remove(&key);
            refill.removed.insert(key.job);
        }
        self.entries.remove(&key).is_some()
    }

    /// An entry.
    #[must_use]
    pub fn get(&self, key: ReadyKey) -> Option<&Arc<str>> {
        self.entries.get(&key)
    }

    /// Whether a job with this key would be in memory.
    #[must_use]
    pub fn covers(&self, key: ReadyKey) -> bool {
        self.complete || self.high.is_some_and(|high| key <= high)
    }

    /// Whether all there is is in memory.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// If none is in memory, but more may be in the store: behind which key (`None`: any). The lower priorities
    /// wait for the read that tells, unless it fails again and again.
    #[must_use]
    pub fn holds_back(&self) -> Option<Option<ReadyKey>> {
        let is_waited_for = self.is_doubtful && self.failures < FAILURES_MAX;
        (self.entries.is_empty() && !self.complete && is_waited_for).then_some(self.high)
    }

    /// The first entry.
    #[must_use]
    pub fn first(&self) -> Option<(ReadyKey, &Arc<str>)> {
        self.entries.first_key_value().map(|(key, kind)| (*key, kind))
    }

    /// Takes a job out whose place is not known. Looks through the whole window.
    pub fn remove_job(&mut self, job: JobId) -> bool {
        let key = self.entries.keys().find(|key| key.job == job).copied().or_else(|| {
            let refill = self.refill.as_ref()?;
            refill.added.keys().find(|key| key.job == job).copied()
        });
        if let Some(refill) = &mut self.refill {
            refill.removed.insert(job);
        }
        key.is_some_and(|key| self.remove(key))
    }

    /// The entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = (ReadyKey, &Arc<str>)> {
        self.entries.iter().map(|(key, kind)| (*key, kind))
    }

    /// Takes an entry out, to be leased or parked.
    pub fn take(&mut self, key: ReadyKey) -> Option<Arc<str>> {
        let kind = self.entries.remove(&key)?;
        if let Some(refill) = &mut self.refill {
            refill.removed.insert(key.job);
        }
        Some(kind)
    }

    /// Jobs became due after `known` that were not told: what lies behind it is only in the store, and a
    /// refill reads on from there.
    pub fn reopen(&mut self, known: Timestamp) {
        let last = ReadyKey { run_at: known, job: JobId(uuid::Uuid::max()) };
        // Lower than what a running read began behind, `high` makes that read be dropped.
        self.high = self.high.min(Some(last));
        while self.entries.last_key_value().is_some_and(|(key, _)| *key > last) {
            self.entries.pop_last();
        }
        self.complete = false;
        self.is_doubtful = true;
        if let Some(refill) = &mut self.refill {
            refill.is_reopened = true;
        }
    }

    /// If a refill is due: marks it as under way and says behind which key to read, and how many.
    pub fn start_refill(&mut self) -> Option<(Option<ReadyKey>, usize)> {
        // At 30,000 jobs/s half a window lasts 80 ms; a tenth lasted less than its own refill took.
        let low = self.max / 2;
        if self.complete || self.refill.is_some() || self.entries.len() > low {
            return None;
        }
        self.refill = Some(Refill::default());
        Some((self.high, self.max - self.entries.len()))
    }

    /// Takes in what a refill read, in order. `after` is the key it read behind: a read that no longer
    /// fits (the window was trimmed meanwhile) is dropped, and asked for again. `read_to` is the last
    /// key it saw, `is_complete` whether it saw the end.
    pub fn finish_refill(
        &mut self,
        after: Option<ReadyKey>,
        rows: Vec<ReadyRow>,
        read_to: Option<ReadyKey>,
        is_complete: bool,
        mut intern: impl FnMut(&str) -> Arc<str>,
    ) {
        let Some(refill) = self.refill.take() else { return };
        self.failures = 0;
        if self.high != after {
            return;
        }
        // One that saw the end has seen all there was when it was asked for, whatever became due since: however
        // often that happens, the lower priorities get their turn.
        self.is_doubtful = !is_complete;
        let is_complete = is_complete && !refill.is_reopened;
        self.high = self.high.max(read_to);
        for row in rows {
            if !refill.removed.contains(&row.key.job) {
                let kind = intern(&row.kind);
                self.entries.insert(row.key, kind);
            }
        }
        for (key, kind) in refill.added {
            if is_complete || self.high.is_some_and(|high| key <= high) {
                self.entries.insert(key, kind);
            } else {
                self.is_doubtful = true;
            }
        }
        if is_complete {
            self.complete = true;
            self.high = self.high.max(self.entries.last_key_value().map(|(key, _)| *key));
        }
        self.trim();
    }

    /// A refill could not be read: it may be asked for again.
    pub fn fail_refill(&mut self) {
        let Some(refill) = self.refill.take() else { return };
        // What was added meanwhile is above `high` and in the store: the next read brings it.
        drop(refill);
        self.complete = false;
        self.failures = self.failures.saturating_add(1);
    }
}
