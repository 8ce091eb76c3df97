//! One owner at a time, whatever the former one is doing.

use std::time::Duration;

use ganger::{
    domain::{BootId, Epoch, JobState, ShardId},
    store::{OpResult, Store, StoreError},
};

use super::{
    conformance::kit::{completed, job},
    kitchen::{SOON, end, fresh, open, pause_before_commit, plain, until_waiting},
    support::wait::elapse,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_transaction_behind_its_shard_check_delays_the_take_over() {
    let (kit, url) = fresh().await;
    let shard = kit.owner("mail").shard;
    let mut zombie = plain(&url).await;
    sqlx::raw_sql("begin").execute(&mut zombie).await.expect("begins");
    sqlx::query("select from shard where id = $1 and epoch = $2 for share")
        .bind(shard.0)
        .bind(kit.owner("mail").epoch.0)
        .execute(&mut zombie)
        .await
        .expect("passes the check");
    let raise = kit.store.raise_epoch(shard, kit.owner("mail").epoch, kit.boot);
    tokio::pin!(raise);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut raise).await;
    assert!(early.is_err(), "the epoch was raised while a batch was behind its check");
    end(zombie, "commit").await;
    let raised = tokio::time::timeout(SOON, raise).await.expect("in time").expect("raises");
    assert_eq!(raised, Some(Epoch(kit.owner("mail").epoch.0 + 1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_former_owners_batch_writes_nothing() {
    let (kit, url) = fresh().await;
    let old = kit.made("mail").await;
    let granted = kit.grant("mail", old).await;
    let new = job("mail");
    let owner = kit.owner("mail");
    let raised = open(&url).await.raise_epoch(owner.shard, owner.epoch, BootId::new()).await;
    assert_eq!(raised.expect("raises"), Some(Epoch(owner.epoch.0 + 1)));
    for op in [
        kit.submit_op(&new),
        kit.grant_op("mail", old),
        kit.end_op("mail", old, granted.fence, completed()),
        kit.cancel_op("mail", old),
        kit.retry_op("mail", old),
        kit.inbox_op("mail"),
    ] {
        let result = kit.one(op).await;
        assert!(matches!(result, OpResult::FenceLost(shard) if shard == owner.shard), "{result:?}");
    }
    assert_eq!(kit.state(old).await, JobState::Active);
    assert!(kit.store.job(new.id).await.expect("reads").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_waits_at_the_check_while_the_epoch_is_raised_writes_nothing() {
    let (kit, url) = fresh().await;
    let new = job("mail");
    let shard = kit.owner("mail").shard;
    let mut contender = plain(&url).await;
    sqlx::raw_sql("begin").execute(&mut contender).await.expect("begins");
    sqlx::query("update shard set epoch = epoch + 1 where id = $1")
        .bind(shard.0)
        .execute(&mut contender)
        .await
        .expect("raises");
    let ops = [kit.submit_op(&new)];
    let (results, ()) = tokio::join!(kit.commit(&ops), async {
        until_waiting(&url, 1).await;
        end(contender, "commit").await;
    });
    assert!(matches!(results[0], OpResult::FenceLost(lost) if lost == shard), "{results:?}");
    assert!(kit.store.job(new.id).await.expect("reads").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_is_refused_while_this_one_lives() {
    let (kit, url) = fresh().await;
    let second = open(&url).await;
    let boot = BootId::new();
    let acquire = second.acquire_all(boot, "second", false);
    tokio::pin!(acquire);
    let refused = loop {
        tokio::select! {
            answer = &mut acquire => break answer,
            () = elapse(Duration::from_millis(200)) => kit.store.heartbeat(kit.boot).await.expect("beats"),
        }
    };
    match refused {
        Err(StoreError::Refused(text)) => {
            assert!(text.contains("another node") && text.contains(&kit.boot.to_string()), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_heartbeat_stands_still_is_replaced() {
    let (kit, url) = fresh().await;
    let second = open(&url).await;
    let boot = BootId::new();
    let owned = second.acquire_all(boot, "second", false).await.expect("takes over");
    assert!(owned.iter().all(|owned| owned.epoch.0 > kit.owner_of(owned.shard).epoch.0));
    let lost = kit.one(kit.submit_op(&job("mail"))).await;
    assert!(matches!(lost, OpResult::FenceLost(_)), "{lost:?}");
    let first = kit.store.heartbeat(kit.boot).await;
    let again = kit.store.heartbeat(kit.boot).await;
    assert!(first.is_err() && matches!(again, Err(StoreError::Refused(_))), "{first:?}, {again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_node_is_followed_at_once() {
    let (kit, url) = fresh().await;
    kit.store.close().await;
    let second = open(&url).await;
    let taken =
        tokio::time::timeout(Duration::from_secs(2), second.acquire_all(BootId::new(), "b", false)).await;
    assert_eq!(taken.expect("at once").expect("takes over").len(), 128);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_lane_of_the_former_node_is_ended() {
    let (kit, url) = fresh().await;
    let pause = pause_before_commit(&url, "mail", 0).await;
    let ops = [kit.submit_op(&job("mail"))];
    let ((), _) = tokio::join!(
        async {
            until_waiting(&url, 1).await;
            let owned =
                open(&url).await.acquire_all(BootId::new(), "second", false).await.expect("takes over");
            assert_eq!(owned.len(), 128);
            end(pause, "rollback").await;
        },
        kit.store.commit(0, &ops),
    );
    let shard = ShardId::of_queue("mail");
    assert!(kit.store.queues(shard).await.expect("reads").iter().all(|queue| queue.counts == [0; 9]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_moved_is_recognised() {
    let (kit, url) = fresh().await;
    let before = kit.owner("mail").epoch.0;
    kit.store.close().await;
    let mut admin = plain(&url).await;
    sqlx::query("update meta set value = 'elsewhere:00000001' where key = 'place'")
        .execute(&mut admin)
        .await
        .expect("moves");
    let owned = open(&url).await.acquire_all(BootId::new(), "b", false).await.expect("takes over");
    assert!(owned.iter().all(|owned| owned.epoch.0 >= before + ganger::domain::fence::RESTORE_STEP));
}
