//! What an owner loads: the ready order, what becomes ready, counters.

use ganger::{
    domain::{JobId, JobState, NewJob, ShardId, Timestamp},
    store::read::ReadyKey,
};

use super::kit::{HOUR_MS, Kit, child, completed, failed, job, retry_after};

const Q: &str = "mail";

pub(crate) async fn the_ready_order_is_priority_then_time_then_id(kit: Kit) {
    let mut made = Vec::new();
    for round in 0..4 {
        for priority in [5, 9, 0] {
            made.push((priority, kit.make(&NewJob { priority, ..job(Q) }).await));
        }
        // Jobs of one batch have one time: their ids decide.
        let both = [job(Q), job(Q)];
        kit.commit(&[kit.submit_op(&both[1]), kit.submit_op(&both[0])]).await;
        made.extend([(5, both[0].id), (5, both[1].id)]);
        assert_eq!(made.len(), (round + 1) * 5);
    }
    let expected = |priority: i16| made.iter().filter(move |(p, _)| *p == priority).map(|(_, id)| *id);
    let order: Vec<JobId> = expected(9).chain(expected(5)).chain(expected(0)).collect();
    assert_eq!(kit.ready(Q).await, order);
}

pub(crate) async fn ready_pages_have_no_gaps_or_repeats_while_jobs_are_added(kit: Kit) {
    let mut expected = Vec::new();
    for _ in 0..7 {
        let jobs = [job(Q), job(Q), job(Q)];
        kit.commit(&jobs.iter().map(|job| kit.submit_op(job)).collect::<Vec<_>>()).await;
        expected.extend(jobs.iter().map(|job| job.id));
    }
    let mut seen: Vec<ReadyKey> = Vec::new();
    loop {
        let now = kit.now().await;
        let page = kit.ready_page(Q, 5, seen.last().copied(), now, 4).await;
        if page.is_empty() {
            break;
        }
        seen.extend(page);
        if seen.len() < 20 {
            // What is added sorts behind what is there.
            expected.push(kit.made(Q).await);
        }
    }
    assert_eq!(seen.iter().map(|key| key.job).collect::<Vec<_>>(), expected);
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]));
}

pub(crate) async fn what_is_leased_blocked_or_not_yet_due_is_not_ready(kit: Kit) {
    let later = kit.now().await.plus_millis(HOUR_MS);
    let leased = kit.made(Q).await;
    kit.grant(Q, leased).await;
    kit.make(&child(Q, &[leased])).await;
    kit.make(&NewJob { run_at: Some(later), ..job(Q) }).await;
    let canceled = kit.made(Q).await;
    kit.cancel(Q, canceled).await;
    let done = kit.made(Q).await;
    kit.run(Q, done, completed()).await;
    let due = kit.made(Q).await;
    kit.run(Q, due, retry_after(0)).await;
    let waiting = kit.made(Q).await;
    assert_eq!(kit.ready(Q).await, [due, waiting], "a due deferred job is ready");
    let counts = kit.store.due_counts(ShardId::of_queue(Q), Q, kit.now().await).await.expect("reads");
    let mut expected = [0; 9];
    expected[JobState::Retrying.code() as usize] = 1;
    assert_eq!(counts, expected);
    kit.grant(Q, due).await;
    let counts = kit.store.due_counts(ShardId::of_queue(Q), Q, kit.now().await).await.expect("reads");
    assert_eq!(counts, [0; 9], "a leased job is not due");
    assert_eq!(kit.ready(Q).await, [waiting]);
    let page = kit.ready_page(Q, 5, None, Timestamp(later.0 + 1), 10).await;
    assert_eq!(page.len(), 2, "at a later time the scheduled one is ready as well");
}

pub(crate) async fn deferred_jobs_are_found_by_their_time(kit: Kit) {
    let base = kit.now().await.plus_millis(HOUR_MS);
    let mut at = Vec::new();
    for minutes in [3, 1, 2, 5, 4] {
        let run_at = base.plus_millis(minutes * 60_000);
        at.push((run_at, kit.make(&NewJob { run_at: Some(run_at), ..job(Q) }).await));
    }
    kit.make(&NewJob { run_at: Some(base.plus_millis(60_000)), priority: 6, ..job(Q) }).await;
    kit.made(Q).await;
    at.sort_unstable();
    let window = async |after: Timestamp, until: Timestamp, limit: i64| {
        let shard = ShardId::of_queue(Q);
        let keys = kit.store.deferred(shard, Q, 5, after, until, limit).await.expect("reads");
        keys.into_iter().map(|key| (key.run_at, key.job)).collect::<Vec<_>>()
    };
    let end = base.plus_millis(HOUR_MS);
    assert_eq!(window(base, end, 10).await, at);
    assert_eq!(window(base, end, 2).await, at[..2]);
    assert_eq!(window(at[0].0, at[3].0, 10).await, at[1..=3], "after is out, until is in");
    assert!(window(end, end.plus_millis(HOUR_MS), 10).await.is_empty());
    kit.check().await;
}

pub(crate) async fn counters_follow_every_move(kit: Kit) {
    let later = kit.now().await.plus_millis(HOUR_MS);
    let parent = kit.made(Q).await;
    kit.make(&child(Q, &[parent])).await;
    kit.make(&NewJob { run_at: Some(later), ..job(Q) }).await;
    for kind in [completed(), failed(), retry_after(HOUR_MS)] {
        let id = kit.made(Q).await;
        kit.run(Q, id, kind).await;
    }
    let active = kit.made(Q).await;
    kit.grant(Q, active).await;
    let canceled = kit.made(Q).await;
    kit.cancel(Q, canceled).await;
    let row = kit.queue(Q).await;
    assert_eq!(row.counts, [1, 1, 1, 1, 0, 1, 1, 1, 1]);
    assert_eq!((row.shard, row.paused, row.draining), (Some(ShardId::of_queue(Q)), false, false));
    assert_eq!(kit.store.all_queues().await.expect("reads"), [row]);
    kit.check().await;
}

pub(crate) async fn queues_are_told_by_shard(kit: Kit) {
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        kit.made(name).await;
    }
    let mut all: Vec<String> =
        kit.store.all_queues().await.expect("reads").into_iter().map(|row| row.name).collect();
    all.sort_unstable();
    assert_eq!(all, names);
    for name in names {
        let shard = ShardId::of_queue(name);
        let rows = kit.store.queues(shard).await.expect("reads");
        assert!(rows.iter().all(|row| row.shard == Some(shard)));
        assert!(rows.iter().any(|row| row.name == name));
        assert_eq!(
            kit.store.locate(kit.ready(name).await[0]).await.expect("reads"),
            Some((shard, name.into()))
        );
    }
}
