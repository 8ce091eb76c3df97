//! Jobs behind gates.

use ganger::{
    domain::{EventKind, JobId, JobState, NewJob, ShardId, WaitingFor},
    store::{
        Op, OpResult,
        ops::{LiveEntry, ParkOp, Retried, UnparkOp},
        read::JobFilter,
    },
};

use super::kit::{HOUR_MS, Kit, canceled, child, completed, job, retry_after};

const Q: &str = "mail";

/// A queue of another shard than `mail`'s.
const OTHER: &str = "reports";

const GATE: &str = "type:mail.send";

async fn park(kit: &Kit, jobs: &[JobId], gate: &str) -> i64 {
    let op = ParkOp { owner: kit.owner(Q), jobs: jobs.to_vec(), gate: gate.into() };
    match kit.one(Op::Park(op)).await {
        OpResult::Parked(count) => count,
        other => panic!("not parked: {other:?}"),
    }
}

async fn unpark(kit: &Kit, gate: &str, limit: i64) -> Vec<LiveEntry> {
    let op = UnparkOp { owner: kit.owner(Q), queue: Q.into(), gate: gate.into(), limit };
    match kit.one(Op::Unpark(op)).await {
        OpResult::Unparked(entries) => entries,
        other => panic!("not unparked: {other:?}"),
    }
}

async fn gates(kit: &Kit) -> Vec<(String, i64)> {
    kit.store.gates(ShardId::of_queue(Q), Q).await.expect("reads")
}

async fn due_counts(kit: &Kit) -> [i64; 9] {
    kit.store.due_counts(ShardId::of_queue(Q), Q, kit.now().await).await.expect("reads")
}

fn jobs(entries: &[LiveEntry]) -> Vec<JobId> {
    entries.iter().map(|entry| entry.job).collect()
}

/// A job that was tried once and whose time has come again.
async fn due(kit: &Kit) -> JobId {
    let id = kit.made(Q).await;
    kit.run(Q, id, retry_after(0)).await;
    assert_eq!(kit.state(id).await, JobState::Queued);
    id
}

pub(crate) async fn parked_jobs_are_shown_as_before_but_are_not_ready(kit: Kit) {
    let queued = kit.made(Q).await;
    let due = due(&kit).await;
    let free = kit.made(Q).await;
    let mut before = Vec::new();
    for id in [queued, due] {
        before.push((id, kit.timeline(id).await, kit.view(id).await));
    }
    assert_eq!(park(&kit, &[queued, due], GATE).await, 2);
    assert_eq!(kit.ready(Q).await, [free]);
    assert_eq!(due_counts(&kit).await, [0; 9]);
    for (id, timeline, view) in before {
        assert_eq!(kit.timeline(id).await, timeline, "it says what it said");
        let now = kit.view(id).await;
        assert_eq!((now.state, now.run_at, now.attempts), (JobState::Queued, view.run_at, view.attempts));
        assert_eq!(view.waiting_for, Some(WaitingFor::Turn));
        assert_eq!(now.waiting_for, Some(WaitingFor::Worker), "but for what it waits for");
        assert_eq!(kit.inspect(id).await.job.state, JobState::Queued);
        assert!(matches!(kit.one(kit.grant_op(Q, id)).await, OpResult::NotReady), "the gate is shut");
    }
    let filter = JobFilter { states: vec![JobState::Queued], ..JobFilter::default() };
    assert_eq!(kit.jobs(&filter, None, 10).await.len(), 3);
    assert_eq!(kit.queue(Q).await.counts[JobState::Queued.code() as usize], 3);
    kit.check().await;
    unpark(&kit, GATE, 10).await;
    assert_eq!(kit.ready(Q).await, [queued, due, free]);
    kit.run(Q, due, completed()).await;
    assert_eq!(
        kit.timeline(due).await[2..],
        ["job.retrying retrying", "job.enqueued queued", "job.started active", "job.completed completed"]
    );
    kit.check().await;
}

pub(crate) async fn a_gate_lets_jobs_through_in_ready_order_and_in_steps(kit: Kit) {
    let mut made = Vec::new();
    for priority in [5, 9, 0, 5, 9] {
        made.push(kit.make(&NewJob { priority, ..job(Q) }).await);
    }
    let order = [made[1], made[4], made[0], made[3], made[2]];
    let other = kit.made(Q).await;
    assert_eq!(park(&kit, &made, GATE).await, 5);
    assert_eq!(park(&kit, &[other], "hold:x").await, 1);
    assert_eq!(gates(&kit).await, [("hold:x".to_owned(), 1), (GATE.to_owned(), 5)]);
    assert_eq!(kit.store.gates(ShardId::of_queue(OTHER), OTHER).await.expect("reads"), []);
    let first = unpark(&kit, GATE, 2).await;
    assert_eq!(jobs(&first), order[..2]);
    let entry = &first[0];
    assert_eq!((entry.queue.as_str(), entry.kind.as_str(), entry.priority), (Q, "mail.send", 9));
    assert_eq!((entry.state, entry.run_at), (JobState::Queued, kit.view(made[1]).await.run_at));
    assert_eq!(gates(&kit).await, [("hold:x".to_owned(), 1), (GATE.to_owned(), 3)]);
    assert_eq!(kit.ready(Q).await, order[..2]);
    assert_eq!(jobs(&unpark(&kit, GATE, 2).await), order[2..4]);
    assert_eq!(jobs(&unpark(&kit, GATE, 2).await), order[4..], "the last step is short");
    assert!(unpark(&kit, GATE, 2).await.is_empty());
    assert_eq!(kit.ready(Q).await, order);
    assert_eq!(gates(&kit).await, [("hold:x".to_owned(), 1)]);
    kit.check().await;
}

pub(crate) async fn only_what_waits_in_the_shard_is_parked(kit: Kit) {
    let waits = kit.made(Q).await;
    let leased = kit.made(Q).await;
    kit.grant(Q, leased).await;
    let blocked = kit.make(&child(Q, &[leased])).await;
    let ended = kit.made(Q).await;
    kit.run(Q, ended, completed()).await;
    let parked = kit.made(Q).await;
    assert_eq!(park(&kit, &[parked], "hold:x").await, 1);
    let elsewhere = kit.made(OTHER).await;
    let later = kit.now().await.plus_millis(HOUR_MS);
    let scheduled = kit.make(&NewJob { run_at: Some(later), ..job(Q) }).await;
    let before = kit.dump().await;
    let refused = [leased, blocked, ended, parked, elsewhere, JobId::new()];
    assert_eq!(park(&kit, &refused, GATE).await, 0);
    assert_eq!(park(&kit, &[], GATE).await, 0);
    assert_eq!(kit.dump().await, before, "nothing was written");
    let all = [refused.as_slice(), &[waits, scheduled]].concat();
    assert_eq!(park(&kit, &all, GATE).await, 2, "only what it parked counts");
    assert_eq!(gates(&kit).await, [("hold:x".to_owned(), 1), (GATE.to_owned(), 2)]);
    assert_eq!(kit.state(scheduled).await, JobState::Scheduled);
    assert_eq!(kit.ready(OTHER).await, [elsewhere]);
    let op = UnparkOp { owner: kit.owner(OTHER), queue: Q.into(), gate: GATE.into(), limit: 9 };
    let answer = kit.one(Op::Unpark(op)).await;
    assert!(matches!(&answer, OpResult::Unparked(entries) if entries.is_empty()), "{answer:?}");
    let old = kit.clone();
    let kit = kit.again(false).await;
    for op in [
        Op::Park(ParkOp { owner: old.owner(Q), jobs: vec![waits], gate: "hold:y".into() }),
        Op::Unpark(UnparkOp { owner: old.owner(Q), queue: Q.into(), gate: GATE.into(), limit: 9 }),
    ] {
        assert!(matches!(kit.one(op).await, OpResult::FenceLost(_)), "of a former owner");
    }
    assert_eq!(gates(&kit).await, [("hold:x".to_owned(), 1), (GATE.to_owned(), 2)]);
    kit.check().await;
}

pub(crate) async fn a_parked_job_is_canceled_or_run_now_on_request(kit: Kit) {
    let (queued, due) = (kit.made(Q).await, due(&kit).await);
    let later = kit.now().await.plus_millis(HOUR_MS);
    let scheduled = kit.make(&NewJob { run_at: Some(later), ..job(Q) }).await;
    assert_eq!(park(&kit, &[queued, due, scheduled], GATE).await, 3);
    // It is ready as far as anybody can tell; the gate is its owner's.
    for id in [queued, due] {
        assert_eq!(kit.retry(Q, id).await, Retried::AlreadyQueued);
    }
    assert_eq!(gates(&kit).await, [(GATE.to_owned(), 3)]);
    let Retried::Done { entry, from, .. } = kit.retry(Q, scheduled).await else { panic!("not retried") };
    assert_eq!((entry.state, from), (JobState::Queued, JobState::Scheduled));
    assert_eq!(kit.ready(Q).await, [scheduled], "in the order in which its owner puts it");
    assert_eq!(gates(&kit).await, [(GATE.to_owned(), 2)]);
    kit.run(Q, scheduled, completed()).await;
    for id in [queued, due] {
        assert_eq!(kit.cancel(Q, id).await, canceled(JobState::Queued));
        assert_eq!(kit.events(id).await.pop().expect("a row").kind, EventKind::Canceled);
    }
    assert_eq!(gates(&kit).await, []);
    assert!(unpark(&kit, GATE, 9).await.is_empty());
    kit.check().await;
}
