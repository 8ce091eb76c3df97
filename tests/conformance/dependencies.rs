//! Jobs that wait for jobs.

use ganger::{
    domain::{DependencyPolicy, JobId, JobState, NewJob, RawJson, ShardId},
    store::{
        OpResult,
        ops::{Canceled, InboxTaken, LiveEntry, Retried, SubmitRefusal, Submitted},
    },
};

use super::kit::{HOUR_MS, Kit, child, completed, failed, job, retry_after, tolerant_child};

/// Parents wait here, children there: two shards.
const P: &str = "mail";
const C: &str = "reports";

async fn blocked(kit: &Kit, parents: &[JobId]) -> JobId {
    let id = kit.make(&child(C, parents)).await;
    assert_eq!(kit.state(id).await, JobState::Blocked);
    id
}

fn unblocked(taken: &InboxTaken) -> Vec<JobId> {
    taken.unblocked.iter().map(|entry| entry.job).collect()
}

pub(crate) async fn a_child_runs_after_its_parent_and_gets_its_result(kit: Kit) {
    assert_ne!(ShardId::of_queue(P), ShardId::of_queue(C), "two shards are needed");
    let parent = kit.made(P).await;
    let id = blocked(&kit, &[parent]).await;
    assert!(matches!(kit.one(kit.grant_op(C, id)).await, OpResult::NotReady));
    assert!(kit.ready(C).await.is_empty());
    let ended = kit.run(P, parent, completed()).await;
    assert_eq!(ended.wakes, [ShardId::of_queue(C)]);
    assert_eq!(kit.store.inbox_shards().await.expect("reads"), [ShardId::of_queue(C)]);
    assert_eq!(kit.state(id).await, JobState::Blocked, "until its owner takes the row");
    let taken = kit.inbox(C).await;
    assert_eq!((unblocked(&taken), taken.rows), (vec![id], 1));
    assert_eq!(taken.unblocked[0].state, JobState::Queued);
    assert_eq!(kit.inbox(C).await, InboxTaken::default());
    assert_eq!(kit.timeline(id).await, ["job.blocked blocked", "job.unblocked queued"]);
    assert_eq!(kit.ready(C).await, [id]);
    let granted = kit.grant(C, id).await;
    let result = RawJson::trusted(r#"{"ok":true}"#);
    assert_eq!(granted.dependency_results, [(parent, Some(result))]);
    kit.check().await;
}

pub(crate) async fn many_parents_are_all_waited_for_and_their_results_are_in_order(kit: Kit) {
    let mut parents = Vec::new();
    for _ in 0..20 {
        parents.push(kit.made(P).await);
    }
    let mut mixed = parents.clone();
    mixed.reverse();
    let id = blocked(&kit, &mixed).await;
    for parent in &parents {
        assert!(unblocked(&kit.inbox(C).await).is_empty());
        kit.run(P, *parent, completed()).await;
    }
    assert_eq!(unblocked(&kit.inbox(C).await), [id]);
    let results = kit.grant(C, id).await.dependency_results;
    assert_eq!(results.iter().map(|(parent, _)| *parent).collect::<Vec<_>>(), parents);
    kit.check().await;
}

pub(crate) async fn a_parent_that_completed_before_is_met_at_once(kit: Kit) {
    let parent = kit.made(P).await;
    kit.run(P, parent, completed()).await;
    let id = kit.make(&child(C, &[parent])).await;
    assert_eq!(kit.state(id).await, JobState::Queued);
    assert_eq!(kit.timeline(id).await, ["job.enqueued queued"]);
    assert_eq!(kit.view(id).await.dependency_policy, Some(DependencyPolicy::Block));
    assert_eq!(kit.grant(C, id).await.dependency_results.len(), 1);
    kit.check().await;
}

pub(crate) async fn a_parent_that_failed_or_was_canceled_before_blocks_and_is_named(kit: Kit) {
    let lost = kit.made(P).await;
    kit.run(P, lost, failed()).await;
    let gone = kit.made(P).await;
    kit.cancel(P, gone).await;
    for parent in [lost, gone] {
        let new = child(C, &[parent]);
        let Submitted::Made { entry, blocked_reason, .. } = kit.submit(&new).await else {
            panic!("not made")
        };
        assert_eq!(entry.state, JobState::Blocked);
        let reason = blocked_reason.expect("a reason");
        assert!(reason.contains(&parent.to_string()), "{reason}");
        assert_eq!(kit.view(new.id).await.blocked_reason, Some(reason));
        let tolerant = kit.make(&tolerant_child(C, &[parent])).await;
        assert_eq!(kit.state(tolerant).await, JobState::Queued);
        assert_eq!(kit.grant(C, tolerant).await.dependency_results, [(parent, None)]);
    }
    kit.check().await;
}

pub(crate) async fn a_parent_that_fails_or_is_canceled_after_leaves_the_child_stuck(kit: Kit) {
    for cancel in [false, true] {
        let parent = kit.made(P).await;
        let strict = blocked(&kit, &[parent]).await;
        let tolerant = kit.make(&tolerant_child(C, &[parent])).await;
        if cancel {
            let wakes = vec![ShardId::of_queue(C)];
            assert_eq!(kit.cancel(P, parent).await, Canceled::Done { from: JobState::Queued, wakes });
        } else {
            kit.run(P, parent, failed()).await;
        }
        let taken = kit.inbox(C).await;
        assert_eq!(unblocked(&taken), [tolerant]);
        assert_eq!(taken.rows, 1, "one row for both children");
        assert_eq!(taken.stuck.len(), 1);
        let (entry, reason) = &taken.stuck[0];
        assert_eq!((entry.job, entry.state), (strict, JobState::Blocked));
        assert!(reason.contains(&parent.to_string()), "{reason}");
        assert_eq!(kit.view(strict).await.blocked_reason.as_ref(), Some(reason));
    }
    kit.check().await;
}

pub(crate) async fn a_retried_parent_unlocks_its_children_later(kit: Kit) {
    let parent = kit.made(P).await;
    let id = blocked(&kit, &[parent]).await;
    kit.run(P, parent, failed()).await;
    // The retry comes before the news is read, and after.
    kit.retry(P, parent).await;
    let taken = kit.inbox(C).await;
    assert!(taken.stuck.is_empty() && taken.unblocked.is_empty(), "it runs again: {taken:?}");
    kit.run(P, parent, failed()).await;
    assert_eq!(kit.inbox(C).await.stuck.len(), 1);
    let late = blocked(&kit, &[parent]).await;
    kit.retry(P, parent).await;
    kit.run(P, parent, completed()).await;
    let mut jobs = unblocked(&kit.inbox(C).await);
    jobs.sort_unstable();
    assert_eq!(jobs, [id, late]);
    assert_eq!(kit.view(id).await.blocked_reason, None);
    kit.check().await;
}

pub(crate) async fn a_child_waits_for_its_retried_parent_and_no_longer_for_a_failed_job(kit: Kit) {
    let (parent, other) = (kit.made(P).await, kit.made(P).await);
    kit.run(P, parent, failed()).await;
    let (born_stuck, with_other) = (blocked(&kit, &[parent]).await, blocked(&kit, &[parent, other]).await);
    let tolerant = kit.make(&tolerant_child(C, &[parent])).await;
    kit.run(P, other, failed()).await;
    kit.inbox(C).await;
    let named = async |id| kit.view(id).await.blocked_reason.unwrap_or_default();
    assert!(named(born_stuck).await.contains(&parent.to_string()));
    assert!(named(with_other).await.contains(&parent.to_string()));
    let Retried::Done { wakes, .. } = kit.retry(P, parent).await else { panic!("not retried") };
    assert_eq!(wakes, [ShardId::of_queue(C)]);
    assert!(named(born_stuck).await.contains(&parent.to_string()), "until its owner takes the row");
    let taken = kit.inbox(C).await;
    assert_eq!(taken.rows, 1);
    assert!(taken.unblocked.is_empty(), "{taken:?}");
    assert_eq!(jobs_of(&taken.stuck), [with_other], "for another reason than before");
    assert_eq!(kit.view(born_stuck).await.blocked_reason, None);
    assert_eq!(kit.state(born_stuck).await, JobState::Blocked);
    assert!(named(with_other).await.contains(&other.to_string()));
    assert_eq!(kit.timeline(born_stuck).await, ["job.blocked blocked"], "nothing happened to it");
    assert_eq!(kit.state(tolerant).await, JobState::Queued, "it is left alone");
    kit.check().await;
    kit.run(P, parent, failed()).await;
    assert_eq!(jobs_of(&kit.inbox(C).await.stuck), [born_stuck, with_other], "it failed again");
    // A retry and the end after it, taken in one step.
    kit.retry(P, parent).await;
    kit.run(P, parent, completed()).await;
    let taken = kit.inbox(C).await;
    assert_eq!((taken.rows, unblocked(&taken)), (2, vec![born_stuck]));
    // A waiting parent that is retried has told nobody that it failed.
    let waiting = kit.made(P).await;
    blocked(&kit, &[waiting]).await;
    kit.run(P, waiting, retry_after(HOUR_MS)).await;
    let answer = kit.retry(P, waiting).await;
    assert!(matches!(&answer, Retried::Done { wakes, .. } if wakes.is_empty()), "{answer:?}");
    kit.check().await;
}

fn jobs_of(stuck: &[(LiveEntry, String)]) -> Vec<JobId> {
    stuck.iter().map(|(entry, _)| entry.job).collect()
}

pub(crate) async fn a_canceled_dead_letter_is_told_to_tolerant_children(kit: Kit) {
    let parent = kit.made(P).await;
    kit.run(P, parent, failed()).await;
    let strict = blocked(&kit, &[parent]).await;
    let wakes = vec![ShardId::of_queue(C)];
    assert_eq!(kit.cancel(P, parent).await, Canceled::Done { from: JobState::Failed, wakes });
    let taken = kit.inbox(C).await;
    assert!(taken.unblocked.is_empty());
    assert_eq!(kit.state(strict).await, JobState::Blocked);
    assert!(kit.view(strict).await.blocked_reason.expect("a reason").contains("canceled"));
    kit.check().await;
}

pub(crate) async fn unknown_and_foreign_parents_are_refused(kit: Kit) {
    let known = kit.made(P).await;
    let foreign = kit.make(&NewJob { tenant: "acme".into(), ..job(P) }).await;
    let before = kit.dump().await;
    for bad in [JobId::new(), foreign] {
        let jobs = [job(C), child(C, &[known, bad])];
        let answer = kit.one(kit.birth_op(&jobs)).await;
        let OpResult::SubmitRefused(refusal) = answer else { panic!("{answer:?}") };
        assert_eq!(refusal, SubmitRefusal::UnknownDependency { index: 1, dependency: bad });
    }
    // A job cannot wait for one behind it, nor for itself.
    let (first, mut second) = (job(C), job(C));
    second.dependencies = vec![first.id];
    let answer = kit.one(kit.birth_op(&[second, first])).await;
    assert!(matches!(answer, OpResult::SubmitRefused(_)), "{answer:?}");
    let mut own = job(C);
    own.dependencies = vec![own.id];
    let answer = kit.one(kit.submit_op(&own)).await;
    assert!(matches!(answer, OpResult::SubmitRefused(_)), "{answer:?}");
    assert_eq!(kit.dump().await, before, "nothing was written");
}

pub(crate) async fn births_may_depend_on_one_another_and_are_announced(kit: Kit) {
    let first = job(P);
    let second = child(C, &[first.id]);
    let third = tolerant_child(P, &[first.id, second.id]);
    let jobs = [first.clone(), second.clone(), third.clone()];
    let OpResult::Submitted(made) = kit.one(kit.birth_op(&jobs)).await else { panic!("refused") };
    assert_eq!(made.len(), 3);
    let taken = kit.inbox(P).await;
    let mut born: Vec<_> = taken.born.iter().map(|entry| (entry.job, entry.state)).collect();
    born.sort_unstable();
    assert_eq!(born, [(first.id, JobState::Queued), (third.id, JobState::Blocked)]);
    assert_eq!(taken.rows, 2);
    assert_eq!(kit.inbox(C).await.born.len(), 1);
    kit.run(P, first.id, completed()).await;
    assert_eq!(unblocked(&kit.inbox(C).await), [second.id]);
    assert!(unblocked(&kit.inbox(P).await).is_empty(), "it waits for the other too");
    kit.run(C, second.id, failed()).await;
    assert_eq!(unblocked(&kit.inbox(P).await), [third.id]);
    kit.check().await;
}

pub(crate) async fn births_that_ended_or_run_are_not_announced_as_waiting(kit: Kit) {
    let jobs = [job(P), job(P), job(P)];
    kit.commit(&[kit.birth_op(&jobs)]).await;
    kit.grant(P, jobs[0].id).await;
    kit.cancel(P, jobs[1].id).await;
    let taken = kit.inbox(P).await;
    assert_eq!(taken.rows, 3);
    assert_eq!(taken.born.iter().map(|entry| entry.job).collect::<Vec<_>>(), [jobs[2].id]);
}

pub(crate) async fn an_inbox_is_taken_in_steps(kit: Kit) {
    let jobs: Vec<_> = (0..5).map(|_| job(P)).collect();
    kit.commit(&[kit.birth_op(&jobs)]).await;
    let mut born = Vec::new();
    for expected in [2, 2, 1, 0] {
        let op = ganger::store::ops::InboxOp { owner: kit.owner(P), limit: 2 };
        let OpResult::Inbox(taken) = kit.one(ganger::store::Op::Inbox(op)).await else { panic!("no inbox") };
        assert_eq!(taken.rows, expected);
        born.extend(taken.born.iter().map(|entry| entry.job));
    }
    assert_eq!(born, jobs.iter().map(|job| job.id).collect::<Vec<_>>());
}

pub(crate) async fn a_diamond_is_met_by_one_batch_and_by_two(kit: Kit) {
    for together in [true, false] {
        let (left, right) = (kit.made(P).await, kit.made(P).await);
        let id = blocked(&kit, &[left, right]).await;
        let (a, b) = (kit.grant(P, left).await, kit.grant(P, right).await);
        let ends = [kit.end_op(P, left, a.fence, completed()), kit.end_op(P, right, b.fence, completed())];
        if together {
            kit.commit(&ends).await;
        } else {
            kit.commit(&ends[..1]).await;
            assert!(unblocked(&kit.inbox(C).await).is_empty());
            kit.commit(&ends[1..]).await;
        }
        assert_eq!(unblocked(&kit.inbox(C).await), [id]);
        assert_eq!(kit.timeline(id).await, ["job.blocked blocked", "job.unblocked queued"]);
    }
    kit.check().await;
}

pub(crate) async fn a_parent_may_end_in_the_batch_that_makes_its_child(kit: Kit) {
    let parent = kit.made(P).await;
    let granted = kit.grant(P, parent).await;
    let new = child(C, &[parent]);
    for order in [0, 1] {
        let new = NewJob { id: JobId::new(), ..new.clone() };
        if order == 0 {
            kit.commit(&[kit.submit_op(&new), kit.end_op(P, parent, granted.fence, completed())]).await;
        } else {
            kit.commit(&[kit.end_op(P, parent, granted.fence, completed()), kit.submit_op(&new)]).await;
        }
        kit.inbox(C).await;
        assert_eq!(kit.state(new.id).await, JobState::Queued, "it is not left behind");
    }
    kit.check().await;
}

pub(crate) async fn everything_of_a_life_may_be_in_one_batch(kit: Kit) {
    let parent = kit.made(P).await;
    let granted = kit.grant(P, parent).await;
    let id = blocked(&kit, &[parent]).await;
    let results = kit.commit(&[kit.inbox_op(C), kit.end_op(P, parent, granted.fence, completed())]).await;
    let OpResult::Inbox(taken) = &results[0] else { panic!("{results:?}") };
    let mut jobs = unblocked(taken);
    jobs.extend(unblocked(&kit.inbox(C).await));
    assert_eq!(jobs, [id], "once, by this batch or by the next");
    kit.check().await;
}

pub(crate) async fn an_unblocked_job_still_waits_for_its_time(kit: Kit) {
    let later = kit.now().await.plus_millis(HOUR_MS);
    let parent = kit.made(P).await;
    let id = kit.make(&NewJob { run_at: Some(later), ..child(C, &[parent]) }).await;
    assert_eq!(kit.state(id).await, JobState::Blocked);
    kit.run(P, parent, completed()).await;
    let taken = kit.inbox(C).await;
    assert_eq!((taken.unblocked[0].state, taken.unblocked[0].run_at), (JobState::Scheduled, later));
    assert_eq!(kit.timeline(id).await, ["job.blocked blocked", "job.unblocked scheduled"]);
    kit.check().await;
}

pub(crate) async fn a_canceled_child_is_left_alone(kit: Kit) {
    let parent = kit.made(P).await;
    let id = blocked(&kit, &[parent]).await;
    kit.cancel(C, id).await;
    kit.run(P, parent, completed()).await;
    let taken = kit.inbox(C).await;
    assert!(taken.unblocked.is_empty() && taken.stuck.is_empty());
    assert_eq!(kit.timeline(id).await, ["job.blocked blocked", "job.canceled canceled"]);
    kit.check().await;
}

pub(crate) async fn a_graph_shows_everything_connected(kit: Kit) {
    let (top, other, alone) = (kit.made(P).await, kit.made(P).await, kit.made(P).await);
    let middle = blocked(&kit, &[top, other]).await;
    let bottom = kit.make(&tolerant_child(C, &[middle])).await;
    kit.run(P, top, failed()).await;
    kit.inbox(C).await;
    let mut graphs = Vec::new();
    for root in [top, other, middle, bottom] {
        let graph = kit.store.graph(root).await.expect("reads").expect("is there");
        assert_eq!(graph.root_job_id, root);
        assert!(!graph.truncated);
        graphs.push(graph.nodes);
    }
    assert!(graphs.windows(2).all(|pair| pair[0] == pair[1]), "the same from everywhere");
    let nodes = &graphs[0];
    assert_eq!(nodes.iter().map(|node| node.job_id).collect::<Vec<_>>(), [top, other, middle, bottom]);
    assert_eq!(nodes[0].state, JobState::Failed);
    assert_eq!(nodes[0].dependents, [middle]);
    assert_eq!((&nodes[2].depends_on[..], &nodes[2].dependents[..]), (&[top, other][..], &[bottom][..]));
    assert!(nodes[2].blocked_reason.as_ref().is_some_and(|reason| reason.contains(&top.to_string())));
    assert_eq!(nodes[3].dependency_policy, DependencyPolicy::AllowFailed);
    let graph = kit.store.graph(alone).await.expect("reads").expect("is there");
    assert_eq!(graph.nodes.len(), 1);
    assert_eq!(kit.inspect(bottom).await.graph.nodes, graphs[3]);
}
