//! Repeats of a submission.

use ganger::{
    domain::{JobId, JobState, NewJob},
    store::{
        OpResult,
        ops::{SubmitRefusal, Submitted},
    },
};

use super::kit::{HOUR_MS, Kit, completed, failed, job, keyed, retry_after};

const Q: &str = "mail";

/// Asserts that `job` is answered with `first`.
async fn repeats(kit: &Kit, job: &NewJob, first: JobId) {
    assert_eq!(kit.submit(job).await, Submitted::Duplicate(first));
    assert!(kit.store.job(job.id).await.expect("reads").is_none(), "nothing was written for it");
}

pub(crate) async fn a_repeat_is_answered_with_the_first_job(kit: Kit) {
    let id = kit.make(&keyed(Q, "k", 900, 1)).await;
    repeats(&kit, &keyed(Q, "k", 900, 1), id).await;
    assert_eq!(kit.timeline(id).await, ["job.enqueued queued", "job.duplicate_suppressed queued"]);
    let record = kit.inspect(id).await.idempotency.expect("a record");
    assert_eq!((record.key.as_str(), record.tenant_id.as_str(), record.job_id), ("k", "default", id));
    assert_eq!(record.expires_at, kit.view(id).await.created_at.plus_millis(900_000));
    assert_eq!(kit.view(id).await.idempotency_key.as_deref(), Some("k"));
    kit.check().await;
}

pub(crate) async fn repeats_are_told_in_every_state_without_gaps(kit: Kit) {
    let id = kit.make(&keyed(Q, "k", 900, 1)).await;
    let repeat = || keyed(Q, "k", 900, 1);
    repeats(&kit, &repeat(), id).await;
    let granted = kit.grant(Q, id).await;
    repeats(&kit, &repeat(), id).await;
    repeats(&kit, &repeat(), id).await;
    kit.cancel(Q, id).await;
    repeats(&kit, &repeat(), id).await;
    kit.end(Q, id, granted.fence, retry_after(0)).await;
    kit.check().await;
    repeats(&kit, &repeat(), id).await;
    kit.check().await;
    kit.run(Q, id, failed()).await;
    repeats(&kit, &repeat(), id).await;
    repeats(&kit, &repeat(), id).await;
    kit.check().await;
    kit.retry(Q, id).await;
    repeats(&kit, &repeat(), id).await;
    kit.run(Q, id, completed()).await;
    repeats(&kit, &repeat(), id).await;
    let lines = kit.timeline(id).await;
    let told = |state: &str| {
        lines.iter().filter(|line| **line == format!("job.duplicate_suppressed {state}")).count()
    };
    assert_eq!((told("queued"), told("active"), told("failed"), told("completed")), (3, 3, 2, 1));
    kit.check().await;
}

pub(crate) async fn a_key_with_another_content_is_refused(kit: Kit) {
    let first = kit.make(&keyed(Q, "k", 900, 1)).await;
    let before = kit.dump().await;
    let answer = kit.one(kit.submit_op(&keyed(Q, "k", 900, 2))).await;
    let OpResult::SubmitRefused(refusal) = answer else { panic!("{answer:?}") };
    assert_eq!(refusal, SubmitRefusal::KeyMismatch { index: 0, job: first });
    // All jobs of an operation are refused with the one.
    let jobs = [job(Q), keyed(Q, "new", 900, 1), keyed(Q, "k", 900, 2)];
    let answer = kit.one(kit.birth_op(&jobs)).await;
    let OpResult::SubmitRefused(refusal) = answer else { panic!("{answer:?}") };
    assert_eq!(refusal, SubmitRefusal::KeyMismatch { index: 2, job: first });
    assert_eq!(kit.dump().await, before, "nothing was written");
    kit.make(&keyed(Q, "new", 900, 1)).await;
}

pub(crate) async fn keys_are_a_tenants_own(kit: Kit) {
    let first = kit.make(&keyed(Q, "k", 900, 1)).await;
    let other = NewJob { tenant: "acme".into(), ..keyed(Q, "k", 900, 1) };
    kit.make(&other).await;
    repeats(&kit, &NewJob { tenant: "acme".into(), ..keyed(Q, "k", 900, 1) }, other.id).await;
    repeats(&kit, &keyed(Q, "k", 900, 1), first).await;
}

pub(crate) async fn a_key_holds_over_its_window_while_its_job_lives(kit: Kit) {
    let first = kit.make(&keyed(Q, "k", 0, 1)).await;
    repeats(&kit, &keyed(Q, "k", 0, 1), first).await;
    kit.run(Q, first, retry_after(HOUR_MS)).await;
    kit.store.maintain().await.expect("maintains");
    repeats(&kit, &keyed(Q, "k", 0, 1), first).await;
    kit.cancel(Q, first).await;
    let second = kit.make(&keyed(Q, "k", 0, 2)).await;
    assert_ne!(first, second);
    repeats(&kit, &keyed(Q, "k", 0, 2), second).await;
    assert!(kit.inspect(first).await.idempotency.is_none(), "the key names the second now");
    assert_eq!(kit.inspect(second).await.idempotency.map(|record| record.job_id), Some(second));
    kit.run(Q, second, completed()).await;
    kit.store.maintain().await.expect("maintains");
    assert!(kit.inspect(second).await.idempotency.is_none(), "what no longer holds is dropped");
    kit.check().await;
}

pub(crate) async fn a_key_holds_for_its_window_after_its_job_ended(kit: Kit) {
    let first = kit.make(&keyed(Q, "k", 900, 1)).await;
    kit.run(Q, first, completed()).await;
    kit.store.maintain().await.expect("maintains");
    repeats(&kit, &keyed(Q, "k", 900, 1), first).await;
}

pub(crate) async fn repeats_within_one_batch_are_the_first_ones(kit: Kit) {
    let (first, second, third) = (keyed(Q, "k", 900, 1), keyed(Q, "k", 900, 1), keyed(Q, "k", 900, 2));
    let results = kit.commit(&[kit.submit_op(&first), kit.submit_op(&second), kit.submit_op(&third)]).await;
    assert!(matches!(&results[0], OpResult::Submitted(made) if matches!(made[0], Submitted::Made { .. })));
    assert!(
        matches!(&results[1], OpResult::Submitted(made) if made[0] == Submitted::Duplicate(first.id)),
        "{results:?}"
    );
    assert!(
        matches!(&results[2], OpResult::SubmitRefused(SubmitRefusal::KeyMismatch { job, .. }) if *job == first.id),
        "{results:?}"
    );
    assert_eq!(kit.timeline(first.id).await, ["job.enqueued queued", "job.duplicate_suppressed queued"]);
    // And within one operation.
    let jobs = [keyed(Q, "j", 900, 1), keyed(Q, "j", 900, 1)];
    let OpResult::Submitted(made) = kit.one(kit.birth_op(&jobs)).await else { panic!("refused") };
    assert_eq!(made[1], Submitted::Duplicate(jobs[0].id));
    kit.check().await;
}

pub(crate) async fn a_refused_first_leaves_its_key_to_the_second(kit: Kit) {
    let unknown = JobId::new();
    let refused = NewJob { dependencies: vec![unknown], ..keyed(Q, "k", 900, 1) };
    let second = keyed(Q, "k", 900, 1);
    let results = kit.commit(&[kit.submit_op(&refused), kit.submit_op(&second)]).await;
    assert!(matches!(results[0], OpResult::SubmitRefused(SubmitRefusal::UnknownDependency { .. })));
    assert!(
        matches!(&results[1], OpResult::Submitted(made) if matches!(made[0], Submitted::Made { .. })),
        "{results:?}"
    );
    repeats(&kit, &keyed(Q, "k", 900, 1), second.id).await;
}

pub(crate) async fn concurrent_repeats_make_one_job(kit: Kit) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let kit = kit.clone();
        tasks.spawn(async move {
            let mut named = Vec::new();
            for key in ["a", "b", "c", "d"] {
                let job = keyed(Q, key, 900, 1);
                named.push(match kit.submit(&job).await {
                    Submitted::Made { entry, .. } => (entry.job, true),
                    Submitted::Duplicate(first) => (first, false),
                });
            }
            named
        });
    }
    let answers = tasks.join_all().await;
    for key in 0..4 {
        let first = answers[0][key].0;
        assert!(answers.iter().all(|named| named[key].0 == first), "all name one job");
        assert_eq!(answers.iter().filter(|named| named[key].1).count(), 1, "one made it");
    }
    assert_eq!(kit.all_jobs().await.len(), 4);
    kit.check().await;
}

pub(crate) async fn a_job_id_inserted_again_is_answered_again(kit: Kit) {
    let later = kit.now().await.plus_millis(HOUR_MS);
    for new in [job(Q), keyed(Q, "k", 900, 1), NewJob { run_at: Some(later), ..job(Q) }] {
        let first = kit.submit(&new).await;
        let before = kit.dump().await;
        assert_eq!(kit.submit(&new).await, first);
        let births = kit.one(kit.birth_op(std::slice::from_ref(&new))).await;
        assert!(matches!(births, OpResult::Submitted(again) if again[0] == first));
        assert_eq!(kit.dump().await, before, "nothing was written");
    }
    let done = kit.made(Q).await;
    kit.run(Q, done, completed()).await;
    let again = NewJob { id: done, ..job(Q) };
    assert!(matches!(kit.submit(&again).await, Submitted::Made { entry, .. } if entry.job == done));
    assert_eq!(kit.state(done).await, JobState::Completed);
    kit.check().await;
}
