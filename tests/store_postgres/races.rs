//! Parents that end while children are made, on two connections, held in either order.

use ganger::{
    domain::JobState,
    store::{
        Op, OpResult,
        ops::{Changed, JobPatch, SubmitOp, Submitted},
    },
};

use super::{
    conformance::{
        changes::update_op,
        kit::{child, completed, keyed, retry_after},
    },
    kitchen::{end, fresh, pause_before_commit, plain, until_waiting},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_that_ends_behind_its_childs_lock_unblocks_it() {
    let (kit, url) = fresh().await;
    let parent = kit.made("parents").await;
    let lease = kit.grant("parents", parent).await;
    // The child's batch has locked its parent when it comes to its key, which another transaction holds. Only
    // then does the parent end: an end that came first would wait for nobody.
    let mut new = keyed("children", "k", 60, 1);
    new.dependencies = vec![parent];
    let mut key = plain(&url).await;
    sqlx::raw_sql("begin").execute(&mut key).await.expect("begins");
    sqlx::query(
        "insert into idempotency (tenant, key, job_id, expires_at, fingerprint)
         values ('default', 'k', gen_random_uuid(), now(), '')",
    )
    .execute(&mut key)
    .await
    .expect("holds the key");
    let births = [Op::Submit(SubmitOp { owner: None, jobs: vec![new.clone()] })];
    let ends = [kit.end_op("parents", parent, lease.fence, completed())];
    let (made, ended, ()) = tokio::join!(
        kit.store.commit(1, &births),
        async {
            until_waiting(&url, 1).await;
            kit.store.commit(2, &ends).await
        },
        async {
            until_waiting(&url, 2).await;
            end(key, "rollback").await;
        }
    );
    let made = made.expect("commits");
    assert!(
        matches!(&made[0], OpResult::Submitted(all)
            if matches!(&all[0], Submitted::Made { entry, .. } if entry.state == JobState::Blocked)),
        "{made:?}"
    );
    match &ended.expect("commits")[0] {
        OpResult::Ended(ended) => assert_eq!(ended.wakes, [kit.owner("children").shard]),
        other => panic!("{other:?}"),
    }
    let taken = kit.inbox("children").await;
    assert_eq!(taken.unblocked.len(), 1, "{taken:?}");
    assert_eq!(kit.state(new.id).await, JobState::Queued);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_made_while_its_parent_ends_is_not_blocked() {
    let (kit, url) = fresh().await;
    let parent = kit.made("parents").await;
    let lease = kit.grant("parents", parent).await;
    let new = child("children", &[parent]);
    let pause = pause_before_commit(&url, "parents", 2).await;
    let births = [Op::Submit(SubmitOp { owner: None, jobs: vec![new.clone()] })];
    let ends = [kit.end_op("parents", parent, lease.fence, completed())];
    let (ended, made, ()) = tokio::join!(
        kit.store.commit(2, &ends),
        async {
            until_waiting(&url, 1).await;
            kit.store.commit(1, &births).await
        },
        async {
            until_waiting(&url, 2).await;
            end(pause, "rollback").await;
        }
    );
    assert!(matches!(ended.expect("commits")[0], OpResult::Ended(_)));
    let made = made.expect("commits");
    assert!(
        matches!(&made[0], OpResult::Submitted(all)
            if matches!(&all[0], Submitted::Made { entry, .. } if entry.state == JobState::Queued)),
        "{made:?}"
    );
    assert_eq!(kit.state(new.id).await, JobState::Queued);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_recorded_while_the_job_ends_leaves_no_gap() {
    let (kit, url) = fresh().await;
    let first = keyed("mail", "k", 60, 1);
    let id = kit.make(&first).await;
    let lease = kit.grant("mail", id).await;
    let pause = pause_before_commit(&url, "mail", 2).await;
    let repeat = keyed("mail", "k", 60, 1);
    let births = [Op::Submit(SubmitOp { owner: None, jobs: vec![repeat] })];
    let ends = [kit.end_op("mail", id, lease.fence, completed())];
    let (ended, made, ()) = tokio::join!(
        kit.store.commit(2, &ends),
        async {
            until_waiting(&url, 1).await;
            kit.store.commit(1, &births).await
        },
        async {
            until_waiting(&url, 2).await;
            end(pause, "rollback").await;
        }
    );
    assert!(matches!(ended.expect("commits")[0], OpResult::Ended(_)));
    let made = made.expect("commits");
    assert!(
        matches!(&made[0], OpResult::Submitted(all) if all[..] == [Submitted::Duplicate(id)]),
        "{made:?}"
    );
    let seqs: Vec<i64> = kit.events(id).await.iter().map(|row| row.seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_given_while_a_repeat_is_recorded_is_counted_from_the_state_that_it_left() {
    let (kit, url) = fresh().await;
    let id = kit.make(&keyed("mail", "k", 60, 1)).await;
    let lease = kit.grant("mail", id).await;
    kit.end("mail", id, lease.fence, retry_after(0)).await;
    // The repeat makes the retrying job, whose time has come, a queued one; the lease waits for that.
    let pause = pause_before_commit(&url, "mail", 1).await;
    let births = [Op::Submit(SubmitOp { owner: None, jobs: vec![keyed("mail", "k", 60, 1)] })];
    let grants = [kit.grant_op("mail", id)];
    let (made, granted, ()) = tokio::join!(
        kit.store.commit(1, &births),
        async {
            until_waiting(&url, 1).await;
            kit.store.commit(2, &grants).await
        },
        async {
            until_waiting(&url, 2).await;
            end(pause, "rollback").await;
        }
    );
    assert!(matches!(made.expect("commits")[0], OpResult::Submitted(_)));
    let granted = granted.expect("commits");
    assert!(
        matches!(&granted[0], OpResult::Granted(granted) if granted.from == JobState::Queued),
        "{granted:?}"
    );
    kit.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_moves_away_while_its_parents_end_is_told_is_unblocked_where_it_went() {
    let (kit, url) = fresh().await;
    let parent = kit.made("parents").await;
    let waits = kit.make(&child("children", &[parent])).await;
    kit.run("parents", parent, completed()).await;
    let pause = pause_before_commit(&url, "children", 2).await;
    let patch = JobPatch { queue: Some("elsewhere".into()), ..JobPatch::default() };
    let moves = [update_op(&kit, "children", waits, patch)];
    let told = [kit.inbox_op("children")];
    let (moved, taken, ()) = tokio::join!(
        kit.store.commit(2, &moves),
        async {
            until_waiting(&url, 1).await;
            kit.store.commit(1, &told).await
        },
        async {
            until_waiting(&url, 2).await;
            end(pause, "rollback").await;
        }
    );
    assert!(matches!(moved.expect("commits")[0], OpResult::Changed(Changed::Done(_))));
    match &taken.expect("commits")[0] {
        OpResult::Inbox(taken) => {
            assert!(taken.unblocked.is_empty(), "it is another shard's now: {taken:?}");
            assert_eq!(taken.wakes, [kit.owner("elsewhere").shard]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(kit.state(waits).await, JobState::Blocked);
    let taken = kit.inbox("elsewhere").await;
    assert_eq!(taken.unblocked.len(), 1, "{taken:?}");
    assert_eq!(kit.ready("elsewhere").await, [waits]);
    kit.check().await;
}
