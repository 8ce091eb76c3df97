//! What ends though its worker goes on renewing: a cancel one TTL after it was asked, an attempt one TTL after its
//! time-out. And the order in which what a job says, and its end, are written.

use super::*;
use crate::domain::EventKind;

/// The timeout of the rig's jobs.
const TIMEOUT_MS: u64 = 300_000;

/// A job that runs, and its session.
fn running() -> (Rig, SessionId, JobId, Fence) {
    let mut rig = Rig::new(WIDE);
    let session = SessionId::new();
    rig.sessions.insert(session);
    let info = SessionInfo { worker: WorkerId("w".into()), types: None };
    rig.step(|core, _, out| core.session_up(session, info, out));
    rig.step(|core, _, out| core.credit(session, 4, out));
    while !rig.readings.is_empty() {
        rig.read(0, false);
    }
    rig.submit(1, 5, 0, 0);
    rig.commit(0, false);
    let (job, fence) = rig.nth_started(0).expect("it runs");
    (rig, session, job, fence)
}

fn cancel(rig: &mut Rig, job: JobId) {
    let what = Interference::Cancel { reason: "asked".into(), unstarted_only: false, by: None };
    rig.step(|core, _, out| core.interfere(job, what, None, out));
    rig.commit(0, false);
}

/// Lets `ms` pass in steps of a heartbeat's tenth, with a renewal at each; the writes that this brought.
fn renewing(rig: &mut Rig, job: JobId, fence: Fence, ms: u64) -> Vec<String> {
    for _ in 0..ms / 250 {
        rig.core.renew(&[(job, fence)], rig.now);
        rig.pass(250);
    }
    shown(rig)
}

fn shown(rig: &Rig) -> Vec<String> {
    let shown = |write: &Write| match write {
        Write::End { kind, .. } => format!("{kind:?}").split(' ').next().unwrap_or_default().to_owned(),
        Write::Log(said) => format!("Log from {}", said.first),
        other => format!("{other:?}"),
    };
    rig.writes.iter().map(shown).collect()
}

/// The effects of the commit of the first write under way.
fn committed(rig: &mut Rig, state: JobState) -> Vec<Effect> {
    let Write::End { job, .. } = rig.writes.remove(0) else { panic!("an end is under way") };
    let ended = Ended { state, at: rig.now.store, seq: 4, entry: None, wakes: Vec::new() };
    let mut out = Vec::new();
    rig.core.ended(job, ended, rig.now, &mut out);
    out
}

#[test]
fn a_cancel_is_forced_one_ttl_after_it_was_asked_however_often_the_lease_is_renewed() {
    let (mut rig, session, job, fence) = running();
    assert_eq!(renewing(&mut rig, job, fence, 2 * TTL_MS), [] as [&str; 0], "renewals keep a lease");
    cancel(&mut rig, job);
    assert_eq!(renewing(&mut rig, job, fence, TTL_MS / 2), [] as [&str; 0]);
    // Asked again it is not put off.
    cancel(&mut rig, job);
    assert_eq!(renewing(&mut rig, job, fence, TTL_MS / 2 - 500), [] as [&str; 0], "its worker has its time");
    assert_eq!(renewing(&mut rig, job, fence, 1_000), ["Canceled"]);
    let effects = committed(&mut rig, JobState::Canceled);
    let lost = |effect: &Effect| matches!(effect, Effect::TellLost(told, at, to) if (*told, *at, *to) == (job, fence, session));
    assert!(effects.iter().any(lost), "its session is told: {effects:?}");
    assert!(effects.iter().any(|effect| {
        matches!(effect, Effect::Told(Happened { kind: EventKind::Canceled, state: JobState::Canceled, .. }))
    }));
    assert_eq!(rig.core.renew(&[(job, fence)], rig.now), [(job, fence)], "and so is its next renewal");
}

#[test]
fn a_report_in_time_wins_over_the_force() {
    let (mut rig, session, job, fence) = running();
    cancel(&mut rig, job);
    renewing(&mut rig, job, fence, TTL_MS - 1_000);
    rig.step(|core, _, out| core.report(session, job, fence, Report::Completed(None), Some(1), out));
    rig.pass(2_000);
    assert_eq!(shown(&rig), ["Completed"]);
    let effects = committed(&mut rig, JobState::Completed);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::TellLost(..))), "it knows: {effects:?}");
}

#[test]
fn a_late_report_after_the_force_changes_nothing() {
    let (mut rig, session, job, fence) = running();
    cancel(&mut rig, job);
    assert_eq!(renewing(&mut rig, job, fence, TTL_MS + 500), ["Canceled"]);
    rig.started.remove(&job);
    // It comes while the end is under way, and waits for it; the store finds no such lease then.
    rig.step(|core, _, out| core.report(session, job, fence, Report::Completed(None), Some(1), out));
    rig.commit(0, false);
    assert_eq!(shown(&rig), ["Completed"]);
    rig.commit(0, false);
    assert_eq!(rig.ended[&job].0, JobState::Canceled);
    rig.drain();
}

#[test]
fn a_cancel_found_at_a_load_is_forced_one_ttl_after_the_load() {
    let (rig, session, job, fence) = running();
    let row = LeaseRow {
        job,
        queue: "q".into(),
        fence,
        attempt: 1,
        worker: WorkerId("w".into()),
        session,
        boot: crate::domain::BootId::new(),
        granted_at: rig.now.store,
        ttl_ms: i64::try_from(TTL_MS).expect("small"),
        cancel_requested: true,
        kind: kind_name(0),
        max_attempts: 4,
        timeout_seconds: 300,
        deaths: 0,
        priority: 5,
        retry: None,
    };
    let mut rig = rig;
    rig.core = QueueCore::new(rig.core.config.clone(), 7);
    rig.pass(5_000);
    let loaded = Loaded { leases: vec![row], ..Loaded::default() };
    rig.step(|core, now, out| core.load(loaded, |_| Holder::Live, now, out));
    assert_eq!(renewing(&mut rig, job, fence, TTL_MS - 500), [] as [&str; 0]);
    assert_eq!(renewing(&mut rig, job, fence, 1_000), ["Canceled"]);
}

#[test]
fn an_attempt_is_ended_as_a_failure_one_ttl_after_its_time_out() {
    let (mut rig, _, job, fence) = running();
    assert_eq!(renewing(&mut rig, job, fence, TIMEOUT_MS + TTL_MS - 500), [] as [&str; 0]);
    assert_eq!(renewing(&mut rig, job, fence, 1_000), ["Retry"], "another attempt follows");
    let Some(Write::End { kind: EndKind::Retry { error, delay_ms }, .. }) = rig.writes.first() else {
        panic!("an end")
    };
    assert_eq!(error.error_type, "timeout");
    assert!(*delay_ms > 0, "a time-out has its backoff");
    rig.started.remove(&job);
    rig.drain();
}

#[test]
fn a_silent_worker_is_a_death_and_no_time_out() {
    let (mut rig, _, job, _) = running();
    for _ in 0..(TTL_MS / 250 + 2) {
        rig.pass(250);
    }
    assert_eq!(shown(&rig), ["Recovered"]);
    rig.started.remove(&job);
    rig.drain();
}

#[test]
fn an_end_is_written_behind_the_lines_before_it_and_only_the_newest_lines_wait() {
    let (mut rig, session, job, fence) = running();
    let said = |first| Said { job, fence, first, lines: Vec::new() };
    rig.step(|core, _, out| core.log(said(1), Some(1), out));
    let mut out = Vec::new();
    rig.core.log(said(2), Some(2), &mut out);
    rig.core.log(said(2), Some(3), &mut out);
    assert!(matches!(out[..], [Effect::Forget(2)]), "{out:?}");
    rig.step(|core, _, out| core.report(session, job, fence, Report::Completed(None), Some(4), out));
    assert_eq!(shown(&rig), ["Log from 1"]);
    rig.commit(0, false);
    assert_eq!(shown(&rig), ["Log from 2"]);
    rig.commit(0, false);
    assert_eq!(shown(&rig), ["Completed"]);
    rig.commit(0, false);
    rig.started.remove(&job);
    rig.drain();
}

#[test]
fn the_third_worker_death_under_a_job_makes_it_poison_attempts_left_or_not() {
    let mut rig = Rig::new(WIDE);
    rig.submit(1, 5, 0, 0);
    let mut ends = Vec::new();
    for _ in 0..3 {
        let session = SessionId::new();
        rig.sessions.insert(session);
        let info = SessionInfo { worker: WorkerId("w".into()), types: None };
        rig.step(|core, _, out| core.session_up(session, info, out));
        rig.step(|core, _, out| core.credit(session, 1, out));
        while !rig.readings.is_empty() {
            rig.read(0, false);
        }
        rig.commit(0, false);
        let (job, _) = rig.nth_started(0).expect("it runs");
        rig.started.remove(&job);
        rig.sessions.remove(&session);
        rig.step(|core, _, out| core.session_down(session, true, out));
        let Some(Write::End { kind, .. }) = rig.writes.first() else { panic!("an end: {:?}", rig.writes) };
        ends.push(match kind {
            EndKind::Recovered { error } | EndKind::RecoveredFailed { error } => error.error_type.clone(),
            other => panic!("{other:?}"),
        });
        rig.commit(0, false);
    }
    assert_eq!(ends, ["lease_expired", "lease_expired", "poison"]);
    assert_eq!(rig.ended.len(), 1, "it has ended");
}
