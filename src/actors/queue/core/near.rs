//! The near future: which deferred jobs are in memory, and what happens to those that are not.
//!
//! Everything due at or before `horizon` is in `deferred`, or was handed to its window, or is only in the
//! store with its window knowing so. What is due later is only in the store, until a read brings it. When
//! time passes the horizon (one instant alone may be more than a read brings or memory keeps, or a read may
//! be late), the windows are reopened from there: they read what became due unseen from the store.

use super::*;

/// Deferred jobs due within this time are kept in memory; the rest is read when it comes near.
pub const DEFER_HORIZON_MS: i64 = 60_000;
/// The most jobs that one read of deferred jobs brings, for one priority.
pub const DEFER_LOAD_MAX: usize = 2_000;
/// The most deferred jobs of a queue in memory; the latest go back to being only in the store.
pub const DEFERRED_MAX: usize = 20_000;

/// Up to when all is known after a read up to `until` brought `rows` of one priority, in order. A read that
/// its limit cut off may not have brought all of its last instant: what is known ends before that.
#[must_use]
pub fn known_to(rows: &[ReadyRow], limit: usize, until: Timestamp) -> Timestamp {
    match rows.last() {
        Some(last) if rows.len() >= limit => before(last.key.run_at).min(until),
        _ => until,
    }
}

fn before(time: Timestamp) -> Timestamp {
    Timestamp(time.0.saturating_sub(1))
}

impl QueueCore {
    /// Keeps a deferred job, if it is due within what is known or being read.
    pub(super) fn defer(&mut self, key: ReadyKey, job: (i16, Arc<str>, JobState), now: Now) {
        // While a read of the near future is under way, it may have missed this one.
        let covered = self.horizon.max(self.loading_deferred);
        if covered.is_some_and(|until| key.run_at <= until) {
            self.deferred.insert(key, job);
            self.bound_deferred(now);
        }
    }

    /// The near future was read, up to `until` (earlier, if a read was cut off by its limit).
    pub fn deferred_loaded(
        &mut self,
        rows: Vec<(i16, ReadyRow)>,
        until: Timestamp,
        now: Now,
        out: &mut Vec<Effect>,
    ) {
        // Memory may have been cut off at an earlier time meanwhile.
        let until = self.loading_deferred.take().map_or(until, |loading| loading.min(until));
        let left = std::mem::take(&mut self.left_while_loading);
        let known = self.horizon;
        for (priority, row) in rows {
            let (run_at, job) = (row.key.run_at, row.key.job);
            // What time has passed meanwhile is for the windows to read.
            let is_news = run_at <= until && Some(run_at) > known;
            if is_news && !self.is_away(job) && !left.contains(&job) {
                let kind = Self::intern(&mut self.types, &row.kind);
                self.deferred.entry(row.key).or_insert((priority, kind, row.state));
            }
        }
        self.horizon = known.max(Some(until));
        self.forget_beyond_horizon();
        self.load_later(now);
        self.bound_deferred(now);
        self.become_due(now);
        self.dispatch(out);
    }

    /// The near future could not be read; the next tick asks again.
    pub fn deferred_failed(&mut self) {
        self.loading_deferred = None;
        self.left_while_loading.clear();
        self.forget_beyond_horizon();
    }

    /// Drops what was placed while a read was under way, but beyond what that read made known.
    fn forget_beyond_horizon(&mut self) {
        while let Some(last) = self.deferred.last_entry() {
            if Some(last.key().run_at) <= self.horizon {
                break;
            }
            last.remove();
        }
    }

    /// Keeps the bound: the latest go back to being only in the store, always a whole instant.
    fn bound_deferred(&mut self, now: Now) {
        if self.deferred.len() <= self.config.deferred_max {
            return;
        }
        // Some slack, so that not every job at the bound moves the horizon.
        let keep = self.config.deferred_max - self.config.deferred_max / 4;
        let mut cut = None;
        while let Some(last) = self.deferred.last_entry() {
            let run_at = last.key().run_at;
            if cut != Some(run_at) && self.deferred.len() <= keep {
                break;
            }
            cut = Some(run_at);
            self.deferred.pop_last();
        }
        if let Some(cut) = cut.map(before) {
            self.horizon = self.horizon.map(|horizon| horizon.min(cut));
            self.loading_deferred = self.loading_deferred.map(|until| until.min(cut));
            self.load_later(now);
        }
    }

    /// Moves what is due from the near future to the ready jobs.
    pub(super) fn become_due(&mut self, now: Now) {
        while let Some(entry) = self.deferred.first_entry() {
            if entry.key().run_at > now.store {
                break;
            }
            let (key, (priority, kind, state)) = entry.remove_entry();
            self.count(state, -1);
            self.count(JobState::Queued, 1);
            self.window(priority).insert(key, kind);
        }
        if let Some(horizon) = self.horizon.filter(|horizon| *horizon < now.store) {
            for window in &mut self.windows {
                window.reopen(horizon);
            }
            self.horizon = Some(now.store);
            self.load_at = now.store;
        }
    }

    /// The next read is due when half of what is known has passed: however little one read brings, there are
    /// few before the horizon is reached.
    fn load_later(&mut self, now: Now) {
        let known = self.horizon.map_or(0, |horizon| horizon.0.saturating_sub(now.store.0));
        self.load_at = Timestamp(now.store.0.saturating_add(known.max(0) / 2));
    }

    pub(super) fn load_deferred(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.loading_deferred.is_some() || now.store < self.load_at {
            return;
        }
        // What is due before the first reading is found by the windows: they read up to their now.
        let after = *self.horizon.get_or_insert(now.store);
        let until = now.store.plus_millis(DEFER_HORIZON_MS);
        self.loading_deferred = Some(until);
        out.push(Effect::LoadDeferred { after, until });
    }
}
