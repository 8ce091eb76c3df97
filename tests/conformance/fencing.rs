//! What former owners and former lease holders cannot do.

use ganger::{
    domain::{AttemptStatus, BootId, Epoch, Fence, JobState, NewJob, ShardEpoch, ShardId},
    store::{
        Op, OpResult, StoreError,
        ops::{CancelOp, EndOp, GrantOp, InboxOp, Retried, RetryOp, SubmitOp},
    },
};

use super::kit::{Kit, completed, failed, job, retry_after};

const Q: &str = "mail";

/// A queue of another shard than `mail`'s.
const OTHER: &str = "reports";

pub(crate) async fn fences_grow_over_grants_epochs_and_retries(mut kit: Kit) {
    let id = kit.made(Q).await;
    let mut fences = Vec::new();
    for round in 0..3 {
        let granted = kit.grant(Q, id).await;
        fences.push(granted.fence);
        kit.end(Q, id, granted.fence, retry_after(0)).await;
        if round == 1 {
            kit = kit.again(false).await;
        }
    }
    let granted = kit.grant(Q, id).await;
    fences.push(granted.fence);
    kit.end(Q, id, granted.fence, failed()).await;
    assert!(matches!(kit.retry(Q, id).await, Retried::Done { .. }));
    // A floor under the last fence does not bring the fence down.
    let Op::Grant(mut op) = kit.grant_op(Q, id) else { unreachable!("a grant") };
    op.fence_floor = Fence(1);
    match kit.one(Op::Grant(op)).await {
        OpResult::Granted(granted) => fences.push(granted.fence),
        other => panic!("{other:?}"),
    }
    assert!(fences.windows(2).all(|pair| pair[0] < pair[1]), "{fences:?}");
    assert_eq!(fences[4].0, fences[3].0 + 1);
    let epoch = kit.owner(Q).epoch;
    assert!(fences[3] >= Fence::floor(epoch, 0), "a new epoch's fences are over all of the old one's");
}

pub(crate) async fn a_stale_end_writes_nothing_and_is_told_what_was_recorded(kit: Kit) {
    let id = kit.made(Q).await;
    let first = kit.grant(Q, id).await;
    kit.end(Q, id, first.fence, retry_after(0)).await;
    let second = kit.grant(Q, id).await;
    let before = kit.dump().await;
    for (fence, expected) in [
        (first.fence, Some(AttemptStatus::Retrying)),
        (Fence(first.fence.0 + 1_000), None),
        (Fence(second.fence.0 + 1), None),
    ] {
        match kit.one(kit.end_op(Q, id, fence, completed())).await {
            OpResult::Stale { recorded } => assert_eq!(recorded, expected),
            other => panic!("a stale end was taken: {other:?}"),
        }
    }
    assert_eq!(kit.dump().await, before);
    assert_eq!(kit.state(id).await, JobState::Active);
    kit.end(Q, id, second.fence, completed()).await;
}

pub(crate) async fn the_same_end_again_is_told_that_it_is_recorded(kit: Kit) {
    let id = kit.made(Q).await;
    let granted = kit.grant(Q, id).await;
    kit.end(Q, id, granted.fence, completed()).await;
    let before = kit.dump().await;
    for kind in [completed(), failed()] {
        match kit.one(kit.end_op(Q, id, granted.fence, kind)).await {
            OpResult::Stale { recorded } => assert_eq!(recorded, Some(AttemptStatus::Completed)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(kit.dump().await, before);
    // The attempt is found where a retry, and a later cancel, have moved it.
    let id = kit.made(Q).await;
    let granted = kit.grant(Q, id).await;
    kit.end(Q, id, granted.fence, failed()).await;
    kit.retry(Q, id).await;
    for _ in 0..2 {
        match kit.one(kit.end_op(Q, id, granted.fence, failed())).await {
            OpResult::Stale { recorded } => assert_eq!(recorded, Some(AttemptStatus::Failed)),
            other => panic!("{other:?}"),
        }
        kit.cancel(Q, id).await;
    }
}

pub(crate) async fn an_old_epoch_writes_nothing_but_the_other_shards_are_written(kit: Kit) {
    assert_ne!(ShardId::of_queue(Q), ShardId::of_queue(OTHER), "two shards are needed");
    let running = kit.made(Q).await;
    let granted = kit.grant(Q, running).await;
    let waiting = kit.made(Q).await;
    let failed_one = kit.made(Q).await;
    kit.run(Q, failed_one, failed()).await;
    let elsewhere = kit.made(OTHER).await;
    kit.commit(&[kit.birth_op(&[job(Q)])]).await;

    let old = kit.owner(Q);
    let raised = kit.store.raise_epoch(old.shard, old.epoch, kit.boot).await.expect("raises");
    assert_eq!(raised, Some(Epoch(old.epoch.0 + 1)));
    let before = kit.dump().await;
    let stale = [
        Op::Submit(SubmitOp { owner: Some(old), jobs: vec![job(Q)] }),
        kit.grant_op(Q, waiting),
        Op::End(EndOp { owner: old, job: running, fence: granted.fence, kind: completed() }),
        Op::Cancel(CancelOp {
            owner: old,
            job: waiting,
            reason: "no".into(),
            unstarted_only: false,
            by: None,
        }),
        Op::Retry(RetryOp { owner: old, job: failed_one, by: None }),
        Op::Inbox(InboxOp { owner: old, limit: 10 }),
    ];
    for op in &stale {
        let answer = kit.one(op.clone()).await;
        assert!(matches!(answer, OpResult::FenceLost(shard) if shard == old.shard), "{op:?}: {answer:?}");
    }
    assert_eq!(kit.dump().await, before, "nothing was written");

    let mut mixed = stale.to_vec();
    mixed.insert(2, kit.grant_op(OTHER, elsewhere));
    let results = kit.commit(&mixed).await;
    for (index, result) in results.iter().enumerate() {
        match index {
            2 => assert!(matches!(result, OpResult::Granted(_)), "{result:?}"),
            _ => assert!(matches!(result, OpResult::FenceLost(_)), "{result:?}"),
        }
    }
    assert_eq!(kit.state(elsewhere).await, JobState::Active);
    assert_eq!(kit.state(waiting).await, JobState::Queued);
    assert_eq!(kit.state(running).await, JobState::Active);
    // A newer epoch than the store's is no ownership either.
    let future = ShardEpoch { epoch: Epoch(old.epoch.0 + 9), ..old };
    let answer = kit
        .one(Op::Cancel(CancelOp {
            owner: future,
            job: waiting,
            reason: "no".into(),
            unstarted_only: false,
            by: None,
        }))
        .await;
    assert!(matches!(answer, OpResult::FenceLost(_)), "{answer:?}");
    kit.check().await;
}

pub(crate) async fn births_need_no_epoch(kit: Kit) {
    let old = kit.owner(Q);
    kit.store.raise_epoch(old.shard, old.epoch, kit.boot).await.expect("raises");
    let new = job(Q);
    let answer = kit.one(kit.birth_op(std::slice::from_ref(&new))).await;
    assert!(matches!(answer, OpResult::Submitted(_)), "{answer:?}");
    assert_eq!(kit.state(new.id).await, JobState::Queued);
    assert_eq!(kit.store.inbox_shards().await.expect("reads"), [old.shard]);
}

pub(crate) async fn jobs_of_another_shard_are_not_touched(kit: Kit) {
    let id = kit.made(Q).await;
    let granted = kit.grant(Q, id).await;
    let waiting = kit.made(Q).await;
    let before = kit.dump().await;
    let owner = kit.owner(OTHER);
    let Op::Grant(grant) = kit.grant_op(Q, waiting) else { unreachable!("a grant") };
    let results = kit
        .commit(&[
            Op::Grant(GrantOp { owner, ..grant }),
            Op::End(EndOp { owner, job: id, fence: granted.fence, kind: completed() }),
        ])
        .await;
    assert!(matches!(results[0], OpResult::NotReady), "{:?}", results[0]);
    assert!(matches!(results[1], OpResult::Stale { recorded: None }), "{:?}", results[1]);
    let results = kit
        .commit(&[
            Op::Cancel(CancelOp { owner, job: id, reason: "no".into(), unstarted_only: false, by: None }),
            Op::Retry(RetryOp { owner, job: waiting, by: None }),
        ])
        .await;
    assert!(matches!(results[0], OpResult::Canceled(ganger::store::ops::Canceled::NotFound)));
    assert!(matches!(results[1], OpResult::Retried(Retried::NotFound)));
    assert_eq!(kit.dump().await, before);
}

pub(crate) async fn taking_all_shards_raises_every_epoch(kit: Kit) {
    assert_eq!(kit.owned.len(), usize::from(ganger::domain::fence::SHARDS.unsigned_abs()));
    let next = kit.again(false).await;
    for (before, after) in kit.owned.iter().zip(next.owned.iter()) {
        assert_eq!((before.shard, before.epoch.0 + 1), (after.shard, after.epoch.0));
    }
    let answer = kit.one(kit.submit_op(&job(Q))).await;
    assert!(matches!(answer, OpResult::FenceLost(_)), "{answer:?}");
    next.made(Q).await;
}

pub(crate) async fn a_restored_store_steps_over_its_lost_future(kit: Kit) {
    let next = kit.again(true).await;
    for (before, after) in kit.owned.iter().zip(next.owned.iter()) {
        assert_eq!(after.epoch.0, before.epoch.0 + ganger::domain::fence::RESTORE_STEP);
    }
}

pub(crate) async fn epochs_stop_before_fences_would_be_inexact(kit: Kit) {
    let most = ganger::domain::fence::EPOCH_MAX / ganger::domain::fence::RESTORE_STEP;
    let mut refused = None;
    for _ in 0..=most {
        match kit.store.acquire_all(kit.boot, "127.0.0.1:1", true).await {
            Ok(owned) => assert!(owned.iter().all(|o| o.epoch.0 < ganger::domain::fence::EPOCH_MAX)),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    assert!(matches!(refused, Some(StoreError::Refused(_))), "{refused:?}");
}

pub(crate) async fn one_epoch_is_raised_once(kit: Kit) {
    let seen = kit.owner(Q);
    let (first, second) = tokio::join!(
        kit.store.raise_epoch(seen.shard, seen.epoch, BootId::new()),
        kit.store.raise_epoch(seen.shard, seen.epoch, BootId::new()),
    );
    let raised = [first.expect("answers"), second.expect("answers")];
    assert_eq!(raised.iter().flatten().count(), 1, "{raised:?}");
    let again = kit.store.raise_epoch(seen.shard, Epoch(seen.epoch.0 + 7), kit.boot).await;
    assert_eq!(again.expect("answers"), None);
}

pub(crate) async fn an_operation_the_store_refuses_fails_alone(kit: Kit) {
    let ready = kit.made(Q).await;
    let (good, other) = (job(Q), job(OTHER));
    let impossible = NewJob { priority: 99, ..job(Q) };
    let results = kit
        .commit(&[
            kit.submit_op(&good),
            kit.submit_op(&impossible),
            kit.grant_op(Q, ready),
            kit.submit_op(&other),
        ])
        .await;
    assert!(matches!(results[0], OpResult::Submitted(_)), "{results:?}");
    assert!(matches!(results[1], OpResult::Refused(_)), "{results:?}");
    assert!(matches!(results[2], OpResult::Granted(_)), "{results:?}");
    assert!(matches!(results[3], OpResult::Submitted(_)), "{results:?}");
    assert!(kit.store.job(impossible.id).await.expect("reads").is_none());
    kit.check().await;
}

pub(crate) async fn upkeep_changes_nothing_that_holds(kit: Kit) {
    let id = kit.make(&super::kit::keyed(Q, "k", 900, 1)).await;
    kit.store.heartbeat(kit.boot).await.expect("beats");
    kit.store.ping().await.expect("answers");
    let before = kit.dump().await;
    kit.store.maintain().await.expect("maintains");
    assert_eq!(kit.dump().await, before);
    assert!(kit.inspect(id).await.idempotency.is_some());
}
