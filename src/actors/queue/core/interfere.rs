//! How operators interfere.

use super::{intake::effective, *};

impl QueueCore {
    /// Does what an operator wants of a job, when no other op of it is under way.
    pub fn interfere(&mut self, job: JobId, what: Interference, tag: Option<u64>, out: &mut Vec<Effect>) {
        if self.is_busy(job) {
            self.waiting.entry(job).or_default().push_back(Waiting::Interfere { what, tag });
            return;
        }
        self.in_journal.insert(job, InJournal::Interference);
        out.push(Effect::Write(Write::Interfere { job, what }, tag));
    }

    /// Cancels a job that was found waiting at `place`: it is not looked for all over memory, a hundred thousand times.
    pub fn purge(
        &mut self,
        job: JobId,
        place: Option<(i16, ReadyKey)>,
        reason: String,
        tag: Option<u64>,
        out: &mut Vec<Effect>,
    ) {
        if let Some(place) = place {
            self.purging.insert(job, place);
        }
        self.interfere(job, Interference::Cancel { reason, unstarted_only: false, by: None }, tag, out);
    }

    /// A cancel was written, or found nothing to do.
    pub fn canceled(&mut self, job: JobId, done: &Canceled, now: Now, out: &mut Vec<Effect>) {
        self.in_journal.remove(&job);
        match done {
            Canceled::Done { from, wakes } => {
                // A blocked job has no place, and a purge may cancel a hundred thousand of them.
                let is_placed = *from != JobState::Blocked;
                let from = is_placed.then(|| self.forget_place(job)).flatten().unwrap_or(*from);
                self.count(from, -1);
                self.count(JobState::Canceled, 1);
                self.tell(job, JobState::Canceled, None, out);
                if !wakes.is_empty() {
                    out.push(Effect::Wake(wakes.clone()));
                }
            }
            Canceled::Requested | Canceled::AlreadyRequested => {
                if let Some(lease) = self.leases.get_mut(job) {
                    lease.request_cancel(now.mono_ms);
                    out.push(Effect::TellCancel(job, lease.fence, lease.session));
                    let worker = Some(lease.worker.clone());
                    let kind = crate::domain::EventKind::CancelRequested;
                    out.push(Effect::Told(Happened { job, kind, state: JobState::Active, worker }));
                }
            }
            Canceled::Conflict(_) | Canceled::NotFound => {}
        }
        self.purging.remove(&job);
        self.next_waiting(job, out);
    }

    /// A retry was written, or found nothing to do.
    pub fn retried(&mut self, job: JobId, done: Retried, now: Now, out: &mut Vec<Effect>) {
        self.in_journal.remove(&job);
        if let Retried::Done { entry, from, wakes } = done {
            let from = self.forget_place(job).unwrap_or(from);
            self.count(from, -1);
            let kind = crate::domain::EventKind::Retried;
            out.push(Effect::Told(Happened { job, kind, state: JobState::Queued, worker: None }));
            if self.is_own(&entry) {
                self.count(JobState::Queued, 1);
                self.place(entry, now);
            }
            if !wakes.is_empty() {
                out.push(Effect::Wake(wakes));
            }
        }
        self.next_waiting(job, out);
    }

    /// A change, replay or removal was written, or found nothing to do.
    pub fn changed(&mut self, job: JobId, done: Changed, now: Now, out: &mut Vec<Effect>) {
        self.in_journal.remove(&job);
        match done {
            Changed::Done(done) => self.change_done(job, *done, now, out),
            Changed::InPlace(state) => {
                let kind = crate::domain::EventKind::Updated;
                out.push(Effect::Told(Happened { job, kind, state, worker: None }));
            }
            Changed::Same(_)
            | Changed::Conflict(_)
            | Changed::AttemptsUsed(_)
            | Changed::DependedOn
            | Changed::NotFound => {}
        }
        self.next_waiting(job, out);
    }

    fn change_done(&mut self, job: JobId, done: ChangedJob, now: Now, out: &mut Vec<Effect>) {
        // What has ended is in no window: no need to look for it.
        let place = if done.from.is_terminal() { None } else { self.forget_place(job) };
        self.count(place.unwrap_or(done.from), -1);
        let entry = done.entry.filter(|entry| self.is_own(entry));
        let state = entry.as_ref().map(|entry| effective(entry.state, entry.run_at, now.store));
        if let Some(kind) = done.kind {
            out.push(Effect::Told(Happened { job, kind, state: state.unwrap_or(done.from), worker: None }));
        }
        if let (Some(entry), Some(state)) = (entry, state) {
            self.count(state, 1);
            self.place(entry, now);
        }
        if !done.wakes.is_empty() {
            out.push(Effect::Wake(done.wakes));
        }
    }

    /// Whether a job is of this queue. One that was moved within the shard just before may have been asked for here:
    /// the queue it is in now hears of it through the inbox.
    fn is_own(&mut self, entry: &LiveEntry) -> bool {
        let is_own = *entry.queue == *self.config.queue;
        self.is_count_doubtful |= !is_own;
        is_own
    }

    /// It could not be written; its caller has been told.
    pub fn interference_failed(&mut self, job: JobId, out: &mut Vec<Effect>) {
        self.in_journal.remove(&job);
        self.purging.remove(&job);
        self.next_waiting(job, out);
    }

    /// Takes a waiting job out of memory; the state it was counted under.
    fn forget_place(&mut self, job: JobId) -> Option<JobState> {
        self.note_left(job);
        if let Some((priority, key)) = self.purging.remove(&job) {
            if self.window(priority).remove(key) {
                return Some(JobState::Queued);
            }
            if let Some((_, _, state)) = self.deferred.remove(&key) {
                return Some(state);
            }
            let is_known = if key.run_at > self.now {
                Some(key.run_at) <= self.horizon
            } else {
                self.window(priority).covers(key)
            };
            if !is_known {
                // Only in the store, where its counter has been changed already.
                self.is_count_doubtful = true;
                return None;
            }
        }
        if self.windows.iter_mut().any(|window| window.remove_job(job)) {
            return Some(JobState::Queued);
        }
        let Some(key) = self.deferred.keys().find(|key| key.job == job).copied() else {
            // It was not in memory: whether it was counted as due is not known.
            self.is_count_doubtful = true;
            return None;
        };
        self.deferred.remove(&key).map(|(_, _, state)| state)
    }

    /// What waited for the job's op in the journal gets its turn.
    pub(super) fn next_waiting(&mut self, job: JobId, out: &mut Vec<Effect>) {
        while !self.is_busy(job) {
            let Some(waiting) = self.waiting.get_mut(&job) else { break };
            let Some(next) = waiting.pop_front() else {
                self.waiting.remove(&job);
                break;
            };
            match next {
                Waiting::Report { session, fence, report, tag } => {
                    self.report(session, job, fence, report, tag, out);
                }
                Waiting::Interfere { what, tag } => self.interfere(job, what, tag, out),
                Waiting::Log { said, tag } => self.log(said, tag, out),
                Waiting::SessionEnded { fence, charged } => self.session_ended(job, fence, charged, out),
            }
        }
    }
}
