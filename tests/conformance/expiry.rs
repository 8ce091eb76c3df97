//! Jobs that must start before a time.

use ganger::{
    domain::{JobId, JobOptions, JobState, NewJob, Timestamp},
    store::{
        Op, OpResult,
        ops::{CancelOp, Canceled, ParkOp},
    },
};

use super::kit::{HOUR_MS, Kit, child, failed, job, retry_after};

const Q: &str = "mail";

fn expiring(at: Timestamp, job: NewJob) -> NewJob {
    NewJob { options: JobOptions { expires_at: Some(at), ..JobOptions::default() }, ..job }
}

async fn expired(kit: &Kit) -> Vec<JobId> {
    let rows = kit.store.expired(None, 100).await.expect("reads");
    assert!(rows.iter().all(|row| row.queue == Q && row.shard == kit.owner(Q).shard));
    rows.into_iter().map(|row| row.job).collect()
}

async fn expire(kit: &Kit, job: JobId) -> Canceled {
    let owner = kit.owner(Q);
    let op = CancelOp { owner, job, reason: "expired".into(), unstarted_only: true, by: None };
    match kit.one(Op::Cancel(op)).await {
        OpResult::Canceled(canceled) => canceled,
        other => panic!("no cancel: {other:?}"),
    }
}

pub(crate) async fn only_what_was_never_leased_expires(kit: Kit) {
    let soon = kit.now().await.plus_millis(HOUR_MS);
    let waiting = kit.make(&expiring(soon, job(Q))).await;
    assert_eq!(kit.view(waiting).await.expires_at, Some(soon), "it is shown");
    let later = NewJob { run_at: Some(soon), ..job(Q) };
    let scheduled = kit.make(&expiring(soon, later)).await;
    let blocked = kit.make(&expiring(soon, child(Q, &[waiting]))).await;
    let parked = kit.make(&expiring(soon, job(Q))).await;
    let gate = ParkOp { owner: kit.owner(Q), jobs: vec![parked], gate: "type:x".into() };
    assert!(matches!(kit.one(Op::Park(gate)).await, OpResult::Parked(1)));
    for (id, from) in [
        (blocked, JobState::Blocked),
        (scheduled, JobState::Scheduled),
        (parked, JobState::Queued),
        (waiting, JobState::Queued),
    ] {
        let answer = expire(&kit, id).await;
        assert!(matches!(&answer, Canceled::Done { from: was, .. } if *was == from), "{from}: {answer:?}");
        assert_eq!(kit.state(id).await, JobState::Canceled);
        let end = kit.events(id).await.pop().expect("an end");
        let told = end.metadata.expect("a reason");
        assert!(told.text().contains("expired"), "{}", told.text());
    }

    let leased = kit.made(Q).await;
    let before = kit.grant(Q, leased).await;
    assert_eq!(expire(&kit, leased).await, Canceled::Conflict(JobState::Active));
    assert!(!kit.view(leased).await.cancel_requested);
    kit.end(Q, leased, before.fence, retry_after(HOUR_MS)).await;
    assert_eq!(expire(&kit, leased).await, Canceled::Conflict(JobState::Retrying));
    kit.retry(Q, leased).await;
    assert_eq!(expire(&kit, leased).await, Canceled::Conflict(JobState::Queued));
    kit.run(Q, leased, failed()).await;
    assert_eq!(expire(&kit, leased).await, Canceled::Conflict(JobState::Failed));
    assert_eq!(kit.state(leased).await, JobState::Failed, "nothing was written");
    assert_eq!(expire(&kit, JobId::new()).await, Canceled::NotFound);
    kit.check().await;
}

pub(crate) async fn jobs_past_their_time_are_found_and_not_granted(kit: Kit) {
    // Late enough that a busy machine has granted two of them before.
    let soon = kit.now().await.plus_millis(2_000);
    let late = kit.make(&expiring(soon, job(Q))).await;
    let stuck = kit.make(&expiring(soon.plus_millis(1), child(Q, &[late]))).await;
    let running = kit.make(&expiring(soon, job(Q))).await;
    let tried = kit.make(&expiring(soon, job(Q))).await;
    kit.make(&expiring(soon.plus_millis(HOUR_MS), job(Q))).await;
    kit.made(Q).await;
    kit.grant(Q, running).await;
    kit.run(Q, tried, retry_after(0)).await;
    kit.reach(soon.plus_millis(2)).await;
    assert_eq!(expired(&kit).await, [late, stuck]);
    let rows = kit.store.expired(Some((soon, late)), 1).await.expect("reads");
    assert_eq!(rows.iter().map(|row| row.job).collect::<Vec<_>>(), [stuck], "pages go on behind a row");
    assert!(matches!(kit.one(kit.grant_op(Q, late)).await, OpResult::Expired));
    assert_eq!(kit.state(late).await, JobState::Queued, "nothing was written");
    assert!(matches!(kit.one(kit.grant_op(Q, tried)).await, OpResult::Granted(_)), "it has started before");
    assert_eq!(kit.view(tried).await.expires_at, Some(soon), "what was asked stays shown");
    kit.one(kit.cancel_op(Q, late)).await;
    assert_eq!(expired(&kit).await, [stuck]);
    kit.check().await;
}
