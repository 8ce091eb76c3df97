//! Who gets what: from the windows, against lent credits, to the journal.

use super::*;

/// What the pick of an entry found.
enum Pick {
    Grant(ReadyKey, SessionId),
    Park(ReadyKey),
    Busy,
}

impl QueueCore {
    /// Gives leases while there are credits and ready jobs, strictly by priority, first in first out
    /// within one; parks jobs whose type no worker handles; announces what is left.
    pub(super) fn dispatch(&mut self, out: &mut Vec<Effect>) {
        if self.sessions.is_empty() {
            return;
        }
        let mut room = self.room();
        if self.is_stopped() || !self.granting || room == 0 {
            // Lent before it was known: other queues may need them.
            self.return_credits(out);
            return;
        }
        let mut credits: usize = self.sessions.values().map(|session| session.credits).sum();
        if self.control.config.aging_seconds.is_some() {
            self.dispatch_by_rank(&mut credits, &mut room, out);
        } else {
            for priority in (0..10_i16).rev() {
                while room > 0 && self.in_journal() < IN_JOURNAL_MAX {
                    match self.pick(priority, credits > 0) {
                        Pick::Grant(key, session) => {
                            self.grant(key, priority, session, out);
                            credits -= 1;
                            room -= 1;
                        }
                        Pick::Park(key) => self.park(key, priority, out),
                        Pick::Busy => break,
                    }
                }
                if self.window(priority).holds_back().is_some() {
                    // Whether it has more is being read: what is lower must not overtake it.
                    break;
                }
            }
        }
        self.flush_parking(out);
        self.refill(out);
        if room > 0 {
            self.announce(out);
        } else {
            self.return_credits(out);
        }
    }

    /// Gives leases in the order of ranks: waiting has lifted priorities, so the heads of all windows compete.
    fn dispatch_by_rank(&mut self, credits: &mut usize, room: &mut usize, out: &mut Vec<Effect>) {
        let mut picks: [Option<Pick>; 10] = [const { None }; 10];
        while *room > 0 && self.in_journal() < IN_JOURNAL_MAX {
            let mut best: Option<((i16, ReadyKey), i16, SessionId)> = None;
            let mut parked = None;
            for (priority, known) in (0..10_i16).zip(&mut picks) {
                match known.get_or_insert_with(|| self.pick(priority, *credits > 0)) {
                    Pick::Grant(key, session) => {
                        let rank = self.rank(priority, *key);
                        if best.is_none_or(|(first, ..)| rank < first) {
                            best = Some((rank, priority, *session));
                        }
                    }
                    Pick::Park(key) => parked = Some((*key, priority)),
                    Pick::Busy => {}
                }
            }
            if let Some((key, priority)) = parked {
                self.park(key, priority, out);
                picks[usize::try_from(priority).unwrap_or(0)] = None;
                continue;
            }
            let Some((rank @ (_, key), priority, session)) = best else { break };
            if self.may_be_overtaking(rank) {
                break;
            }
            self.grant(key, priority, session, out);
            *credits -= 1;
            *room -= 1;
            picks[usize::try_from(priority).unwrap_or(0)] = None;
            if self.sessions.get(&session).is_none_or(|session| session.credits == 0) {
                // Others may have been meant for the same one.
                picks = [const { None }; 10];
            }
        }
    }

    /// Whether a job that is only in the store may be ahead of this rank.
    fn may_be_overtaking(&self, rank: (i16, ReadyKey)) -> bool {
        (0..10_i16).zip(&self.windows).any(|(priority, window)| {
            let first = ReadyKey { run_at: Timestamp(i64::MIN), job: JobId(uuid::Uuid::nil()) };
            window.holds_back().is_some_and(|behind| self.rank(priority, behind.unwrap_or(first)) < rank)
        })
    }

    /// As a dispatch, after several jobs were taken in.
    pub fn dispatch_now(&mut self, out: &mut Vec<Effect>) {
        self.dispatch(out);
    }

    /// The first entry of a priority that can be granted or must be parked.
    fn pick(&self, priority: i16, has_credit: bool) -> Pick {
        let index = usize::try_from(priority).unwrap_or(0);
        for (key, kind) in self.windows[index].iter().take(LOOKAHEAD_MAX) {
            if self.in_journal.contains_key(&key.job) {
                // It is being canceled or retried: that is decided first.
                continue;
            }
            let able = self.sessions.iter().filter(|(_, session)| session.handles(kind));
            let mut is_handled = false;
            let mut best: Option<(usize, SessionId)> = None;
            for (id, session) in able {
                is_handled = true;
                if session.credits > best.map_or(0, |(credits, _)| credits) {
                    best = Some((session.credits, *id));
                }
            }
            match best {
                _ if !is_handled => return Pick::Park(key),
                Some((_, session)) => return Pick::Grant(key, session),
                // Nobody has room at all: no use in looking on for another type.
                None if !has_credit => return Pick::Busy,
                None => {}
            }
        }
        Pick::Busy
    }

    fn grant(&mut self, key: ReadyKey, priority: i16, id: SessionId, out: &mut Vec<Effect>) {
        let Some(kind) = self.window(priority).take(key) else { return };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.credits -= 1;
        let worker = session.info.worker.clone();
        self.note_left(key.job);
        self.grant_counter = self.grant_counter.wrapping_add(1);
        let floor = Fence::floor(self.config.owner.epoch, self.grant_counter);
        self.grants_in_journal += 1;
        self.in_journal.insert(key.job, InJournal::Grant { session: id, key, priority, kind });
        out.push(Effect::Write(Write::Grant { job: key.job, floor, session: id, worker }, None));
    }

    /// A lease was given.
    pub fn granted(&mut self, granted: Box<Granted>, now: Now, out: &mut Vec<Effect>) {
        let job = granted.job;
        let Some(InJournal::Grant { session, .. }) = self.in_journal.remove(&job) else { return };
        self.grants_in_journal -= 1;
        // Whether it was seen to become due, or was read as due, decides how it was counted.
        self.is_count_doubtful |= granted.from.is_deferred();
        let Some(worker) = self.sessions.get(&session).map(|session| session.info.worker.clone()) else {
            // The session ended while the commit was under way: nobody has seen the job.
            self.count(JobState::Queued, -1);
            self.count(JobState::Active, 1);
            self.leases.insert(job, self.lease_of(&granted, session, WorkerId("".into()), now));
            self.give_back(job, granted.fence, "undelivered", out);
            return;
        };
        self.count(JobState::Queued, -1);
        self.count(JobState::Active, 1);
        self.leases.insert(job, self.lease_of(&granted, session, worker.clone(), now));
        self.tell(job, JobState::Active, Some(worker), out);
        out.push(Effect::Start(granted, session));
        self.next_waiting(job, out);
    }

    fn lease_of(&self, granted: &Granted, session: SessionId, worker: WorkerId, now: Now) -> Lease {
        Lease {
            fence: granted.fence,
            session,
            worker,
            attempt: granted.attempt,
            max_attempts: granted.max_attempts,
            deaths: granted.deaths,
            kind: granted.kind.clone(),
            retry: granted.retry,
            granted_at: granted.granted_at,
            run_at: granted.run_at,
            ttl_ms: self.lease_ttl_ms(),
            expires_ms: now.mono_ms.saturating_add(self.lease_ttl_ms()),
            renewed_ms: now.mono_ms,
            cancel_requested: false,
            cancel_by_ms: None,
            timeout_by_ms: timeout_by(
                now,
                granted.granted_at,
                granted.timeout_seconds,
                self.config.lease_ttl_ms,
            ),
            actor_failures: 0,
        }
    }

    /// The job was not ready as believed: memory is wrong somewhere, and is read anew.
    pub fn not_ready(&mut self, job: JobId, out: &mut Vec<Effect>) {
        if let Some(InJournal::Grant { session, .. }) = self.in_journal.remove(&job) {
            self.grants_in_journal -= 1;
            self.refund(session);
            out.push(Effect::Reload("a grant found its job not ready"));
        }
    }

    /// A grant could not be written for a passing reason: the job goes back to its place.
    pub fn grant_failed(&mut self, job: JobId, out: &mut Vec<Effect>) {
        match self.in_journal.remove(&job) {
            Some(InJournal::Grant { session, key, priority, kind }) => {
                self.grants_in_journal -= 1;
                self.refund(session);
                self.window(priority).insert(key, kind);
            }
            Some(other) => {
                self.in_journal.insert(job, other);
            }
            None => {}
        }
        self.next_waiting(job, out);
    }

    /// Credits that could not be given back stay.
    pub fn keep_credits(&mut self, session: SessionId, count: usize) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.credits += count;
        }
    }

    /// Whether leases are given at all.
    #[must_use]
    pub fn is_granting_at_all(&self) -> bool {
        self.granting
    }

    /// A job has left its place: a reading under way may still bring it.
    pub(super) fn note_left(&mut self, job: JobId) {
        if self.loading_deferred.is_some() {
            self.left_while_loading.insert(job);
        }
    }

    pub(super) fn refund(&mut self, session: SessionId) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.credits += 1;
        }
    }

    pub(super) fn refill(&mut self, out: &mut Vec<Effect>) {
        for priority in (0..10_i16).rev() {
            if let Some((after, limit)) = self.window(priority).start_refill() {
                out.push(Effect::Refill { priority, after, limit });
            }
        }
    }

    fn announce(&mut self, out: &mut Vec<Effect>) {
        if self.windows.iter().all(Window::is_empty) {
            return;
        }
        for (id, session) in &mut self.sessions {
            if session.credits == 0 && !session.announced {
                session.announced = true;
                session.unheard_ticks = 0;
                out.push(Effect::Announce(*id));
            }
        }
    }

    /// Gives back what no ready job needs: other queues may.
    pub(super) fn return_credits(&mut self, out: &mut Vec<Effect>) {
        let may_grant = !self.is_stopped() && self.granting && self.room() > 0;
        if may_grant && self.windows.iter().any(|window| !window.is_empty()) {
            return;
        }
        for (id, session) in &mut self.sessions {
            if session.credits > 0 {
                out.push(Effect::ReturnCredits(*id, std::mem::take(&mut session.credits)));
            }
        }
    }

    fn park(&mut self, key: ReadyKey, priority: i16, out: &mut Vec<Effect>) {
        let Some(kind) = self.window(priority).take(key) else { return };
        self.note_left(key.job);
        self.oldest_parked = Some(self.oldest_parked.map_or(key.run_at, |oldest| oldest.min(key.run_at)));
        let parked = self.parking.entry(kind.clone()).or_default();
        parked.push((key, priority));
        if parked.len() >= PARK_MAX {
            self.flush_parking(out);
        }
    }

    fn flush_parking(&mut self, out: &mut Vec<Effect>) {
        for (kind, jobs) in std::mem::take(&mut self.parking) {
            for (key, _) in &jobs {
                self.in_journal.insert(key.job, InJournal::Park);
            }
            let op = ParkOp {
                owner: self.config.owner,
                jobs: jobs.iter().map(|(key, _)| key.job).collect(),
                gate: format!("type:{kind}"),
            };
            out.push(Effect::Write(Write::Park(op), None));
        }
    }

    /// Jobs were parked behind a gate.
    pub fn parked(&mut self, gate: &str, jobs: &[JobId], count: i64, out: &mut Vec<Effect>) {
        *self.gates.entry(gate.to_owned()).or_default() += count;
        for job in jobs {
            self.in_journal.remove(job);
            self.next_waiting(*job, out);
        }
        // A worker that handles the type may have come meanwhile.
        self.open_gates(out);
    }

    /// Parking could not be written: what the memory lost is read anew.
    pub fn park_failed(&mut self, jobs: &[JobId], out: &mut Vec<Effect>) {
        for job in jobs {
            self.in_journal.remove(job);
        }
        out.push(Effect::Reload("parking failed"));
    }

    /// Opens the gates of types that a session handles.
    pub(super) fn open_gates(&mut self, out: &mut Vec<Effect>) {
        let open: Vec<String> = self
            .gates
            .keys()
            .filter(|gate| !self.opening.contains(*gate))
            .filter(|gate| {
                gate.strip_prefix("type:")
                    .is_some_and(|kind| self.sessions.values().any(|session| session.handles(kind)))
            })
            .cloned()
            .collect();
        for gate in open {
            self.opening.insert(gate.clone());
            self.unpark(gate, out);
        }
    }

    fn unpark(&mut self, gate: String, out: &mut Vec<Effect>) {
        self.bulk_in_journal += 1;
        let op = UnparkOp {
            owner: self.config.owner,
            queue: self.config.queue.clone(),
            gate,
            limit: i64::try_from(PARK_MAX).unwrap_or(500),
        };
        out.push(Effect::Write(Write::Unpark(op), None));
    }

    /// Jobs were released from a gate; a full step means that there are more.
    pub fn unparked(&mut self, gate: &str, entries: Vec<LiveEntry>, now: Now, out: &mut Vec<Effect>) {
        self.bulk_in_journal = self.bulk_in_journal.saturating_sub(1);
        let is_last = entries.len() < PARK_MAX;
        for entry in entries {
            self.place(entry, now);
        }
        if is_last {
            self.gates.remove(gate);
            self.opening.remove(gate);
            if self.gates.is_empty() {
                self.oldest_parked = None;
            }
        } else {
            self.unpark(gate.to_owned(), out);
        }
        self.dispatch(out);
    }

    /// Releasing could not be written; the next session or restart tries again.
    pub fn unpark_failed(&mut self, gate: &str) {
        self.bulk_in_journal = self.bulk_in_journal.saturating_sub(1);
        self.opening.remove(gate);
    }
}
