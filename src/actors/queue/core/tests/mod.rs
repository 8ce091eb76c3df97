//! The core against a model of the store that keeps the contract: any order of requests, commits, lost
//! commits, readings and time, with windows so small that refills, trims and overlays are the rule.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use uuid::Uuid;

use super::*;
use crate::{domain::Epoch, store::ops::JobPatch};

mod changes;
mod control;
mod forced;
mod order;
mod rig;

use rig::{Limits, Rig, kind_name};

const WINDOW: usize = 10;
const TTL_MS: u64 = 30_000;
const TINY: Limits = Limits { load: 5, deferred: 8 };
const WIDE: Limits = Limits { load: DEFER_LOAD_MAX, deferred: DEFERRED_MAX };

/// What the transition sequence may do next.
#[derive(Debug, Clone)]
enum Step {
    Submit {
        priority: i16,
        delay_ms: i64,
        kind: u8,
    },
    /// Many become due at one instant.
    Burst {
        count: usize,
        priority: i16,
        delay_ms: i64,
    },
    Session {
        types: Option<Vec<u8>>,
    },
    SessionEnds {
        charged: bool,
    },
    Credit(usize),
    /// The store answers the `nth` write under way; or says that it cannot.
    Commit {
        nth: usize,
        fails: bool,
    },
    /// The store answers the `nth` reading under way; or says that it cannot.
    Read {
        nth: usize,
        fails: bool,
    },
    Report {
        nth: usize,
        how: u8,
    },
    Cancel {
        nth: usize,
    },
    Retry {
        nth: usize,
    },
    /// A waiting job gets another priority, another time, or goes to another queue.
    Update {
        nth: usize,
        priority: Option<i16>,
        delay_ms: Option<i64>,
        moves: bool,
    },
    /// One that went to another queue comes back.
    Arrive {
        nth: usize,
    },
    Replay {
        nth: usize,
    },
    Forget {
        nth: usize,
    },
    Time {
        ms: u64,
    },
    LeaseActorDies {
        nth: usize,
    },
    /// A worker renews what it has, wanted or not.
    Renew,
    /// A job says something.
    Log {
        nth: usize,
    },
    /// Pause, resume, drain, or set concurrency and aging.
    Order {
        what: u8,
        value: u32,
    },
}

#[derive(Debug)]
struct Random;

impl ReferenceStateMachine for Random {
    type State = Limits;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Limits> {
        prop::sample::select(&[TINY, WIDE]).boxed()
    }

    fn transitions(_: &Limits) -> BoxedStrategy<Step> {
        prop_oneof![
            12 => (0..3_i16, prop_oneof![4 => Just(0), 1 => 1..90_000_i64], 0..3_u8)
                .prop_map(|(priority, delay_ms, kind)| Step::Submit { priority, delay_ms, kind }),
            2 => (1..12_usize, 0..2_i16, prop::sample::select(&[1_000, 3_000, 20_000, 50_000, 70_000]))
                .prop_map(|(count, priority, delay_ms)| Step::Burst { count, priority, delay_ms }),
            1 => prop::option::of(prop::collection::vec(0..3_u8, 1..3)).prop_map(|types| Step::Session { types }),
            1 => any::<bool>().prop_map(|charged| Step::SessionEnds { charged }),
            6 => (1..5_usize).prop_map(Step::Credit),
            16 => (any::<usize>(), prop::bool::weighted(0.1)).prop_map(|(nth, fails)| Step::Commit { nth, fails }),
            8 => (any::<usize>(), prop::bool::weighted(0.1)).prop_map(|(nth, fails)| Step::Read { nth, fails }),
            8 => (any::<usize>(), 0..6_u8).prop_map(|(nth, how)| Step::Report { nth, how }),
            1 => any::<usize>().prop_map(|nth| Step::Cancel { nth }),
            1 => any::<usize>().prop_map(|nth| Step::Retry { nth }),
            3 => (any::<usize>(), prop::option::of(0..3_i16), prop::option::of(-100..90_000_i64), prop::bool::weighted(0.2))
                .prop_map(|(nth, priority, delay_ms, moves)| Step::Update { nth, priority, delay_ms, moves }),
            1 => any::<usize>().prop_map(|nth| Step::Arrive { nth }),
            1 => any::<usize>().prop_map(|nth| Step::Replay { nth }),
            1 => any::<usize>().prop_map(|nth| Step::Forget { nth }),
            4 => prop_oneof![9 => 1..2_000_u64, 1 => 20_000..70_000_u64].prop_map(|ms| Step::Time { ms }),
            1 => any::<usize>().prop_map(|nth| Step::LeaseActorDies { nth }),
            2 => Just(Step::Renew),
            2 => any::<usize>().prop_map(|nth| Step::Log { nth }),
            1 => (0..6_u8, 1..4_u32).prop_map(|(what, value)| Step::Order { what, value }),
        ]
        .boxed()
    }

    fn apply(limits: Limits, _: &Step) -> Limits {
        limits
    }
}

#[derive(Debug)]
struct CoreTest;

impl StateMachineTest for CoreTest {
    type SystemUnderTest = Rig;
    type Reference = Random;

    fn init_test(limits: &Limits) -> Rig {
        Rig::new(*limits)
    }

    fn apply(mut rig: Rig, _: &Limits, step: Step) -> Rig {
        match step {
            Step::Submit { priority, delay_ms, kind } => {
                rig.submit(1, priority, delay_ms, kind);
            }
            Step::Burst { count, priority, delay_ms } => rig.submit(count, priority, delay_ms, 0),
            Step::Session { types } => {
                let id = SessionId::new();
                rig.sessions.insert(id);
                rig.newest_session = Some(id);
                let types = types.map(|types| types.into_iter().map(kind_name).collect());
                let info = SessionInfo { worker: WorkerId("w".into()), types };
                rig.step(|core, _, out| core.session_up(id, info, out));
            }
            Step::SessionEnds { charged } => {
                let Some(id) = rig.newest_session.take() else { return rig };
                rig.sessions.remove(&id);
                let held: Vec<JobId> = rig
                    .live
                    .iter()
                    .filter(|(_, live)| live.lease.is_some_and(|(_, session, _)| session == id))
                    .map(|(job, _)| *job)
                    .collect();
                for job in held {
                    rig.started.remove(&job);
                }
                rig.step(|core, _, out| core.session_down(id, charged, out));
            }
            Step::Credit(credits) => {
                if let Some(id) = rig.newest_session {
                    rig.step(|core, _, out| core.credit(id, credits, out));
                }
            }
            Step::Commit { nth, fails } => {
                let is_park =
                    rig.writes.iter().any(|write| matches!(write, Write::Park(_) | Write::Unpark(_)));
                rig.commit(nth, fails && !is_park);
            }
            Step::Read { nth, fails } => rig.read(nth, fails),
            Step::Report { nth, how } => {
                let Some((job, fence)) = rig.nth_started(nth) else { return rig };
                let Some((_, session, _)) = rig.live.get(&job).and_then(|live| live.lease) else {
                    return rig;
                };
                let error = AttemptError { error_type: "e".into(), message: "m".into(), stack_trace: None };
                let report = match how {
                    0 | 1 => Report::Completed(None),
                    2 => Report::Failed { error, retryable: true, retry_after_ms: None },
                    3 => Report::Failed { error, retryable: false, retry_after_ms: Some(5) },
                    4 => Report::Released { reason: "r".into(), after_ms: None },
                    _ => Report::Released { reason: "r".into(), after_ms: Some(500) },
                };
                rig.started.remove(&job);
                rig.step(|core, _, out| core.report(session, job, fence, report, None, out));
            }
            Step::Cancel { nth } => {
                let Some(job) = rig.nth_job(nth) else { return rig };
                rig.step(|core, _, out| {
                    let what = Interference::Cancel { reason: "asked".into(), unstarted_only: false };
                    core.interfere(job, what, None, out);
                });
            }
            Step::Retry { nth } => {
                let Some(job) = rig.nth_job(nth) else { return rig };
                rig.step(|core, _, out| core.interfere(job, Interference::Retry, None, out));
            }
            Step::Update { nth, priority, delay_ms, moves } => {
                let Some(job) = rig.nth_job(nth) else { return rig };
                let run_at = delay_ms.map(|delay_ms| rig.now.store.plus_millis(delay_ms));
                let queue = moves.then(|| "elsewhere".to_owned());
                let patch = Box::new(JobPatch { priority, run_at, queue, ..JobPatch::default() });
                let what = Interference::Update { patch, by: rig::somebody() };
                rig.step(|core, _, out| core.interfere(job, what, None, out));
            }
            Step::Arrive { nth } => rig.arrive(nth),
            Step::Replay { nth } => {
                let Some(job) = rig.nth_job(nth) else { return rig };
                let what = Interference::Replay { patch: Box::default(), by: rig::somebody() };
                rig.step(|core, _, out| core.interfere(job, what, None, out));
            }
            Step::Forget { nth } => {
                let Some(job) = rig.nth_job(nth) else { return rig };
                let what = Interference::Forget { dead_letter_only: false, by: rig::somebody() };
                rig.step(|core, _, out| core.interfere(job, what, None, out));
            }
            Step::Time { ms } => rig.pass(ms),
            Step::Renew => {
                let held: Vec<_> = rig.started.iter().map(|(job, fence)| (*job, *fence)).collect();
                rig.core.renew(&held, rig.now);
            }
            Step::Log { nth } => {
                let Some((job, fence)) = rig.nth_started(nth) else { return rig };
                let said = Said { job, fence, first: 1, lines: Vec::new() };
                rig.step(|core, _, out| core.log(said, None, out));
            }
            Step::LeaseActorDies { nth } => {
                let Some((job, fence)) = rig.nth_started(nth) else { return rig };
                rig.step(|core, _, out| core.actor_down(job, fence, "killed", out));
            }
            Step::Order { what, value } => rig.order(control::order(what, value)),
        }
        rig
    }

    fn check_invariants(rig: &Rig, limits: &Limits) {
        assert!(rig.core.deferred.len() <= limits.deferred, "the near future is bounded");
        let leased = rig.live.values().filter(|live| live.lease.is_some()).count();
        assert_eq!(rig.core.grants_in_journal, rig.grants_under_way(), "grants under way are counted");
        assert!(rig.core.leases.len() >= leased.saturating_sub(rig.writes.len()));
        for (_, lease) in rig.core.leases.iter() {
            assert!(lease.expires_ms <= lease.end_by_ms(), "renewed past its end: {lease:?}");
        }
        for window in &rig.core.windows {
            assert!(window.len() <= WINDOW + WINDOW / 4 + 1, "a window is bounded");
        }
        let mut jobs = HashSet::new();
        for write in &rig.writes {
            let job = match write {
                Write::Grant { job, .. } | Write::End { job, .. } | Write::Interfere { job, .. } => *job,
                Write::Log(said) => said.job,
                Write::Park(_) | Write::Unpark(_) | Write::Settings { .. } => continue,
            };
            assert!(jobs.insert(job), "{job} has two ops in the journal");
        }
    }

    fn teardown(mut rig: Rig, _: Limits) {
        rig.drain();
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn no_order_of_events_loses_doubles_or_reorders_a_job(sequential 1..200 => CoreTest);
}

#[test]
fn more_than_one_read_brings_at_one_instant_all_run() {
    let mut rig = Rig::new(Limits { load: 5, deferred: DEFERRED_MAX });
    // Beyond the first reading: only a later one can find them.
    rig.submit(12, 1, 90_000, 0);
    rig.submit(3, 1, 95_000, 0);
    rig.drain();
    assert_eq!(rig.ended.len(), 15);
}

#[test]
fn more_than_memory_keeps_all_run() {
    let mut rig = Rig::new(Limits { load: 5, deferred: 8 });
    while !rig.readings.is_empty() {
        rig.read(0, false);
    }
    for delay_ms in 1..40 {
        rig.submit(1, 1, 20_000 - delay_ms * 10, 0);
        assert!(rig.core.deferred.len() <= 8, "bounded");
    }
    rig.drain();
    assert_eq!(rig.ended.len(), 39);
}

#[test]
fn what_was_read_as_due_is_not_counted_so_a_second_time() {
    let mut rig = Rig::new(WIDE);
    rig.read(0, false);
    rig.submit(1, 5, 1_000, 0);
    rig.commit(0, false);
    let (queued, scheduled) = (JobState::Queued.code() as usize, JobState::Scheduled.code() as usize);
    assert_eq!(rig.core.counts()[scheduled], 1);
    // The store's time is past its due time, and no tick has seen that yet.
    rig.now.store = rig.now.store.plus_millis(2_000);
    let mut counts = [0; 9];
    counts[queued] = 1;
    let as_of = rig.now;
    rig.core.pass(as_of);
    rig.step(|core, _, out| core.counted(counts, out));
    rig.step(|core, now, out| core.tick(now, out));
    assert_eq!((rig.core.counts()[queued], rig.core.counts()[scheduled]), (1, 0));
}
