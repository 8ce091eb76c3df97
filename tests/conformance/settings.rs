//! Settings of queues, and what they keep out.

use ganger::{
    domain::{JobState, NewJob, ShardId},
    store::{
        Op, OpResult,
        ops::{Requester, SettingsOp, SubmitRefusal, Submitted},
        read::QueueRow,
    },
};

use super::kit::{Kit, child, completed, job, keyed};

const Q: &str = "set";

fn settings(kit: &Kit, paused: Option<bool>, draining: Option<bool>, config: Option<&str>) -> Op {
    let by = Requester { actor: "op".into(), request_id: "r1".into(), reason: Some("test".into()) };
    let (queue, config) = (Q.into(), config.map(str::to_owned));
    let action = "queue.configured";
    Op::Settings(SettingsOp { owner: kit.owner(Q), queue, paused, draining, config, action, by })
}

async fn set(kit: &Kit, paused: Option<bool>, draining: Option<bool>, config: Option<&str>) -> QueueRow {
    match kit.one(settings(kit, paused, draining, config)).await {
        OpResult::Configured(row) => row,
        other => panic!("not configured: {other:?}"),
    }
}

async fn row(kit: &Kit) -> QueueRow {
    let rows = kit.store.queues(ShardId::of_queue(Q)).await.expect("reads");
    rows.into_iter().find(|row| row.name == Q).expect("is there")
}

async fn births(kit: &Kit, jobs: &[NewJob]) -> Result<Vec<Submitted>, SubmitRefusal> {
    match kit.one(kit.birth_op(jobs)).await {
        OpResult::Submitted(made) => Ok(made),
        OpResult::SubmitRefused(refusal) => Err(refusal),
        other => panic!("neither made nor refused: {other:?}"),
    }
}

/// What is not named stays; the queue's row is made by its first settings, without a job.
pub(crate) async fn settings_are_kept_and_what_is_not_named_stays(kit: Kit) {
    let first = set(&kit, Some(true), None, None).await;
    assert_eq!((first.paused, first.draining, first.config.as_deref()), (true, false, None));
    let second = set(&kit, None, Some(true), Some(r#"{"concurrency":2}"#)).await;
    assert_eq!((second.paused, second.draining), (true, true));
    let third = set(&kit, Some(false), Some(false), None).await;
    assert_eq!((third.paused, third.draining), (false, false));
    assert_eq!(third.config.as_deref(), Some(r#"{"concurrency":2}"#));
    assert_eq!(row(&kit).await, third, "and so it is read");
    let all = kit.store.all_queues().await.expect("reads");
    assert!(all.contains(&third), "also with all");
}

/// An owner that was replaced changes nothing.
pub(crate) async fn settings_are_fenced(kit: Kit) {
    set(&kit, Some(true), None, None).await;
    let late = settings(&kit, Some(false), None, None);
    let _next = kit.again(false).await;
    assert!(matches!(kit.one(late).await, OpResult::FenceLost(_)));
    assert!(row(&kit).await.paused, "as it was");
}

/// A queue that drains takes no births, of whichever queue the other jobs are; what is a repeat is answered.
pub(crate) async fn a_queue_that_drains_takes_no_births(kit: Kit) {
    let first = keyed(Q, "k", 900, 1);
    births(&kit, std::slice::from_ref(&first)).await.expect("made");
    set(&kit, None, Some(true), None).await;
    let refused = births(&kit, &[job("other"), job(Q)]).await.expect_err("refused");
    assert_eq!(refused, SubmitRefusal::Draining { index: 1, queue: Q.into() });
    let rows = kit.store.queues(ShardId::of_queue("other")).await.expect("reads");
    assert!(rows.iter().all(|row| row.name != "other"), "nothing was made");
    let repeat = births(&kit, &[keyed(Q, "k", 900, 1)]).await.expect("a repeat");
    assert_eq!(repeat, [Submitted::Duplicate(first.id)]);
    assert_eq!(births(&kit, &[job("other")]).await.expect("another queue").len(), 1);
    set(&kit, None, Some(false), None).await;
    births(&kit, &[job(Q)]).await.expect("made again");
}

/// Births fit, all of an operation, or none is made; what waits in any way counts, what runs or has ended does not.
pub(crate) async fn births_beyond_the_depth_are_refused_as_a_whole(kit: Kit) {
    set(&kit, None, None, Some(r#"{"maxDepth":3}"#)).await;
    let jobs = |count: usize| (0..count).map(|_| job(Q)).collect::<Vec<_>>();
    let full = |index| SubmitRefusal::QueueFull { index, queue: Q.into(), max_depth: 3 };
    assert_eq!(births(&kit, &jobs(4)).await.expect_err("too many"), full(3));
    let two = jobs(2);
    births(&kit, &two).await.expect("fit");
    assert_eq!(births(&kit, &jobs(2)).await.expect_err("one too many"), full(1));
    // Two operations of one batch: the second sees the first.
    let results = kit.commit(&[kit.birth_op(&jobs(1)), kit.birth_op(&jobs(1))]).await;
    assert!(matches!(results[0], OpResult::Submitted(_)));
    assert!(matches!(&results[1], OpResult::SubmitRefused(refusal) if *refusal == full(0)));
    let granted = kit.grant(Q, two[0].id).await;
    births(&kit, &jobs(1)).await.expect("one has left");
    assert_eq!(births(&kit, &jobs(1)).await.expect_err("full again"), full(0));
    kit.end(Q, two[0].id, granted.fence, completed()).await;
    assert_eq!(births(&kit, &jobs(1)).await.expect_err("what has ended makes no room"), full(0));
    // Its owner decides for itself.
    kit.made(Q).await;
}

/// A job that was refused is not there for those that depend on it.
pub(crate) async fn nothing_depends_on_a_job_that_was_not_admitted(kit: Kit) {
    set(&kit, None, None, Some(r#"{"maxDepth":0}"#)).await;
    let parent = job(Q);
    let late = child("other", &[parent.id]);
    let results = kit.commit(&[kit.birth_op(&[parent]), kit.birth_op(&[late])]).await;
    assert!(matches!(&results[0], OpResult::SubmitRefused(SubmitRefusal::QueueFull { .. })));
    assert!(matches!(&results[1], OpResult::SubmitRefused(SubmitRefusal::UnknownDependency { .. })));
}

/// Concurrent births together keep the depth.
pub(crate) async fn concurrent_births_keep_the_depth(kit: Kit) {
    set(&kit, None, None, Some(r#"{"maxDepth":5}"#)).await;
    let lanes = kit.store.lanes();
    let tasks = (0..20_u16).map(|n| {
        let (store, op) = (kit.store.clone(), kit.birth_op(&[job(Q)]));
        async move { store.commit(n % lanes, &[op]).await.expect("commits").remove(0) }
    });
    let results = futures_util::future::join_all(tasks).await;
    let made = results.iter().filter(|result| matches!(result, OpResult::Submitted(_))).count();
    assert_eq!(made, 5);
    assert_eq!(row(&kit).await.counts[0], 5);
}

/// Blocked and gated jobs are found by their queue, those in order are not.
pub(crate) async fn what_waits_out_of_order_is_found(kit: Kit) {
    let parent = kit.made(Q).await;
    let blocked = kit.make(&child(Q, &[parent])).await;
    let gated = kit.made(Q).await;
    kit.made("other").await;
    let op = ganger::store::ops::ParkOp { owner: kit.owner(Q), jobs: vec![gated], gate: "type:x".into() };
    assert!(matches!(kit.one(Op::Park(op)).await, OpResult::Parked(1)));
    let shard = ShardId::of_queue(Q);
    let all = kit.store.set_aside(shard, Q, None, 10).await.expect("reads");
    assert_eq!(all, [blocked, gated]);
    let first = kit.store.set_aside(shard, Q, None, 1).await.expect("reads");
    assert_eq!(first, [blocked]);
    let rest = kit.store.set_aside(shard, Q, Some(blocked), 10).await.expect("reads");
    assert_eq!(rest, [gated]);
    let oldest = kit.store.oldest_gated(shard, Q).await.expect("reads").expect("one is");
    let view = kit.store.job(gated).await.expect("reads").expect("is there");
    assert_eq!((view.run_at, view.state), (oldest, JobState::Queued));
    assert_eq!(kit.store.oldest_gated(ShardId::of_queue("other"), "other").await.expect("reads"), None);
}
