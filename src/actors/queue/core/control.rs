//! What operators set for the whole queue, live.
//!
//! One change is in the journal at a time, and the next waits here: two lanes would not keep their order. What a
//! change forbids is no longer done from the moment it is sent, what it allows is done when it is committed.
//!
//! A drain ends when nothing is queued, retrying, throttled or running any more; what is scheduled or blocked stays
//! as it is. The queue then pauses itself, and goes on refusing submissions until it is resumed.

use std::sync::Weak;

use super::*;
use crate::{
    domain::{QueueChange, QueueConfig},
    store::{
        ops::{Requester, SubmitRefusal},
        read::QueueRow,
    },
};

/// The most changes that wait for the one in the journal: operators are few.
pub const CHANGES_WAITING_MAX: usize = 64;

/// What an operator changes of a queue.
#[derive(Debug, Clone)]
pub enum QueueOrder {
    /// No new leases.
    Pause,
    /// Ends a pause and a drain.
    Resume,
    /// No new jobs; what waits and runs is finished, then the queue is paused.
    Drain,
    /// The queue's own: the drain has ended.
    Drained,
    /// Other settings.
    Configure(Box<QueueChange>),
}

impl QueueOrder {
    /// What the audit log and the streams call it.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::Pause => "queue.paused",
            Self::Resume => "queue.resumed",
            Self::Drain => "queue.draining",
            Self::Drained => "queue.drained",
            Self::Configure(_) => "queue.configured",
        }
    }
}

/// A queue's settings, and the changes under way.
#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) paused: bool,
    pub(super) draining: bool,
    pub(super) config: QueueConfig,
    in_journal: Option<QueueOrder>,
    /// Purges under way: nothing is granted while one lives, so that what it found waiting goes on to wait.
    purges: Vec<Weak<()>>,
    waiting: VecDeque<(QueueOrder, Requester, Option<u64>)>,
}

impl Control {
    pub(super) fn loaded(paused: bool, draining: bool, config: Option<&str>) -> Self {
        Self { paused, draining, config: QueueConfig::from_stored(config), ..Self::default() }
    }
}

/// A queue as operators see it, beside its counts.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    /// Whether dispatch is stopped.
    pub paused: bool,
    /// Whether submissions are refused.
    pub draining: bool,
    /// Its settings.
    pub config: QueueConfig,
    /// Whether as many of its jobs run as may.
    pub is_full: bool,
    /// Since when the first of those that are ready is ready.
    pub oldest: Option<Timestamp>,
    /// The next job in line.
    pub first: Option<JobId>,
}

impl QueueCore {
    /// Writes a change of the settings, behind those that were asked for before.
    pub fn order(&mut self, order: QueueOrder, by: Requester, tag: Option<u64>, out: &mut Vec<Effect>) {
        self.control.waiting.push_back((order, by, tag));
        self.next_order(out);
    }

    /// Whether no more changes can wait.
    #[must_use]
    pub fn has_too_many_orders(&self) -> bool {
        self.control.waiting.len() >= CHANGES_WAITING_MAX
    }

    fn next_order(&mut self, out: &mut Vec<Effect>) {
        if self.control.in_journal.is_some() {
            return;
        }
        let Some((order, by, tag)) = self.control.waiting.pop_front() else { return };
        let (paused, draining) = match order {
            QueueOrder::Pause | QueueOrder::Drained => (Some(true), None),
            QueueOrder::Resume => (Some(false), Some(false)),
            QueueOrder::Drain => (Some(false), Some(true)),
            QueueOrder::Configure(_) => (None, None),
        };
        let config = match &order {
            QueueOrder::Configure(change) => Some(self.control.config.with(change).to_stored()),
            _ => None,
        };
        let action = order.action();
        self.control.in_journal = Some(order);
        self.bulk_in_journal += 1;
        out.push(Effect::Write(Write::Settings { paused, draining, config, action, by }, tag));
        self.return_credits(out);
    }

    /// The settings were written: they hold from now on.
    pub fn configured(&mut self, row: &QueueRow, out: &mut Vec<Effect>) {
        self.bulk_in_journal = self.bulk_in_journal.saturating_sub(1);
        self.control.in_journal = None;
        self.control.paused = row.paused;
        self.control.draining = row.draining;
        self.control.config = QueueConfig::from_stored(row.config.as_deref());
        self.leases.prolong(self.lease_ttl_ms());
        self.next_order(out);
        self.dispatch(out);
    }

    /// They could not be written: they stay as they were.
    pub fn order_failed(&mut self, out: &mut Vec<Effect>) {
        self.bulk_in_journal = self.bulk_in_journal.saturating_sub(1);
        self.control.in_journal = None;
        self.next_order(out);
        self.dispatch(out);
    }

    /// Why a new job is not taken, with `coming` others under way to the store.
    #[must_use]
    pub fn refusal(&self, coming: usize) -> Option<SubmitRefusal> {
        let queue = || self.config.queue.clone();
        if self.control.draining || matches!(self.control.in_journal, Some(QueueOrder::Drain)) {
            return Some(SubmitRefusal::Draining { index: 0, queue: queue() });
        }
        let max_depth = self.control.config.max_depth?;
        let waiting = self.counts[..5].iter().sum::<i64>() + i64::try_from(coming).unwrap_or(i64::MAX);
        (waiting >= max_depth).then(|| SubmitRefusal::QueueFull { index: 0, queue: queue(), max_depth })
    }

    /// Whether a drain has been committed.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.control.draining
    }

    /// Whether nothing may be granted now.
    pub(super) fn is_stopped(&self) -> bool {
        self.control.paused
            || matches!(self.control.in_journal, Some(QueueOrder::Pause | QueueOrder::Drained))
            || self.control.purges.iter().any(|purge| purge.strong_count() > 0)
    }

    /// Grants nothing as long as `purge` lives. Returns whether what was under way is over: until then, ask again.
    pub fn hold(&mut self, purge: Weak<()>, out: &mut Vec<Effect>) -> bool {
        self.control.purges.retain(|known| known.strong_count() > 0 && !known.ptr_eq(&purge));
        self.control.purges.push(purge);
        self.return_credits(out);
        self.grants_in_journal == 0
    }

    /// How many more leases the queue may have.
    pub(super) fn room(&self) -> usize {
        let Some(most) = self.control.config.concurrency else { return usize::MAX };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        most.saturating_sub(self.leases.len() + self.grants_in_journal)
    }

    /// Whether as many of its jobs run as `concurrency` allows.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.room() == 0
    }

    /// How long a lease given now lasts without a renewal.
    #[must_use]
    pub fn lease_ttl_ms(&self) -> u64 {
        self.control.config.lease_ttl_ms().unwrap_or(self.config.lease_ttl_ms)
    }

    /// The retry policy of jobs that have none.
    pub(super) fn retry_policy(&self) -> RetryPolicy {
        self.control.config.retry.unwrap_or(self.config.retry)
    }

    /// Whether a drain has nothing left to wait for, as far as memory knows. The counts in the store have the last
    /// word: a birth may be on its way.
    fn seems_drained(&self) -> bool {
        let left = [JobState::Queued, JobState::Retrying, JobState::Throttled, JobState::Active];
        let count = |state: JobState| usize::try_from(state.code()).ok().map_or(0, |code| self.counts[code]);
        let is_settled = self.control.in_journal.is_none() && self.control.waiting.is_empty();
        self.control.draining
            && !self.control.paused
            && is_settled
            && self.leases.is_empty()
            && left.into_iter().all(|state| count(state) <= 0)
    }

    /// Asks for the counts when a drain seems to have ended.
    pub(super) fn look_for_the_end_of_a_drain(&mut self) {
        self.is_count_doubtful |= self.seems_drained();
    }

    /// Takes in what was counted while nothing was under way.
    pub fn counted(&mut self, counts: [i64; 9], out: &mut Vec<Effect>) {
        self.counts = counts;
        if self.seems_drained() {
            let by = Requester { actor: "node".into(), request_id: String::new(), reason: None };
            self.order(QueueOrder::Drained, by, None, out);
        }
    }

    /// Where a ready job stands: who is ahead in the order has the smaller rank.
    pub(super) fn rank(&self, priority: i16, key: ReadyKey) -> (i16, ReadyKey) {
        let lift = self.control.config.aging_micros().map_or(0, |step| {
            let waited = self.now.0.saturating_sub(key.run_at.0).max(0);
            i16::try_from((waited / step).min(9)).unwrap_or(9)
        });
        (9 - (priority + lift).min(9), key)
    }

    /// The place in line of a ready job, 1 being the next; `None` when it is not known.
    #[must_use]
    pub fn position(&self, job: JobId, priority: i16, run_at: Timestamp) -> Option<usize> {
        let key = ReadyKey { run_at, job };
        let own = self.windows.get(usize::try_from(priority).ok()?)?;
        own.get(key)?;
        let rank = self.rank(priority, key);
        let mut position = 1;
        for (priority, window) in (0..10_i16).zip(&self.windows) {
            // Within a window the order of keys is that of ranks.
            let ahead = window.iter().take_while(|(key, _)| self.rank(priority, *key) < rank).count();
            if ahead == window.len() && !window.is_complete() {
                // Those that follow it are only in the store, and may be ahead too.
                return None;
            }
            position += ahead;
        }
        Some(position)
    }

    /// The queue as operators see it.
    #[must_use]
    pub fn condition(&self) -> Condition {
        let heads = (0..10_i16).zip(&self.windows).filter_map(|(priority, window)| {
            let (key, _) = window.first()?;
            Some((priority, key))
        });
        let first = heads.clone().min_by_key(|(priority, key)| self.rank(*priority, *key));
        let in_order = heads.map(|(_, key)| key.run_at).min();
        Condition {
            paused: self.control.paused,
            draining: self.control.draining,
            config: self.control.config.clone(),
            is_full: self.is_full(),
            oldest: in_order.into_iter().chain(self.oldest_parked).min(),
            first: first.map(|(_, key)| key.job),
        }
    }
}
