//! Retries, changes, replays and removals in the model of the store, and jobs that come back from another queue.

use super::{
    rig::{Live, Rig, entry, kind_name},
    *,
};
use crate::{
    domain::{EventKind, ShardId},
    store::ops::{ChangedJob, JobPatch},
};

impl Rig {
    pub(super) fn change(&mut self, job: JobId, what: Interference) -> Changed {
        match what {
            Interference::Update { patch, .. } => self.update(job, &patch),
            Interference::Replay { .. } => self.replay(job),
            Interference::Forget { .. } => self.forget(job),
            Interference::Cancel { .. } | Interference::Retry { .. } => Changed::NotFound,
        }
    }

    pub(super) fn retry(&mut self, job: JobId) -> Retried {
        let now = self.now.store;
        if let Some(live) = self.live.get_mut(&job) {
            if live.lease.is_some() {
                return Retried::Conflict(JobState::Active);
            }
            if live.state == JobState::Queued || live.run_at <= now {
                return Retried::AlreadyQueued;
            }
            let from = live.state;
            (live.state, live.run_at, live.gate) = (JobState::Queued, now, None);
            return Retried::Done { entry: entry(job, live), from, wakes: Vec::new() };
        }
        match self.ended.get(&job) {
            Some((JobState::Failed, fence)) => {
                let live = Live {
                    state: JobState::Queued,
                    priority: 1,
                    run_at: now,
                    kind: kind_name(0),
                    gate: None,
                    fence: *fence,
                    attempt: 0,
                    deaths: 0,
                    lease: None,
                };
                let (from, wakes) = (JobState::Failed, Vec::new());
                let done = Retried::Done { entry: entry(job, &live), from, wakes };
                self.ended.remove(&job);
                self.live.insert(job, live);
                done
            }
            Some((state, _)) => Retried::Conflict(*state),
            None => Retried::NotFound,
        }
    }

    fn update(&mut self, job: JobId, patch: &JobPatch) -> Changed {
        let now = self.now.store;
        let Some(live) = self.live.get_mut(&job) else { return self.no_change(job) };
        if live.lease.is_some() {
            return Changed::Conflict(JobState::Active);
        }
        if live.state.is_deferred() && live.gate.is_none() && live.run_at <= now {
            live.state = JobState::Queued;
        }
        let from = live.state;
        if patch.queue.is_some() {
            live.gate = None;
            let live = self.live.remove(&job).expect("was there");
            self.moved.insert(job, live);
            return done(from, None, Some(EventKind::Updated), vec![ShardId(9)]);
        }
        let was = (live.priority, live.run_at);
        live.priority = patch.priority.unwrap_or(live.priority);
        let run_at = patch.run_at.map(|at| at.max(now)).filter(|at| *at > now || from != JobState::Queued);
        if let Some(run_at) = run_at {
            live.run_at = run_at;
            live.state = if run_at > now { JobState::Scheduled } else { JobState::Queued };
            live.gate = None;
        }
        if was == (live.priority, live.run_at) {
            return Changed::Same(from);
        }
        if live.gate.is_some() {
            return Changed::InPlace(live.state);
        }
        done(from, Some(entry(job, live)), Some(EventKind::Updated), Vec::new())
    }

    fn replay(&mut self, job: JobId) -> Changed {
        if !matches!(self.ended.get(&job), Some((JobState::Failed, _))) {
            return self.no_change(job);
        }
        match self.retry(job) {
            Retried::Done { entry, from, wakes } => done(from, Some(entry), Some(EventKind::Replayed), wakes),
            other => panic!("a failed job can be run again: {other:?}"),
        }
    }

    fn forget(&mut self, job: JobId) -> Changed {
        let Some((state, _)) = self.ended.remove(&job) else { return self.no_change(job) };
        self.forgotten += 1;
        done(state, None, None, Vec::new())
    }

    fn no_change(&self, job: JobId) -> Changed {
        match (self.live.get(&job), self.ended.get(&job)) {
            (Some(live), _) => Changed::Conflict(live.state),
            (None, Some((state, _))) => Changed::Conflict(*state),
            (None, None) => Changed::NotFound,
        }
    }

    /// One of those that went to another queue comes back, as the inbox tells of it.
    pub(super) fn arrive(&mut self, nth: usize) {
        let Some(job) = self.moved.keys().nth(nth % self.moved.len().max(1)).copied() else { return };
        let live: Live = self.moved.remove(&job).expect("was there");
        let entry = entry(job, &live);
        self.live.insert(job, live);
        self.step(|core, now, out| {
            core.made(entry, now, out);
            core.dispatch_now(out);
        });
    }
}

fn done(from: JobState, entry: Option<LiveEntry>, kind: Option<EventKind>, wakes: Vec<ShardId>) -> Changed {
    Changed::Done(Box::new(ChangedJob { from, entry, kind, wakes }))
}

#[test]
fn a_job_that_moved_away_and_back_runs_once() {
    let mut rig = Rig::new(WIDE);
    rig.submit(3, 1, 0, 0);
    rig.submit(2, 1, 20_000, 0);
    for job in rig.live.keys().copied().collect::<Vec<_>>() {
        let patch = Box::new(JobPatch { queue: Some("elsewhere".into()), ..JobPatch::default() });
        let what = Interference::Update { patch, by: rig::somebody() };
        rig.step(|core, _, out| core.interfere(job, what, None, out));
        rig.commit(0, false);
    }
    assert_eq!(rig.core.counts().iter().sum::<i64>(), 0, "the other queue counts them");
    while !rig.readings.is_empty() {
        rig.read(0, false);
    }
    rig.arrive(0);
    rig.arrive(0);
    assert_eq!(rig.core.counts().iter().sum::<i64>(), 2);
    rig.drain();
    assert_eq!((rig.ended.len(), rig.moved.len()), (2, 3));
}

#[test]
fn a_parked_job_that_is_changed_stays_behind_its_gate() {
    let mut rig = Rig::new(WIDE);
    while !rig.readings.is_empty() {
        rig.read(0, false);
    }
    let id = SessionId::new();
    let types = Some(HashSet::from([rig::kind_name(1)]));
    let info = SessionInfo { worker: WorkerId("w".into()), types };
    rig.step(|core, _, out| core.session_up(id, info, out));
    rig.submit(1, 1, 0, 0);
    rig.commit(0, false);
    let job = *rig.live.keys().next().expect("made");
    assert!(rig.live[&job].gate.is_some(), "nobody handles its type");
    let patch = Box::new(JobPatch { priority: Some(2), ..JobPatch::default() });
    let what = Interference::Update { patch, by: rig::somebody() };
    rig.step(|core, _, out| core.interfere(job, what, None, out));
    rig.commit(0, false);
    assert!(rig.live[&job].gate.is_some());
    assert!(rig.core.windows.iter().all(Window::is_empty));
    rig.drain();
}
