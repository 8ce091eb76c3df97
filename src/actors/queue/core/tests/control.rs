//! Orders of operators in the model, and what they promise one by one.

use super::*;
use crate::{
    domain::{QueueConfig, QueuePatch, SubmitDefaults},
    store::ops::{Requester, SubmitRefusal},
};

/// An order out of two numbers.
pub(super) fn order(what: u8, value: u32) -> QueueOrder {
    match what {
        0 => QueueOrder::Pause,
        1 => QueueOrder::Resume,
        2 => QueueOrder::Drain,
        3 => configure(&format!(r#"{{"concurrency":{value}}}"#)),
        4 => configure(&format!(r#"{{"agingSeconds":{value}}}"#)),
        _ => configure(r#"{"concurrency":null,"agingSeconds":null}"#),
    }
}

pub(super) fn configure(patch: &str) -> QueueOrder {
    let patch: QueuePatch = serde_json::from_str(patch).expect("well-formed");
    QueueOrder::Configure(Box::new(patch.check(&SubmitDefaults::default()).expect("valid")))
}

impl Rig {
    pub(super) fn order(&mut self, order: QueueOrder) {
        let by = Requester { actor: "op".into(), request_id: "r".into(), reason: None };
        self.step(|core, _, out| core.order(order, by, None, out));
    }

    /// Ends pause and drain, whatever is under way.
    pub(super) fn resume(&mut self) {
        self.order(QueueOrder::Resume);
        while self.writes.iter().any(|write| matches!(write, Write::Settings { .. })) {
            self.commit(0, false);
        }
        assert!(!self.row.paused && !self.row.draining);
    }

    pub(super) fn configure(&mut self, paused: Option<bool>, draining: Option<bool>, config: Option<String>) {
        self.row.paused = paused.unwrap_or(self.row.paused);
        self.row.draining = draining.unwrap_or(self.row.draining);
        self.row.config = config.or(self.row.config.take());
        let row = self.row.clone();
        self.step(|core, _, out| core.configured(&row, out));
    }

    pub(super) fn grants_under_way(&self) -> usize {
        self.writes.iter().filter(|write| matches!(write, Write::Grant { .. })).count()
    }

    /// What is granted is the first among those that its worker's type allows: by priority, as far as waiting
    /// has not lifted it, and then by time.
    pub(super) fn check_order(&self, granted: JobId) {
        let live = &self.live[&granted];
        let key = ReadyKey { run_at: live.run_at, job: granted };
        let rank = self.core.rank(live.priority, key);
        let before = (0..10_i16).zip(&self.core.windows).any(|(priority, window)| {
            window.iter().any(|(other, kind)| {
                self.core.rank(priority, other) < rank
                    && **kind == *live.kind
                    && !self.core.in_journal.contains_key(&other.job)
            })
        });
        assert!(!before, "{granted} was granted before another of its type that is ahead");
    }

    /// A grant that was just written: the queue is not paused, nor about to be, and has room.
    pub(super) fn check_control(&self) {
        assert!(!self.row.paused, "nothing is granted while the queue is paused");
        let stops = |write: &Write| matches!(write, Write::Settings { paused: Some(true), .. });
        assert!(!self.writes.iter().any(stops), "nor while it is about to be");
        if let Some(most) = QueueConfig::from_stored(self.row.config.as_deref()).concurrency {
            let leased = self.live.values().filter(|live| live.lease.is_some()).count();
            let running = leased + self.grants_under_way();
            assert!(running <= usize::try_from(most).expect("small"), "{running} run, {most} may");
        }
    }

    pub(super) fn check_drained(&self) {
        for (job, live) in &self.live {
            let waits_on = live.state == JobState::Scheduled && live.run_at > self.now.store;
            assert!(live.lease.is_none() && waits_on, "{job} is left behind: {live:?}");
        }
    }

    /// As the actor does, when nothing is under way.
    pub(super) fn recount(&mut self) {
        if self.core.in_journal() > 0 || !self.core.take_count_doubt() {
            return;
        }
        let mut counts = [0_i64; 9];
        for live in self.live.values() {
            let state = match live.state {
                _ if live.lease.is_some() => JobState::Active,
                state if state.is_deferred() && live.run_at <= self.now.store => JobState::Queued,
                state => state,
            };
            counts[usize::try_from(state.code()).expect("small")] += 1;
        }
        for (state, _) in self.ended.values() {
            counts[usize::try_from(state.code()).expect("small")] += 1;
        }
        self.step(|core, _, out| core.counted(counts, out));
    }

    /// Everything under way is answered.
    fn settle(&mut self) {
        while !self.writes.is_empty() || !self.readings.is_empty() {
            self.commit(0, false);
            self.read(0, false);
        }
    }

    fn set(&mut self, order: QueueOrder) {
        self.order(order);
        self.settle();
    }

    fn session(&mut self, credits: usize) -> SessionId {
        let id = SessionId::new();
        self.sessions.insert(id);
        let info = SessionInfo { worker: WorkerId("w".into()), types: None };
        self.step(|core, _, out| core.session_up(id, info, out));
        self.step(|core, _, out| core.credit(id, credits, out));
        id
    }

    fn complete_one(&mut self) {
        let (job, fence) = self.nth_started(0).expect("one runs");
        let session = self.live[&job].lease.expect("leased").1;
        self.started.remove(&job);
        self.step(|core, _, out| core.report(session, job, fence, Report::Completed(None), None, out));
        self.settle();
    }

    fn newest(&self) -> JobId {
        JobId(Uuid::from_u128(self.made as u128))
    }
}

fn rig() -> Rig {
    let mut rig = Rig::new(WIDE);
    rig.settle();
    rig
}

#[test]
fn a_paused_queue_grants_nothing_and_gives_credits_back_at_once() {
    let mut rig = rig();
    rig.set(QueueOrder::Pause);
    rig.submit(3, 5, 0, 0);
    let session = rig.session(7);
    assert_eq!((rig.granted.len(), rig.returned), (0, 7));
    rig.set(QueueOrder::Resume);
    rig.step(|core, _, out| core.credit(session, 2, out));
    assert_eq!(rig.granted.len(), 2);
    // From the moment it is asked for, not only when it is written.
    rig.settle();
    rig.order(QueueOrder::Pause);
    rig.step(|core, _, out| core.credit(session, 2, out));
    assert_eq!(rig.granted.len(), 2);
    // A pause that could not be written is none.
    let nth = rig.writes.len() - 1;
    rig.commit(nth, true);
    rig.step(|core, _, out| core.credit(session, 2, out));
    assert_eq!(rig.granted.len(), 3);
}

#[test]
fn no_more_run_than_may_and_a_new_bound_holds_at_once() {
    let mut rig = rig();
    rig.set(configure(r#"{"concurrency":2}"#));
    rig.submit(8, 5, 0, 0);
    let session = rig.session(10);
    assert_eq!((rig.granted.len(), rig.returned), (2, 8), "what is not needed goes back");
    rig.settle();
    rig.complete_one();
    rig.step(|core, _, out| core.credit(session, 5, out));
    assert_eq!(rig.granted.len(), 3);
    rig.settle();
    // Lowered below what runs: nothing starts until enough have ended.
    rig.set(configure(r#"{"concurrency":1}"#));
    rig.complete_one();
    rig.step(|core, _, out| core.credit(session, 5, out));
    assert_eq!(rig.granted.len(), 3);
    rig.complete_one();
    rig.step(|core, _, out| core.credit(session, 5, out));
    assert_eq!(rig.granted.len(), 4);
    rig.settle();
    rig.set(configure(r#"{"concurrency":null}"#));
    rig.step(|core, _, out| core.credit(session, 5, out));
    assert_eq!(rig.granted.len(), 8);
}

#[test]
fn waiting_lifts_priority_by_one_for_each_step_and_time_decides_among_equals() {
    let mut rig = rig();
    rig.set(configure(r#"{"agingSeconds":10}"#));
    // Paused, so that the order is decided when all are there.
    rig.set(QueueOrder::Pause);
    let made = |rig: &mut Rig, priority| {
        rig.submit(1, priority, 0, 0);
        rig.newest()
    };
    let old_low = made(&mut rig, 0);
    rig.pass(15_000);
    let low = made(&mut rig, 2);
    rig.pass(5_001);
    // 20 s old: 0 counts as 2. 5 s old: 2 counts as 2. New ones as they are.
    let middle = made(&mut rig, 2);
    let high = made(&mut rig, 3);
    let low_again = made(&mut rig, 1);
    rig.set(QueueOrder::Resume);
    rig.session(5);
    assert_eq!(rig.granted, [high, old_low, low, middle, low_again]);
    rig.settle();
    // No higher than 9, and there by time.
    rig.granted.clear();
    rig.set(QueueOrder::Pause);
    let ancient = made(&mut rig, 1);
    rig.pass(1_000_000);
    let top = made(&mut rig, 9);
    rig.set(configure(r#"{"agingSeconds":null}"#));
    assert_eq!(rig.core.position(top, 9, rig.now.store), Some(1));
    rig.set(configure(r#"{"agingSeconds":10}"#));
    assert_eq!(rig.core.position(top, 9, rig.now.store), Some(2));
    rig.set(QueueOrder::Resume);
    rig.session(2);
    assert_eq!(rig.granted, [ancient, top]);
}

#[test]
fn a_drain_finishes_what_is_queued_and_runs_and_then_pauses() {
    let mut rig = rig();
    rig.submit(3, 5, 0, 0);
    rig.submit(1, 5, 500_000, 0);
    rig.set(QueueOrder::Drain);
    assert_eq!(rig.core.refusal(0), Some(SubmitRefusal::Draining { index: 0, queue: "q".into() }));
    rig.session(2);
    rig.settle();
    for left in [2, 1] {
        rig.pass(250);
        assert!(!rig.row.paused, "{left} are left");
        rig.complete_one();
    }
    rig.pass(250);
    assert!(!rig.row.paused, "one waits still");
    rig.session(1);
    rig.settle();
    rig.complete_one();
    rig.pass(250);
    rig.settle();
    assert!(rig.row.paused && rig.row.draining);
    assert_eq!(rig.live.len(), 1, "what is scheduled stays");
    rig.set(QueueOrder::Resume);
    assert_eq!(rig.core.refusal(0), None);
}

#[test]
fn orders_are_written_one_after_the_other_as_they_came() {
    let mut rig = rig();
    rig.order(QueueOrder::Pause);
    rig.order(QueueOrder::Resume);
    rig.order(configure(r#"{"concurrency":4}"#));
    rig.order(configure(r#"{"maxDepth":9}"#));
    let settings = |rig: &Rig| rig.writes.iter().filter(|w| matches!(w, Write::Settings { .. })).count();
    assert_eq!(settings(&rig), 1);
    rig.settle();
    assert!(!rig.row.paused);
    let config = QueueConfig::from_stored(rig.row.config.as_deref());
    assert_eq!((config.concurrency, config.max_depth), (Some(4), Some(9)), "each sees those before it");
}

#[test]
fn the_depth_counts_what_waits_and_what_is_coming() {
    let mut rig = rig();
    rig.set(configure(r#"{"maxDepth":3}"#));
    rig.submit(1, 5, 0, 0);
    rig.submit(1, 5, 500_000, 0);
    assert_eq!(rig.core.refusal(0), None);
    let full = SubmitRefusal::QueueFull { index: 0, queue: "q".into(), max_depth: 3 };
    assert_eq!(rig.core.refusal(1), Some(full));
    rig.session(1);
    rig.settle();
    assert_eq!(rig.core.refusal(1), None, "one runs");
}

#[test]
fn the_lease_time_is_set_for_new_leases_and_only_prolongs_running_ones() {
    let mut rig = rig();
    rig.submit(2, 5, 0, 0);
    rig.session(1);
    rig.settle();
    rig.set(configure(r#"{"leaseTtlSeconds":2}"#));
    assert_eq!(rig.core.leases().shortest_ttl_ms(), Some(TTL_MS));
    rig.session(1);
    rig.settle();
    assert_eq!(rig.core.leases().shortest_ttl_ms(), Some(2_000));
    rig.set(configure(r#"{"leaseTtlSeconds":60}"#));
    assert_eq!(rig.core.leases().shortest_ttl_ms(), Some(60_000));
}
