//! How jobs, sessions and readings come into the core.

use super::*;

impl QueueCore {
    /// A job of this queue was made, here or by a birth.
    pub fn made(&mut self, entry: LiveEntry, now: Now, out: &mut Vec<Effect>) {
        let state = effective(entry.state, entry.run_at, now.store);
        self.count(state, 1);
        self.tell(entry.job, state, None, out);
        self.place(entry, now);
    }

    /// A job's last dependency was met.
    pub fn unblocked(&mut self, entry: LiveEntry, now: Now, out: &mut Vec<Effect>) {
        let state = effective(entry.state, entry.run_at, now.store);
        self.count(JobState::Blocked, -1);
        self.count(state, 1);
        out.push(Effect::Told(Happened {
            job: entry.job,
            kind: crate::domain::EventKind::Unblocked,
            state,
            worker: None,
        }));
        self.place(entry, now);
    }

    /// Puts a live job where it waits.
    pub(super) fn place(&mut self, entry: LiveEntry, now: Now) {
        if self.is_away(entry.job) {
            // A load has read it before this came, and it has moved on since.
            return;
        }
        let key = ReadyKey { run_at: entry.run_at, job: entry.job };
        let kind = Self::intern(&mut self.types, &entry.kind);
        match effective(entry.state, entry.run_at, now.store) {
            JobState::Queued => self.window(entry.priority).insert(key, kind),
            JobState::Scheduled | JobState::Retrying | JobState::Throttled => {
                self.defer(key, (entry.priority, kind, entry.state), now);
            }
            JobState::Blocked
            | JobState::Active
            | JobState::Completed
            | JobState::Failed
            | JobState::Canceled => {}
        }
    }

    /// A session serves this queue from now on.
    pub fn session_up(&mut self, id: SessionId, info: SessionInfo, out: &mut Vec<Effect>) {
        let session = Session { info, credits: 0, announced: false, unheard_ticks: 0 };
        self.sessions.insert(id, session);
        self.open_gates(out);
        self.dispatch(out);
    }

    /// A session has ended. Its leases are given back uncharged when its handlers are known to be
    /// stopped (`charged` false), and count as worker deaths otherwise.
    pub fn session_down(&mut self, id: SessionId, charged: bool, out: &mut Vec<Effect>) {
        self.sessions.remove(&id);
        for (job, fence) in self.held_by(id) {
            if self.is_busy(job) {
                // An op of it is under way, a cancel perhaps: its answer decides first.
                self.waiting.entry(job).or_default().push_back(Waiting::SessionEnded { fence, charged });
            } else {
                self.session_ended(job, fence, charged, out);
            }
        }
        self.dispatch(out);
    }

    /// Ends a lease whose session has ended.
    pub(super) fn session_ended(&mut self, job: JobId, fence: Fence, charged: bool, out: &mut Vec<Effect>) {
        if charged {
            self.lose(job, fence, "its worker's connection ended", out);
        } else if self.leases.get(job).is_some_and(|lease| lease.fence == fence) {
            self.give_back(job, fence, "session_ended", out);
        }
    }

    /// The leases that the core believes `session` holds.
    #[must_use]
    pub fn held_by(&self, session: SessionId) -> Vec<(JobId, Fence)> {
        self.leases
            .iter()
            .filter(|(_, lease)| lease.session == session)
            .map(|(job, lease)| (job, lease.fence))
            .collect()
    }

    /// The session never got these jobs: they are given back uncharged.
    pub fn undelivered(&mut self, jobs: &[(JobId, Fence)], out: &mut Vec<Effect>) {
        for (job, fence) in jobs {
            if self.leases.get(*job).is_none_or(|lease| lease.fence != *fence) {
                continue;
            }
            if self.is_busy(*job) {
                // An op of it is under way: behind that, or its time would run out as a death that was none.
                let waiting = Waiting::SessionEnded { fence: *fence, charged: false };
                self.waiting.entry(*job).or_default().push_back(waiting);
            } else {
                self.give_back(*job, *fence, "undelivered", out);
            }
        }
    }

    /// The session lends `credits` more.
    pub fn credit(&mut self, id: SessionId, credits: usize, out: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.credits += credits;
        session.announced = false;
        self.dispatch(out);
    }

    /// The session wants its credits back.
    pub fn recall(&mut self, id: SessionId, out: &mut Vec<Effect>) {
        if let Some(session) = self.sessions.get_mut(&id).filter(|session| session.credits > 0) {
            out.push(Effect::ReturnCredits(id, std::mem::take(&mut session.credits)));
        }
    }

    /// The session renews these leases; those that are gone come back.
    pub fn renew(&mut self, jobs: &[(JobId, Fence)], now: Now) -> Vec<(JobId, Fence)> {
        let is_lost = |(job, fence): &&(JobId, Fence)| !self.leases.renew(*job, *fence, now.mono_ms);
        jobs.iter().filter(is_lost).copied().collect()
    }

    /// A refill was read.
    pub fn refilled(
        &mut self,
        priority: i16,
        after: Option<ReadyKey>,
        limit: usize,
        mut rows: Vec<ReadyRow>,
        out: &mut Vec<Effect>,
    ) {
        // The read's length and end say whether there is more and how far it went, whatever is left out:
        // what is being leased, or was found leased since, must not come in a second time.
        let is_complete = rows.len() < limit;
        let read_to = rows.last().map(|row| row.key);
        rows.retain(|row| !self.is_away(row.key.job));
        // They became due unseen, or were seen and fell out of memory again.
        self.is_count_doubtful |= rows.iter().any(|row| row.state.is_deferred());
        let mut types = std::mem::take(&mut self.types);
        let intern = |kind: &str| Self::intern(&mut types, kind);
        self.window(priority).finish_refill(after, rows, read_to, is_complete, intern);
        self.types = types;
        self.refill(out);
        self.dispatch(out);
    }

    /// A refill could not be read; the next tick asks again.
    pub fn refill_failed(&mut self, priority: i16) {
        self.window(priority).fail_refill();
    }

    pub(super) fn tell(&self, job: JobId, state: JobState, worker: Option<WorkerId>, out: &mut Vec<Effect>) {
        let kind = match state {
            JobState::Scheduled => crate::domain::EventKind::Scheduled,
            JobState::Blocked => crate::domain::EventKind::Blocked,
            JobState::Active => crate::domain::EventKind::Started,
            JobState::Completed => crate::domain::EventKind::Completed,
            JobState::Retrying => crate::domain::EventKind::Retrying,
            JobState::Failed => crate::domain::EventKind::Failed,
            JobState::Canceled => crate::domain::EventKind::Canceled,
            JobState::Throttled => crate::domain::EventKind::Throttled,
            JobState::Queued => crate::domain::EventKind::Enqueued,
        };
        out.push(Effect::Told(Happened { job, kind, state, worker }));
    }
}

/// The state as it is shown: a deferred job whose time has come is queued.
pub(super) fn effective(state: JobState, run_at: Timestamp, now: Timestamp) -> JobState {
    if state.is_deferred() && run_at <= now { JobState::Queued } else { state }
}
