//! Counters are compared with the rows they count, and put right.

use std::{future::Future, time::Duration};

use ganger::{
    domain::{JobId, JobState, ShardId},
    store::{
        Op, OpResult,
        ops::{ParkOp, Submitted},
    },
};

use super::kit::{HOUR_MS, Kit, child, completed, failed, job, retry_after};

const QUEUES: [&str; 2] = ["mail", "reports"];

/// A life of a few jobs at once, on a lane.
async fn round(kit: &Kit, lane: u16, queue: &str) {
    let commit = async |ops: Vec<Op>| kit.store.commit(lane, &ops).await.expect("commits");
    let jobs: Vec<_> = (0..8).map(|_| job(queue)).collect();
    let made = commit(jobs.iter().map(|job| kit.submit_op(job)).collect()).await;
    assert!(made.iter().all(|made| matches!(made, OpResult::Submitted(_))));
    let granted = commit(jobs[..6].iter().map(|job| kit.grant_op(queue, job.id)).collect()).await;
    let mut ends = vec![kit.cancel_op(queue, jobs[6].id)];
    for (index, granted) in granted.into_iter().enumerate() {
        let OpResult::Granted(granted) = granted else { panic!("not granted: {granted:?}") };
        let kind = match index {
            0 => failed(),
            1 => retry_after(HOUR_MS),
            // Left active.
            2 => continue,
            _ => completed(),
        };
        ends.push(kit.end_op(queue, granted.job, granted.fence, kind));
    }
    commit(ends).await;
}

/// Runs `rounds` of lives on every lane and both queues, while `beside` goes on.
async fn under_load<T>(kit: &Kit, rounds: usize, beside: impl Future<Output = T>) -> T {
    let mut load = tokio::task::JoinSet::new();
    for lane in 0..kit.store.lanes() {
        let kit = kit.clone();
        load.spawn(async move {
            for _ in 0..rounds {
                for queue in QUEUES {
                    round(&kit, lane, queue).await;
                }
            }
        });
    }
    let done = beside.await;
    while let Some(ended) = load.join_next().await {
        ended.expect("the load does not panic");
    }
    done
}

pub(crate) async fn counters_are_never_healed_wrongly_under_load(kit: Kit) {
    let done = std::cell::Cell::new(false);
    let looks = async {
        let mut count = 0;
        while !done.get() || count < 20 {
            count += 1;
            for queue in QUEUES {
                let healed = kit.store.reconcile_live(kit.owner(queue), queue).await.expect("counts");
                assert_eq!(healed, [], "no counter was wrong");
            }
            assert_eq!(kit.store.reconcile_ended(&kit.owned).await.expect("counts"), []);
        }
    };
    let load = async {
        under_load(&kit, 40, std::future::ready(())).await;
        done.set(true);
    };
    tokio::join!(looks, load);
    kit.check().await;
}

pub(crate) async fn counters_of_every_state_are_found_right(kit: Kit) {
    for queue in QUEUES {
        let parent = kit.made(queue).await;
        kit.make(&child(queue, &[parent])).await;
        let later = kit.now().await.plus_millis(HOUR_MS);
        kit.make(&ganger::domain::NewJob { run_at: Some(later), ..job(queue) }).await;
        let gated = kit.made(queue).await;
        let park = ParkOp { owner: kit.owner(queue), jobs: vec![gated], gate: "limit:slow".into() };
        kit.one(Op::Park(park)).await;
        round(&kit, 0, queue).await;
        assert_eq!(kit.store.reconcile_live(kit.owner(queue), queue).await.expect("counts"), []);
    }
    assert_eq!(kit.store.reconcile_ended(&kit.owned).await.expect("counts"), []);
    kit.check().await;
}

/// Breaks counters while batches come and go, by `spoil(shard, queue, column, by)`, and sees exactly that healed.
pub(crate) async fn broken_counters_are_healed_under_load<F: Future<Output = ()>>(
    kit: Kit,
    spoil: impl Fn(ShardId, &'static str, &'static str, i64) -> F,
) {
    let stale = kit.owned.clone();
    let kit = kit.again(false).await;
    let shard = ShardId::of_queue("mail");
    let live = async |kit: &Kit| kit.store.reconcile_live(kit.owner("mail"), "mail").await.expect("counts");
    let heals = async {
        round(&kit, 0, "mail").await;
        for (column, state, by) in [
            ("queued", JobState::Queued, 7),
            ("active", JobState::Active, -3),
            ("retrying", JobState::Retrying, 40),
        ] {
            spoil(shard, "mail", column, by).await;
            let found = live(&kit).await;
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].state, found[0].by, found[0].queue.as_str()), (state, -by, "mail"));
            assert_eq!(live(&kit).await, [], "it is right again");
        }
        spoil(shard, "mail", "completed", -5).await;
        spoil(shard, "mail", "failed", 2).await;
        let found = kit.store.reconcile_ended(&kit.owned).await.expect("counts");
        let found: Vec<_> = found.iter().map(|healed| (healed.state, healed.by)).collect();
        assert_eq!(found, [(JobState::Completed, 5), (JobState::Failed, -2)]);
        // Two at once heal once.
        for _ in 0..10 {
            spoil(shard, "mail", "queued", 11).await;
            let (one, other) = tokio::join!(live(&kit), live(&kit));
            assert_eq!(one.len() + other.len(), 1, "{one:?} {other:?}");
        }
    };
    under_load(&kit, 15, heals).await;
    // A former owner heals nothing.
    spoil(shard, "mail", "queued", 1).await;
    let former = *stale.iter().find(|owned| owned.shard == shard).expect("was owned");
    assert_eq!(kit.store.reconcile_live(former, "mail").await.expect("counts"), []);
    assert_eq!(live(&kit).await.len(), 1);
    kit.check().await;
}

pub(crate) async fn the_newest_that_wait_are_told_newest_first(kit: Kit) {
    let parent = kit.made("mail").await;
    let mut blocked = Vec::new();
    for _ in 0..5 {
        blocked.push(kit.make(&child("reports", &[parent])).await);
        tokio::time::timeout(Duration::from_secs(5), kit.pass(2)).await.expect("time passes");
    }
    blocked.reverse();
    let newest = async |state, limit| -> Vec<JobId> {
        let jobs = kit.store.newest_waiting(state, limit).await.expect("reads");
        assert!(jobs.iter().all(|job| job.state == state));
        jobs.iter().map(|job| job.id).collect()
    };
    assert_eq!(newest(JobState::Blocked, 3).await, blocked[..3]);
    assert_eq!(newest(JobState::Blocked, 25).await, blocked);
    assert_eq!(newest(JobState::Throttled, 25).await, []);
    assert_eq!(newest(JobState::Queued, 25).await, [], "that is not its business");
    let Submitted::Made { .. } = kit.submit(&job("mail")).await else { panic!("is new") };
}
