//! Changes of waiting jobs, moves between queues, and jobs that are forgotten.

use ganger::{
    domain::{EventKind, JobId, JobOptions, JobState, NewJob, RawJson, ShardId},
    store::{
        Op, OpResult,
        audit::{AuditFilter, AuditRow},
        ops::{
            Changed, ChangedJob, ForgetOp, JobPatch, LiveEntry, ParkOp, Requester, SubmitRefusal, Submitted,
            UpdateOp,
        },
        read::JobFilter,
    },
};

use super::kit::{HOUR_MS, Kit, child, completed, failed, job, keyed, retry_after};

const Q: &str = "mail";
/// A queue of another shard than `mail`'s.
const OTHER: &str = "reports";

fn by() -> Requester {
    Requester { actor: "operator".into(), request_id: "req-1".into(), reason: Some("a test".into()) }
}

pub(crate) fn update_op(kit: &Kit, queue: &str, job: JobId, patch: JobPatch) -> Op {
    Op::Update(UpdateOp { owner: kit.owner(queue), job, patch, by: by() })
}

pub(crate) fn forget_op(kit: &Kit, queue: &str, job: JobId, dead_letter_only: bool) -> Op {
    Op::Forget(ForgetOp { owner: kit.owner(queue), job, dead_letter_only, by: by() })
}

async fn changed(kit: &Kit, op: Op) -> Changed {
    match kit.one(op).await {
        OpResult::Changed(changed) => changed,
        other => panic!("no change: {other:?}"),
    }
}

async fn update(kit: &Kit, queue: &str, job: JobId, patch: JobPatch) -> Changed {
    changed(kit, update_op(kit, queue, job, patch)).await
}

async fn forget(kit: &Kit, queue: &str, job: JobId) -> Changed {
    changed(kit, forget_op(kit, queue, job, false)).await
}

/// The change of a job that must be done; how its owner knows it.
async fn done(kit: &Kit, queue: &str, job: JobId, patch: JobPatch) -> ChangedJob {
    match update(kit, queue, job, patch).await {
        Changed::Done(done) => *done,
        other => panic!("not done: {other:?}"),
    }
}

fn to_queue(queue: &str) -> JobPatch {
    JobPatch { queue: Some(queue.into()), ..JobPatch::default() }
}

fn to_priority(priority: i16) -> JobPatch {
    JobPatch { priority: Some(priority), ..JobPatch::default() }
}

async fn in_ms(kit: &Kit, millis: i64) -> JobPatch {
    JobPatch { run_at: Some(kit.now().await.plus_millis(millis)), ..JobPatch::default() }
}

async fn listed(kit: &Kit, filter: JobFilter) -> Vec<JobId> {
    let jobs = kit.jobs(&filter, None, 1_000).await;
    let ids: Vec<JobId> = jobs.into_iter().map(|job| job.id).collect();
    assert_eq!(kit.store.search_ids(&filter, None, 1_000, 1_000).await.expect("reads").found, ids);
    ids
}

async fn of_queue(kit: &Kit, queue: &str) -> Vec<JobId> {
    listed(kit, JobFilter { queue: Some(queue.into()), ..JobFilter::default() }).await
}

async fn tagged(kit: &Kit, tag: &str) -> Vec<JobId> {
    listed(kit, JobFilter { tag: Some(tag.into()), ..JobFilter::default() }).await
}

async fn audit(kit: &Kit, job: JobId) -> Vec<AuditRow> {
    let filter = AuditFilter {
        object_type: Some("job".into()),
        object_id: Some(job.to_string()),
        ..AuditFilter::default()
    };
    kit.store.audit(&filter, None, 1_000).await.expect("reads")
}

fn json(value: &Option<RawJson>) -> serde_json::Value {
    serde_json::from_str(value.as_ref().expect("is there").text()).expect("JSON")
}

pub(crate) async fn a_change_is_shown_and_leaves_the_first_row_of_the_timeline(kit: Kit) {
    let options = JobOptions { tags: vec!["old".into()], cost: Some(3), ..JobOptions::default() };
    let id = kit.make(&NewJob { options, ..job(Q) }).await;
    let before = kit.view(id).await;
    let patch = JobPatch {
        priority: Some(9),
        payload: Some(RawJson::trusted(r#"{ "big":12345678901234567890, "nul":"\u0000" }"#)),
        max_attempts: Some(7),
        tags: Some(vec!["new".into()]),
        ..JobPatch::default()
    };
    let changed = done(&kit, Q, id, patch).await;
    assert_eq!((changed.from, changed.kind), (JobState::Queued, Some(EventKind::Updated)));
    let entry = changed.entry.expect("it waits here");
    assert_eq!((entry.priority, entry.run_at, entry.state), (9, before.run_at, JobState::Queued));
    let after = kit.view(id).await;
    assert_eq!((after.priority, after.max_attempts, after.cost), (9, 7, Some(3)));
    assert_eq!(after.payload.text(), r#"{ "big":12345678901234567890, "nul":"\u0000" }"#);
    assert_eq!((after.tags, after.run_at), (vec!["new".to_owned()], before.run_at));
    assert_eq!(kit.timeline(id).await, ["job.enqueued queued", "job.updated queued"]);
    let told = json(&kit.events(id).await[1].metadata);
    assert_eq!(told["fields"], serde_json::json!(["priority", "payload", "maxAttempts", "tags"]));
    assert_eq!(tagged(&kit, "new").await, [id]);
    assert!(tagged(&kit, "old").await.is_empty());
    let rows = audit(&kit, id).await;
    let [row] = rows.as_slice() else { panic!("one row: {rows:#?}") };
    assert_eq!((row.action.as_str(), row.actor.as_str()), ("job.updated", "operator"));
    assert_eq!((row.request_id.as_str(), row.reason.as_deref()), ("req-1", Some("a test")));
    assert_eq!(json(&row.before)["payload"], serde_json::json!({ "to": "a@example.org" }));
    assert_eq!((&json(&row.before)["priority"], &json(&row.after)["priority"]), (&5.into(), &9.into()));
    let granted = kit.grant(Q, id).await;
    assert_eq!((granted.priority, granted.max_attempts), (9, 7));
    assert_eq!(granted.payload, after.payload);
    kit.end(Q, id, granted.fence, completed()).await;
    kit.check().await;
}

pub(crate) async fn what_is_so_already_is_not_written(kit: Kit) {
    let id = kit.made(Q).await;
    let before = kit.dump().await;
    let view = kit.view(id).await;
    let patch = JobPatch {
        priority: Some(view.priority),
        queue: Some(Q.into()),
        payload: Some(view.payload),
        // Ready already: it keeps its place.
        run_at: Some(kit.now().await),
        max_attempts: Some(view.max_attempts),
        tags: Some(Vec::new()),
    };
    assert_eq!(update(&kit, Q, id, patch).await, Changed::Same(JobState::Queued));
    assert_eq!(kit.dump().await, before);
    assert!(audit(&kit, id).await.is_empty());
}

pub(crate) async fn a_change_of_the_definition_alone_keeps_the_place(kit: Kit) {
    let id = kit.made(Q).await;
    let patch = JobPatch { max_attempts: Some(9), ..JobPatch::default() };
    assert_eq!(update(&kit, Q, id, patch).await, Changed::InPlace(JobState::Queued));
    assert_eq!(kit.view(id).await.max_attempts, 9);
    kit.check().await;
}

pub(crate) async fn a_job_moves_to_another_queue_with_all_that_counts_it(kit: Kit) {
    let (first, id) = (kit.made(Q).await, kit.made(Q).await);
    let changed = done(&kit, Q, id, to_queue(OTHER)).await;
    let shard = ShardId::of_queue(OTHER);
    assert_ne!(shard, ShardId::of_queue(Q));
    assert_eq!((changed.entry, changed.wakes), (None, vec![shard]));
    assert_eq!(kit.ready(Q).await, [first]);
    assert_eq!(kit.ready(OTHER).await, [id]);
    assert_eq!((of_queue(&kit, Q).await, of_queue(&kit, OTHER).await), (vec![first], vec![id]));
    assert_eq!(kit.store.locate(id).await.expect("reads"), Some((shard, OTHER.to_owned())));
    assert_eq!(kit.store.inbox_shards().await.expect("reads"), [shard]);
    let born = kit.inbox(OTHER).await.born;
    assert_eq!(born.iter().map(|entry| (entry.job, entry.queue.as_str())).collect::<Vec<_>>(), [(id, OTHER)]);
    assert_eq!(kit.queue(Q).await.counts[0], 1);
    assert_eq!(kit.queue(OTHER).await.counts[0], 1);
    let told = json(&kit.events(id).await[1].metadata);
    assert_eq!((&told["fromQueue"], &told["queue"]), (&Q.into(), &OTHER.into()));
    // Its former shard knows it no more.
    assert_eq!(update(&kit, Q, id, to_priority(1)).await, Changed::NotFound);
    assert!(matches!(kit.one(kit.grant_op(Q, id)).await, OpResult::NotReady));
    kit.run(OTHER, id, completed()).await;
    kit.check().await;
}

pub(crate) async fn a_move_within_a_shard_is_told_through_its_inbox(kit: Kit) {
    let shard = ShardId::of_queue(Q);
    let same = (0..).map(|n| format!("q{n}")).find(|name| ShardId::of_queue(name) == shard);
    let same = same.expect("128 shards only");
    let id = kit.made(Q).await;
    let changed = done(&kit, Q, id, to_queue(&same)).await;
    assert_eq!((changed.entry, changed.wakes), (None, vec![shard]));
    let born = kit.inbox(Q).await.born;
    assert_eq!(born.iter().map(|entry| entry.queue.as_str()).collect::<Vec<_>>(), [same.as_str()]);
    assert!(kit.ready(Q).await.is_empty());
    assert_eq!(kit.ready(&same).await, [id]);
    kit.check().await;
}

pub(crate) async fn a_later_time_schedules_and_a_past_one_makes_ready(kit: Kit) {
    let queued = kit.made(Q).await;
    let entry = done(&kit, Q, queued, in_ms(&kit, HOUR_MS).await).await.entry.expect("waits here");
    assert_eq!((entry.state, kit.state(queued).await), (JobState::Scheduled, JobState::Scheduled));
    assert!(kit.ready(Q).await.is_empty());
    let changed = done(&kit, Q, queued, in_ms(&kit, -HOUR_MS).await).await;
    assert_eq!((changed.from, kit.state(queued).await), (JobState::Scheduled, JobState::Queued));
    assert!(kit.view(queued).await.run_at > kit.view(queued).await.created_at, "a past time is now");

    let retrying = kit.made(Q).await;
    kit.run(Q, retrying, retry_after(HOUR_MS)).await;
    let changed = done(&kit, Q, retrying, in_ms(&kit, 2 * HOUR_MS).await).await;
    assert_eq!((changed.from, kit.state(retrying).await), (JobState::Retrying, JobState::Scheduled));
    done(&kit, Q, retrying, in_ms(&kit, 0).await).await;
    assert_eq!(
        kit.timeline(retrying).await[3..],
        ["job.updated scheduled", "job.updated queued"].map(str::to_owned)
    );
    assert_eq!(kit.view(retrying).await.attempts, 1, "its attempts stay");
    assert_eq!(kit.ready(Q).await, [queued, retrying]);
    kit.check().await;
}

pub(crate) async fn a_due_job_that_is_changed_has_its_ready_row(kit: Kit) {
    let id = kit.made(Q).await;
    kit.run(Q, id, retry_after(1)).await;
    kit.pass(3).await;
    let changed = done(&kit, Q, id, to_priority(8)).await;
    assert_eq!(changed.from, JobState::Queued);
    let timeline = kit.timeline(id).await;
    assert_eq!(timeline[2..], ["job.retrying retrying", "job.enqueued queued", "job.updated queued"]);
    // An answer without a change writes none.
    let other = kit.made(Q).await;
    kit.run(Q, other, retry_after(1)).await;
    kit.pass(3).await;
    let before = kit.dump().await;
    assert_eq!(update(&kit, Q, other, to_priority(5)).await, Changed::Same(JobState::Queued));
    assert_eq!(kit.dump().await, before);
    kit.check().await;
}

pub(crate) async fn a_blocked_job_moves_and_is_unblocked_where_it_is(kit: Kit) {
    let (before, after) = (kit.made(Q).await, kit.made(Q).await);
    let waits = kit.make(&child(Q, &[before, after])).await;
    // A parent that ends before the move leaves its word with the old shard, and one after it too.
    kit.run(Q, before, completed()).await;
    let changed = done(&kit, Q, waits, to_queue(OTHER)).await;
    assert_eq!((changed.from, kit.state(waits).await), (JobState::Blocked, JobState::Blocked));
    assert_eq!(kit.inbox(OTHER).await.born.len(), 1);
    let shard = ShardId::of_queue(OTHER);
    let taken = kit.inbox(Q).await;
    assert_eq!((taken.wakes, taken.unblocked.len()), (vec![shard], 0), "re-addressed");
    assert!(kit.inbox(OTHER).await.unblocked.is_empty(), "one parent is left");
    let ended = kit.run(Q, after, completed()).await;
    for woken in ended.wakes {
        let queue = if woken == shard { OTHER } else { Q };
        kit.inbox(queue).await;
    }
    kit.inbox(OTHER).await;
    assert_eq!(kit.state(waits).await, JobState::Queued);
    assert_eq!(kit.ready(OTHER).await, [waits]);
    let granted = kit.grant(OTHER, waits).await;
    assert_eq!(granted.dependency_results.len(), 2);
    kit.check().await;
}

pub(crate) async fn a_blocked_job_with_another_time_stays_blocked(kit: Kit) {
    let parent = kit.made(Q).await;
    let waits = kit.make(&child(Q, &[parent])).await;
    done(&kit, Q, waits, in_ms(&kit, HOUR_MS).await).await;
    assert_eq!(kit.state(waits).await, JobState::Blocked);
    kit.run(Q, parent, completed()).await;
    kit.inbox(Q).await;
    assert_eq!(kit.state(waits).await, JobState::Scheduled);
    kit.check().await;
}

pub(crate) async fn a_gate_stays_unless_the_queue_or_the_time_is_another(kit: Kit) {
    let gate = "type:mail.send";
    let (stays, moves, waits) = (kit.made(Q).await, kit.made(Q).await, kit.made(Q).await);
    let jobs = vec![stays, moves, waits];
    kit.one(Op::Park(ParkOp { owner: kit.owner(Q), jobs, gate: gate.into() })).await;
    assert_eq!(update(&kit, Q, stays, to_priority(9)).await, Changed::InPlace(JobState::Queued));
    done(&kit, Q, moves, to_queue(OTHER)).await;
    done(&kit, Q, waits, in_ms(&kit, HOUR_MS).await).await;
    let held = kit.store.gates(ShardId::of_queue(Q), Q).await.expect("reads");
    assert_eq!(held, [(gate.to_owned(), 1)]);
    assert!(kit.ready(Q).await.is_empty(), "behind its gate as before");
    assert_eq!(kit.ready(OTHER).await, [moves]);
    assert_eq!(kit.view(stays).await.priority, 9);
    kit.check().await;
}

pub(crate) async fn what_runs_or_has_ended_is_not_changed(kit: Kit) {
    let active = kit.made(Q).await;
    kit.grant(Q, active).await;
    let (done, dead, gone) = (kit.made(Q).await, kit.made(Q).await, kit.made(Q).await);
    kit.run(Q, done, completed()).await;
    kit.run(Q, dead, failed()).await;
    kit.cancel(Q, gone).await;
    let retried = kit.made(Q).await;
    for _ in 0..2 {
        kit.run(Q, retried, retry_after(0)).await;
    }
    let before = kit.dump().await;
    for (id, state) in [
        (active, JobState::Active),
        (done, JobState::Completed),
        (dead, JobState::Failed),
        (gone, JobState::Canceled),
    ] {
        assert_eq!(update(&kit, Q, id, to_queue(OTHER)).await, Changed::Conflict(state));
    }
    let fewer = JobPatch { max_attempts: Some(1), priority: Some(9), ..JobPatch::default() };
    assert_eq!(update(&kit, Q, retried, fewer).await, Changed::AttemptsUsed(2));
    assert_eq!(update(&kit, Q, JobId::new(), to_priority(1)).await, Changed::NotFound);
    assert_eq!(update(&kit, OTHER, retried, to_priority(1)).await, Changed::NotFound);
    assert_eq!(kit.dump().await, before);
}

pub(crate) async fn a_repeat_of_a_moved_job_is_answered_with_it(kit: Kit) {
    let first = keyed(Q, "k", 900, 1);
    kit.make(&first).await;
    let patch = JobPatch { payload: Some(RawJson::null()), ..to_queue(OTHER) };
    done(&kit, Q, first.id, patch).await;
    assert_eq!(kit.submit(&keyed(Q, "k", 900, 1)).await, Submitted::Duplicate(first.id));
    let other = kit.one(kit.submit_op(&keyed(Q, "k", 900, 2))).await;
    assert!(matches!(other, OpResult::SubmitRefused(SubmitRefusal::KeyMismatch { .. })), "{other:?}");
    kit.check().await;
}

pub(crate) async fn a_job_that_comes_back_is_told_to_its_first_shard_again(kit: Kit) {
    let id = kit.made(Q).await;
    done(&kit, Q, id, to_queue(OTHER)).await;
    done(&kit, OTHER, id, to_queue(Q)).await;
    // The first word finds it gone again, and follows it.
    let taken = kit.inbox(OTHER).await;
    assert_eq!((taken.born.len(), taken.wakes), (0, vec![ShardId::of_queue(Q)]));
    let born: Vec<LiveEntry> = kit.inbox(Q).await.born;
    assert_eq!(born.iter().map(|entry| entry.job).collect::<Vec<_>>(), [id]);
    assert_eq!(kit.ready(Q).await, [id]);
    kit.check().await;
}

pub(crate) async fn a_forgotten_job_leaves_nothing_behind(kit: Kit) {
    let parent = kit.made(Q).await;
    kit.run(Q, parent, completed()).await;
    let new = NewJob { dependencies: vec![parent], ..keyed(Q, "k", 900, 1) };
    let dead = kit.make(&new).await;
    kit.run(Q, dead, retry_after(0)).await;
    kit.run(Q, dead, failed()).await;
    let gone = kit.made(Q).await;
    kit.cancel(Q, gone).await;
    for (id, state) in [(dead, JobState::Failed), (gone, JobState::Canceled), (parent, JobState::Completed)] {
        match forget(&kit, Q, id).await {
            Changed::Done(done) => assert_eq!((done.from, done.entry, done.kind), (state, None, None)),
            other => panic!("not forgotten: {other:?}"),
        }
        assert!(kit.store.job(id).await.expect("reads").is_none());
        assert!(kit.store.events(id, 0, 10).await.expect("reads").is_none());
        assert_eq!(kit.store.locate(id).await.expect("reads"), None);
        let rows = audit(&kit, id).await;
        assert_eq!(rows[0].action, "job.deleted");
        assert_eq!(json(&rows[0].before)["state"], state.name());
        assert_eq!(forget(&kit, Q, id).await, Changed::NotFound);
    }
    assert_eq!(kit.queue(Q).await.counts, [0; 9]);
    assert!(matches!(kit.submit(&keyed(Q, "k", 900, 2)).await, Submitted::Made { .. }), "its key is free");
    kit.check().await;
}

pub(crate) async fn what_is_needed_or_has_not_ended_is_not_forgotten(kit: Kit) {
    let (parent, waiting) = (kit.made(Q).await, kit.made(Q).await);
    kit.run(Q, parent, failed()).await;
    let stuck = kit.make(&child(Q, &[parent])).await;
    let (active, whole) = (kit.made(Q).await, kit.made(Q).await);
    kit.grant(Q, active).await;
    kit.run(Q, whole, completed()).await;
    let before = kit.dump().await;
    assert_eq!(forget(&kit, Q, parent).await, Changed::DependedOn);
    assert_eq!(forget(&kit, Q, waiting).await, Changed::Conflict(JobState::Queued));
    assert_eq!(forget(&kit, Q, stuck).await, Changed::Conflict(JobState::Blocked));
    assert_eq!(forget(&kit, Q, active).await, Changed::Conflict(JobState::Active));
    assert_eq!(forget(&kit, OTHER, whole).await, Changed::NotFound);
    let letter = changed(&kit, forget_op(&kit, Q, whole, true)).await;
    assert_eq!(letter, Changed::Conflict(JobState::Completed));
    assert_eq!(kit.dump().await, before);
    kit.cancel(Q, stuck).await;
    assert!(matches!(changed(&kit, forget_op(&kit, Q, parent, true)).await, Changed::Done(_)));
    assert_eq!(audit(&kit, parent).await[0].action, "dead_letter.deleted");
    kit.check().await;
}
