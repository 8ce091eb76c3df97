//! Jobs of which there is to be one at a time.

use ganger::{
    domain::{IdempotencyKey, JobId, JobState, NewJob, OnConflict, UniqueKey},
    store::{
        OpResult,
        ops::{SubmitRefusal, Submitted},
    },
};

use super::kit::{Kit, completed, failed, job, retry_after};

pub(crate) const Q: &str = "mail";

/// Every state that is not terminal.
const LIVE: i16 = 0b11_1111;

pub(crate) fn unique(key: u8) -> NewJob {
    with(UniqueKey { hash: [key; 32], period_seconds: None, states: LIVE, on_conflict: OnConflict::Existing })
}

fn with(unique: UniqueKey) -> NewJob {
    NewJob { unique: Some(unique), ..job(Q) }
}

fn rejecting(key: u8) -> NewJob {
    let key = unique(key).unique.expect("has one");
    with(UniqueKey { on_conflict: OnConflict::Reject, ..key })
}

async fn is_taken(kit: &Kit, key: u8, by: JobId) {
    let job = unique(key);
    assert_eq!(kit.submit(&job).await, Submitted::Duplicate(by));
    assert!(kit.store.job(job.id).await.expect("reads").is_none(), "nothing was written for it");
    let answer = kit.one(kit.submit_op(&rejecting(key))).await;
    let OpResult::SubmitRefused(refusal) = answer else { panic!("{answer:?}") };
    assert_eq!(refusal, SubmitRefusal::NotUnique { index: 0, job: by });
}

pub(crate) async fn a_key_is_taken_until_its_job_has_ended(kit: Kit) {
    let first = kit.make(&unique(1)).await;
    kit.make(&unique(2)).await;
    is_taken(&kit, 1, first).await;
    let granted = kit.grant(Q, first).await;
    is_taken(&kit, 1, first).await;
    kit.end(Q, first, granted.fence, retry_after(60_000)).await;
    is_taken(&kit, 1, first).await;
    kit.retry(Q, first).await;
    kit.run(Q, first, failed()).await;
    let second = kit.make(&rejecting(1)).await;
    is_taken(&kit, 1, second).await;
    kit.cancel(Q, second).await;
    let third = kit.make(&unique(1)).await;
    kit.run(Q, third, completed()).await;
    kit.make(&unique(1)).await;
    assert_eq!(
        kit.timeline(first).await.iter().filter(|line| line.starts_with("job.duplicate_suppressed")).count(),
        3,
        "the first is told of those that were answered with it"
    );
    kit.check().await;
}

pub(crate) async fn a_key_is_free_in_other_states_and_after_its_period(kit: Kit) {
    let queued_or_done = |key: u8, period| {
        let states = 1 << JobState::Queued.code() | 1 << JobState::Completed.code();
        let on_conflict = OnConflict::Existing;
        with(UniqueKey { hash: [key; 32], period_seconds: period, states, on_conflict })
    };
    let first = kit.make(&queued_or_done(1, None)).await;
    let granted = kit.grant(Q, first).await;
    let second = kit.make(&queued_or_done(1, None)).await;
    kit.end(Q, first, granted.fence, completed()).await;
    assert_eq!(kit.submit(&queued_or_done(1, None)).await, Submitted::Duplicate(second), "the newest has it");
    kit.run(Q, second, completed()).await;
    assert_eq!(kit.submit(&unique(1)).await, Submitted::Duplicate(second), "its own states count");

    let short = kit.make(&queued_or_done(2, Some(2))).await;
    assert_eq!(kit.submit(&unique(2)).await, Submitted::Duplicate(short));
    kit.pass(2_050).await;
    kit.make(&unique(2)).await;
    kit.check().await;
}

pub(crate) async fn jobs_of_one_operation_and_of_one_batch_share_a_key(kit: Kit) {
    let jobs = [unique(1), unique(1), NewJob { dependencies: Vec::new(), ..job(Q) }];
    let waits = NewJob { dependencies: vec![jobs[1].id], ..job(Q) };
    let all = [jobs[0].clone(), jobs[1].clone(), waits.clone()];
    let OpResult::Submitted(made) = kit.one(kit.birth_op(&all)).await else { panic!("not made") };
    assert_eq!(made[1], Submitted::Duplicate(jobs[0].id));
    let graph = kit.store.graph(waits.id).await.expect("reads").expect("is there");
    let node = graph.nodes.iter().find(|node| node.job_id == waits.id).expect("itself");
    assert_eq!(node.depends_on, [jobs[0].id], "who depends on a repeat depends on the first");

    // A refused operation frees what it had taken, for the others of its batch too.
    let orphan = NewJob { dependencies: vec![JobId::new()], ..job(Q) };
    let (refused, next, last) = (unique(3), unique(3), unique(3));
    let results = kit
        .commit(&[
            kit.birth_op(&[refused, orphan]),
            kit.submit_op(&next),
            kit.submit_op(&last),
            kit.submit_op(&rejecting(3)),
        ])
        .await;
    assert!(matches!(&results[0], OpResult::SubmitRefused(SubmitRefusal::UnknownDependency { .. })));
    assert!(matches!(&results[1], OpResult::Submitted(made) if matches!(made[0], Submitted::Made { .. })));
    assert!(matches!(&results[2], OpResult::Submitted(made) if made[0] == Submitted::Duplicate(next.id)));
    assert!(
        matches!(&results[3], OpResult::SubmitRefused(SubmitRefusal::NotUnique { job, .. }) if *job == next.id)
    );
    is_taken(&kit, 3, next.id).await;

    // The same insert again is no repeat.
    assert!(matches!(kit.submit(&next).await, Submitted::Made { .. }));
    let orphan = NewJob { dependencies: vec![JobId::new()], ..job(Q) };
    let refused = kit.one(kit.birth_op(&[unique(4), orphan])).await;
    assert!(matches!(refused, OpResult::SubmitRefused(_)));
    kit.make(&unique(4)).await;
    kit.check().await;
}

pub(crate) async fn who_is_not_unique_keeps_no_idempotency_key(kit: Kit) {
    let first = kit.make(&unique(1)).await;
    let idempotency = || Some(IdempotencyKey { key: "k".into(), window_seconds: 900, fingerprint: [1; 32] });
    let again = NewJob { idempotency: idempotency(), ..unique(1) };
    assert_eq!(kit.submit(&again).await, Submitted::Duplicate(first));
    let other = NewJob { idempotency: idempotency(), ..job(Q) };
    kit.make(&other).await;
    assert_eq!(
        kit.submit(&again).await,
        Submitted::Duplicate(other.id),
        "the key names what was made with it"
    );
    kit.check().await;
}

pub(crate) async fn upkeep_removes_free_unique_keys_alone(kit: Kit) {
    let live = kit.make(&unique(1)).await;
    let done = kit.make(&unique(2)).await;
    kit.run(Q, done, completed()).await;
    kit.store.maintain().await.expect("maintains");
    is_taken(&kit, 1, live).await;
    kit.make(&unique(2)).await;
}

pub(crate) async fn submissions_at_once_make_one_job(kit: Kit) {
    let mut before = None;
    for round in 0..40 {
        // Every second time the key is there already, and has just become free.
        let key = round / 2;
        if let Some(before) = before.take() {
            kit.cancel(Q, before).await;
        }
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..8_u16 {
            let (kit, job) = (kit.clone(), unique(100 + key));
            tasks.spawn(async move {
                let op = if n % 2 == 0 { kit.submit_op(&job) } else { kit.birth_op(&[job]) };
                let lane = n % kit.store.lanes();
                match kit.store.commit(lane, &[op]).await.expect("commits").remove(0) {
                    OpResult::Submitted(mut made) => made.remove(0),
                    other => panic!("not submitted: {other:?}"),
                }
            });
        }
        let (mut made, mut repeats) = (Vec::new(), Vec::new());
        while let Some(done) = tasks.join_next().await {
            match done.expect("no panic") {
                Submitted::Made { entry, .. } => made.push(entry.job),
                Submitted::Duplicate(first) => repeats.push(first),
            }
        }
        assert_eq!((made.len(), repeats.len()), (1, 7));
        assert!(repeats.iter().all(|first| *first == made[0]));
        before = Some(made[0]);
    }
    kit.check().await;
}
