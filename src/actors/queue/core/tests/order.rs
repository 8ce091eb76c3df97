//! Strict order while what waits is still being read.

use super::{control::configure, rig::Reading, *};

impl Rig {
    /// The core begins anew with what is in the store: nothing has been read yet.
    fn restart(&mut self) {
        self.readings.clear();
        self.core = QueueCore::new(self.core.config.clone(), 7);
        let (now, config) = (self.now, self.row.config.clone());
        self.step(|core, _, out| {
            core.load(Loaded { config, ..Loaded::default() }, |_| Holder::Gone, now, out)
        });
        let (id, info) = (SessionId::new(), SessionInfo { worker: WorkerId("w".into()), types: None });
        self.sessions.insert(id);
        self.step(|core, _, out| core.session_up(id, info, out));
        self.step(|core, _, out| core.credit(id, 3, out));
    }

    /// The reading of one priority is answered.
    fn read_priority(&mut self, wanted: i16, fails: bool) {
        let is_it =
            |reading: &Reading| matches!(reading, Reading::Window { priority, .. } if *priority == wanted);
        let nth = self.readings.iter().position(is_it).expect("it is being read");
        self.read(nth, fails);
    }
}

/// A queue with a job of priority 8, and one of priority 9 that came after it.
fn backlog() -> (Rig, JobId, JobId) {
    let mut rig = Rig::new(WIDE);
    rig.submit(1, 8, 0, 0);
    let lower = JobId(Uuid::from_u128(rig.made as u128));
    rig.pass(10);
    rig.submit(1, 9, 0, 0);
    let higher = JobId(Uuid::from_u128(rig.made as u128));
    (rig, lower, higher)
}

#[test]
fn a_lower_priority_is_not_granted_while_a_higher_one_is_being_read() {
    let (mut rig, lower, higher) = backlog();
    rig.restart();
    rig.read_priority(8, false);
    assert!(rig.granted.is_empty(), "what waits at priority 9 is not known yet");
    rig.read_priority(9, false);
    assert_eq!(rig.granted, [higher, lower]);
}

#[test]
fn one_that_waiting_has_lifted_may_come_from_any_window() {
    let (mut rig, lower, higher) = backlog();
    rig.order(configure(r#"{"agingSeconds":1}"#));
    rig.commit(0, false);
    rig.pass(5_000);
    rig.restart();
    rig.read_priority(9, false);
    assert!(rig.granted.is_empty(), "an older one may wait at any priority");
    for priority in 0..9 {
        rig.read_priority(priority, false);
    }
    assert_eq!(rig.granted, [lower, higher]);
}

#[test]
fn a_priority_that_cannot_be_read_does_not_stop_the_others_for_ever() {
    let (mut rig, lower, _) = backlog();
    rig.restart();
    rig.read_priority(8, false);
    for _ in 0..4 {
        assert!(rig.granted.is_empty());
        rig.read_priority(9, true);
        rig.pass(250);
    }
    assert_eq!(rig.granted, [lower]);
}

#[test]
fn a_window_that_ran_empty_is_read_on_before_a_lower_priority_has_its_turn() {
    let mut rig = Rig::new(WIDE);
    rig.submit(1, 1, 0, 0);
    rig.submit(WINDOW + 1, 9, 0, 0);
    rig.restart();
    rig.step(|core, _, out| {
        let sessions: Vec<SessionId> = core.sessions.keys().copied().collect();
        core.credit(sessions[0], 3 * WINDOW, out);
    });
    for priority in 0..10 {
        rig.read_priority(priority, false);
    }
    assert_eq!(rig.granted.len(), WINDOW, "the last of priority 9 is only in the store");
    rig.read_priority(9, false);
    assert_eq!(rig.granted.len(), WINDOW + 2);
    assert_eq!(rig.live[&rig.granted[WINDOW]].priority, 9);
}

#[test]
fn what_becomes_due_while_it_is_read_does_not_hold_the_others_back_again_and_again() {
    let (mut rig, lower, higher) = backlog();
    let what = Interference::Cancel { reason: "asked".into(), unstarted_only: false, by: None };
    rig.step(|core, _, out| core.interfere(higher, what, None, out));
    while !rig.writes.is_empty() {
        rig.commit(0, false);
    }
    rig.restart();
    rig.read_priority(8, false);
    // Time passes all that is known before the answer: the windows are reopened.
    rig.pass(100_000);
    rig.read_priority(9, false);
    rig.readings.retain(|reading| !matches!(reading, Reading::Deferred { .. }));
    assert_eq!(rig.granted, [lower]);
}
