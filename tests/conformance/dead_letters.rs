//! Dead letters: what is read of them, and how they run again.

use ganger::{
    domain::{EventKind, JobId, JobState, NewJob, RawJson, ShardId, fingerprint},
    store::{
        Op, OpResult,
        dead_letters::{GroupCursor, LetterCursor, LetterFilter, LetterGroup, LetterRow},
        ops::{AttemptError, Changed, ChangedJob, EndKind, ReplayOp, ReplayPatch, Requester, Retried},
    },
};

use super::kit::{HOUR_MS, Kit, child, completed, error, failed, job, retry_after};

const Q: &str = "mail";
/// In another shard than [`Q`].
const OTHER: &str = "images";

fn fails(error_type: &str, message: &str) -> EndKind {
    let stack_trace = Some("at line 1".into());
    EndKind::Failed {
        error: AttemptError { error_type: error_type.into(), message: message.into(), stack_trace },
    }
}

/// A new job of `queue` that fails for good.
async fn dead(kit: &Kit, queue: &str, kind: EndKind) -> JobId {
    let id = kit.made(queue).await;
    kit.run(queue, id, kind).await;
    id
}

pub(crate) fn replay_op(kit: &Kit, queue: &str, job: JobId, patch: ReplayPatch) -> Op {
    let by = Requester { actor: "ada".into(), request_id: "r-1".into(), reason: Some("fixed".into()) };
    Op::Replay(ReplayOp { owner: kit.owner(queue), job, patch, by })
}

async fn replay(kit: &Kit, queue: &str, job: JobId, patch: ReplayPatch) -> Changed {
    match kit.one(replay_op(kit, queue, job, patch)).await {
        OpResult::Changed(changed) => changed,
        other => panic!("no replay: {other:?}"),
    }
}

async fn replayed(kit: &Kit, queue: &str, job: JobId, patch: ReplayPatch) -> ChangedJob {
    match replay(kit, queue, job, patch).await {
        Changed::Done(done) => *done,
        other => panic!("not replayed: {other:?}"),
    }
}

async fn letters(kit: &Kit, filter: &LetterFilter) -> Vec<LetterRow> {
    kit.store.dead_letters(filter, LetterCursor::newest(), 1_000).await.expect("reads")
}

async fn found(kit: &Kit, filter: LetterFilter) -> Vec<JobId> {
    let full: Vec<JobId> = letters(kit, &filter).await.iter().map(|row| row.letter.job_id).collect();
    let keys = kit.store.dead_letter_keys(&filter, LetterCursor::newest(), 1_000).await.expect("reads");
    assert_eq!(keys.iter().map(|key| key.place.job).collect::<Vec<_>>(), full, "both lists agree");
    full
}

async fn groups(kit: &Kit, filter: &LetterFilter) -> Vec<LetterGroup> {
    let cursor = GroupCursor { as_of: kit.now().await, after: None };
    kit.store.dead_letter_groups(filter, &cursor, 1_000).await.expect("reads")
}

pub(crate) async fn failures_of_one_cause_share_a_fingerprint(kit: Kit) {
    let a = dead(&kit, Q, fails("smtp", "mailbox 17 of 10.0.0.1:25 is full")).await;
    let b = dead(&kit, OTHER, fails("smtp", "mailbox 4 of 10.0.0.99:587 is full")).await;
    let c = dead(&kit, Q, fails("timeout", "mailbox 4 of 10.0.0.99:587 is full")).await;
    let print = async |id| kit.inspect(id).await.dead_letter.expect("a letter").fingerprint;
    assert_eq!(print(a).await, print(b).await);
    assert_eq!(print(a).await, fingerprint("smtp", "mailbox 1 of 10.0.0.2:25 is full"));
    assert_ne!(print(a).await, print(c).await);
    // A lease lost for the last time is a cause too, and a replay's failure has its own.
    let lost = EndKind::RecoveredFailed { error: error("its worker died") };
    let d = dead(&kit, Q, lost).await;
    assert_eq!(print(d).await, fingerprint("test", "its worker died"));
    replayed(&kit, Q, d, ReplayPatch::default()).await;
    kit.run(Q, d, fails("smtp", "mailbox 9 of 10.0.0.1:25 is full")).await;
    assert_eq!(print(d).await, print(a).await);
}

pub(crate) async fn letters_are_listed_newest_first_with_their_jobs_and_attempts(kit: Kit) {
    let a = kit.made(Q).await;
    for _ in 0..12 {
        kit.run(Q, a, retry_after(0)).await;
        kit.pass(1).await;
    }
    kit.run(Q, a, fails("smtp", "mailbox 17 is full")).await;
    let b = dead(&kit, Q, failed()).await;
    let rows = letters(&kit, &LetterFilter::default()).await;
    assert_eq!(rows.iter().map(|row| row.letter.job_id).collect::<Vec<_>>(), [b, a]);
    let row = &rows[1];
    assert_eq!(Some(&row.letter), kit.inspect(a).await.dead_letter.as_ref(), "as an inspection shows it");
    assert_eq!(row.job, kit.view(a).await);
    let all = kit.store.attempts(a).await.expect("reads").expect("is there");
    assert_eq!(row.attempts, all[all.len() - 10..], "the newest ten");
    assert_eq!(
        (row.letter.worker_id.as_str(), row.letter.stack_trace.as_deref()),
        ("worker-1", Some("at line 1"))
    );
    assert_eq!((row.letter.last_attempt, row.letter.replay_count), (13, 0));
    let keys = kit.store.dead_letter_keys_of(&[a, JobId::new(), b]).await.expect("reads");
    assert_eq!(keys.iter().map(|key| key.place.job).collect::<Vec<_>>(), [b, a]);
    assert_eq!((keys[0].queue.as_str(), keys[0].kind.as_str()), (Q, "mail.send"));
    assert_eq!(keys[0].payload_bytes, 22);
}

pub(crate) async fn letters_are_found_by_what_they_are(kit: Kit) {
    let a = dead(&kit, Q, fails("smtp", "full")).await;
    let other = NewJob { kind: "image.resize".into(), tenant: "acme".into(), ..job(OTHER) };
    let b = kit.make(&other).await;
    kit.pass(1).await;
    let ended = kit.run(OTHER, b, fails("io", "no space")).await;
    let any = LetterFilter::default;
    assert_eq!(found(&kit, any()).await, [b, a]);
    assert_eq!(found(&kit, LetterFilter { queue: Some(Q.into()), ..any() }).await, [a]);
    assert_eq!(found(&kit, LetterFilter { error_type: Some("io".into()), ..any() }).await, [b]);
    assert_eq!(found(&kit, LetterFilter { kind: Some("image.resize".into()), ..any() }).await, [b]);
    assert_eq!(found(&kit, LetterFilter { tenant: Some("acme".into()), ..any() }).await, [b]);
    let print = fingerprint("smtp", "full");
    assert_eq!(found(&kit, LetterFilter { fingerprint: Some(print), ..any() }).await, [a]);
    assert_eq!(found(&kit, LetterFilter { failed_after: Some(ended.at), ..any() }).await, [b]);
    assert_eq!(found(&kit, LetterFilter { failed_before: Some(ended.at), ..any() }).await, [a]);
    let none = LetterFilter { queue: Some(Q.into()), error_type: Some("io".into()), ..any() };
    assert!(found(&kit, none).await.is_empty());
    let views = kit.store.jobs_by_id(&[b, JobId::new()]).await.expect("reads");
    assert_eq!(views, [kit.view(b).await]);
}

/// Jobs that fail for good in one batch, so that their times are the same.
async fn fail_together(kit: &Kit, count: usize) -> Vec<JobId> {
    let mut ends = Vec::new();
    for _ in 0..count {
        let id = kit.made(Q).await;
        let fence = kit.grant(Q, id).await.fence;
        ends.push(kit.end_op(Q, id, fence, failed()));
    }
    kit.commit(&ends).await;
    ends.iter().map(|op| if let Op::End(op) = op { op.job } else { unreachable!("only ends") }).collect()
}

pub(crate) async fn pages_of_letters_are_stable_while_letters_are_added(kit: Kit) {
    let mut made = fail_together(&kit, 5).await;
    kit.pass(1).await;
    made.extend(fail_together(&kit, 4).await);
    made.reverse();
    let (mut seen, mut cursor) = (Vec::new(), LetterCursor::newest());
    loop {
        let page = kit.store.dead_letters(&LetterFilter::default(), cursor, 2).await.expect("reads");
        let Some(last) = page.last() else { break };
        cursor = LetterCursor { failed_at: last.letter.failed_at, job: last.letter.job_id };
        seen.extend(page.iter().map(|row| row.letter.job_id));
        dead(&kit, Q, failed()).await;
    }
    assert_eq!(seen, made);
    // What had failed at a time is found from it.
    let newest = kit.view(made[0]).await.finished_at.expect("has ended");
    let at = LetterCursor::up_to(newest);
    let keys = kit.store.dead_letter_keys(&LetterFilter::default(), at, 3).await.expect("reads");
    assert_eq!(keys.iter().map(|key| key.place.job).collect::<Vec<_>>(), made[..3]);
}

pub(crate) async fn groups_tell_what_fails_how_often_and_where(kit: Kit) {
    let a = dead(&kit, Q, fails("smtp", "mailbox 1 is full")).await;
    kit.pass(1).await;
    let b = kit.make(&NewJob { kind: "mail.digest".into(), tenant: "acme".into(), ..job(OTHER) }).await;
    kit.run(OTHER, b, fails("smtp", "mailbox 2 is full")).await;
    kit.pass(1).await;
    let c = dead(&kit, Q, failed()).await;
    let time = async |id| kit.view(id).await.finished_at.expect("has ended");
    let full = LetterGroup {
        fingerprint: fingerprint("smtp", "mailbox 3 is full"),
        error_type: "smtp".into(),
        message: "mailbox 2 is full".into(),
        count: 2,
        first_seen: time(a).await,
        last_seen: time(b).await,
        types: vec!["mail.digest".into(), "mail.send".into()],
        queues: vec![OTHER.into(), Q.into()],
        sample_job_id: b,
    };
    let all = groups(&kit, &LetterFilter::default()).await;
    assert_eq!(all.len(), 2);
    assert_eq!((all[0].sample_job_id, all[0].count, all[0].error_type.as_str()), (c, 1, "test"));
    assert_eq!(all[1], full);
    let mine = LetterFilter {
        tenant: Some("default".into()),
        error_type: Some("smtp".into()),
        ..LetterFilter::default()
    };
    let part = LetterGroup {
        message: "mailbox 1 is full".into(),
        count: 1,
        last_seen: full.first_seen,
        types: vec!["mail.send".into()],
        queues: vec![Q.into()],
        sample_job_id: a,
        ..full
    };
    assert_eq!(groups(&kit, &mine).await, [part]);
}

pub(crate) async fn pages_of_groups_are_stable_while_letters_are_added(kit: Kit) {
    let words = ["red", "green", "blue", "black", "white"];
    for word in words {
        dead(&kit, Q, fails("t", word)).await;
        kit.pass(1).await;
    }
    let (mut seen, mut cursor) = (Vec::new(), GroupCursor { as_of: kit.now().await, after: None });
    loop {
        let page = kit.store.dead_letter_groups(&LetterFilter::default(), &cursor, 2).await.expect("reads");
        let Some(last) = page.last() else { break };
        cursor.after = Some((last.last_seen, last.fingerprint.clone()));
        seen.extend(page.into_iter().map(|group| group.message));
        kit.pass(1).await;
        dead(&kit, Q, fails("t", "red")).await;
        dead(&kit, Q, fails("t", "new")).await;
    }
    seen.reverse();
    assert_eq!(seen, words);
}

pub(crate) async fn a_dead_letter_is_replayed_with_attempts_and_deaths_anew(kit: Kit) {
    let id = kit.make(&NewJob { priority: 7, ..job(Q) }).await;
    kit.run(Q, id, EndKind::Recovered { error: error("lost") }).await;
    let last = kit.grant(Q, id).await;
    assert_eq!(last.deaths, 1);
    kit.end(Q, id, last.fence, fails("smtp", "full")).await;
    let done = replayed(&kit, Q, id, ReplayPatch::default()).await;
    assert_eq!((done.from, done.kind, done.wakes), (JobState::Failed, Some(EventKind::Replayed), vec![]));
    let entry = done.entry.expect("it waits here");
    let view = kit.view(id).await;
    assert_eq!((entry.job, entry.queue.as_str(), entry.kind.as_str()), (id, Q, "mail.send"));
    assert_eq!((entry.state, entry.priority, entry.run_at), (JobState::Queued, 7, view.run_at));
    assert_eq!((view.state, view.attempts, view.priority), (JobState::Queued, 0, 7));
    assert_eq!(view.last_error.as_deref(), Some("full"), "as after a retry");
    assert!(found(&kit, LetterFilter::default()).await.is_empty());
    assert_eq!(kit.ready(Q).await, [id]);
    let next = kit.grant(Q, id).await;
    assert!(next.fence > last.fence, "the fence goes on");
    assert_eq!((next.attempt, next.deaths), (1, 0));
    kit.end(Q, id, next.fence, completed()).await;
    assert_eq!(
        kit.timeline(id).await[4..],
        [
            "job.started active",
            "job.failed failed",
            "job.replayed queued",
            "job.started active",
            "job.completed completed"
        ]
    );
    assert_eq!(kit.attempts(id).await, ["1 lease_expired", "2 failed", "1 completed"]);
    kit.check().await;
}

pub(crate) async fn a_replay_may_change_queue_payload_type_and_priority(kit: Kit) {
    let parent = dead(&kit, Q, failed()).await;
    let id = kit
        .make(&NewJob {
            dependency_policy: ganger::domain::DependencyPolicy::AllowFailed,
            ..child(Q, &[parent])
        })
        .await;
    kit.run(Q, id, failed()).await;
    assert_ne!(ShardId::of_queue(Q), ShardId::of_queue(OTHER));
    let payload = r#"{ "to":"b@example.org", "n": 12345678901234567890123, "z":"\u0000" }"#;
    let patch = ReplayPatch {
        queue: Some(OTHER.into()),
        payload: Some(RawJson::trusted(payload)),
        kind: Some("mail.resend".into()),
        priority: Some(9),
    };
    let done = replayed(&kit, Q, id, patch).await;
    assert_eq!(done.entry, None, "it is in another queue");
    assert_eq!(done.wakes, [ShardId::of_queue(OTHER)]);
    let view = kit.view(id).await;
    assert_eq!((view.queue.as_str(), view.kind.as_str(), view.priority), (OTHER, "mail.resend", 9));
    assert_eq!(view.payload.text(), payload);
    let told = kit.events(id).await.last().and_then(|row| row.metadata.clone()).expect("says what changed");
    let told: serde_json::Value = serde_json::from_str(told.text()).expect("JSON");
    assert_eq!(
        told,
        serde_json::json!({"queue": OTHER, "type": "mail.resend", "priority": 9, "payloadChanged": true})
    );
    assert_eq!(kit.store.locate(id).await.expect("reads"), Some((ShardId::of_queue(OTHER), OTHER.into())));
    let taken = kit.inbox(OTHER).await;
    assert_eq!(
        taken.born.iter().map(|entry| (entry.job, entry.kind.as_str())).collect::<Vec<_>>(),
        [(id, "mail.resend")]
    );
    assert!(kit.ready(Q).await.is_empty());
    kit.check().await;
    let granted = kit.grant(OTHER, id).await;
    assert_eq!(
        (granted.kind.as_str(), granted.payload.text(), granted.priority),
        ("mail.resend", payload, 9)
    );
    kit.end(OTHER, id, granted.fence, fails("smtp", "full")).await;
    let rows =
        letters(&kit, &LetterFilter { kind: Some("mail.resend".into()), ..LetterFilter::default() }).await;
    assert_eq!((rows.len(), rows[0].letter.queue.as_str(), rows[0].letter.replay_count), (1, OTHER, 1));
    kit.check().await;
    // Another queue of the same shard is told by the inbox too; the same queue is no move.
    let same_shard = (0..)
        .map(|n| format!("q{n}"))
        .find(|name| ShardId::of_queue(name) == ShardId::of_queue(OTHER))
        .expect("one");
    let patch = ReplayPatch { queue: Some(same_shard.clone()), ..ReplayPatch::default() };
    let done = replayed(&kit, OTHER, id, patch.clone()).await;
    assert_eq!((done.entry, done.wakes), (None, vec![ShardId::of_queue(OTHER)]));
    assert_eq!(kit.inbox(OTHER).await.born.len(), 1);
    kit.run(&same_shard, id, failed()).await;
    assert!(replayed(&kit, &same_shard, id, patch).await.entry.is_some());
    kit.check().await;
}

pub(crate) async fn only_dead_letters_are_replayed(kit: Kit) {
    let queued = kit.made(Q).await;
    let due = kit.made(Q).await;
    kit.run(Q, due, retry_after(0)).await;
    let scheduled = kit.make(&NewJob { run_at: Some(kit.now().await.plus_millis(HOUR_MS)), ..job(Q) }).await;
    let blocked = kit.make(&child(Q, &[queued])).await;
    let active = kit.made(Q).await;
    kit.grant(Q, active).await;
    let done = kit.made(Q).await;
    kit.run(Q, done, completed()).await;
    let canceled = dead(&kit, Q, failed()).await;
    kit.cancel(Q, canceled).await;
    let dead_letter = dead(&kit, Q, failed()).await;
    let before = kit.dump().await;
    for (id, state) in [
        (queued, JobState::Queued),
        (due, JobState::Queued),
        (scheduled, JobState::Scheduled),
        (blocked, JobState::Blocked),
        (active, JobState::Active),
        (done, JobState::Completed),
        (canceled, JobState::Canceled),
    ] {
        assert_eq!(replay(&kit, Q, id, ReplayPatch::default()).await, Changed::Conflict(state));
    }
    assert_eq!(replay(&kit, Q, JobId::new(), ReplayPatch::default()).await, Changed::NotFound);
    let foreign = replay_op(&kit, OTHER, dead_letter, ReplayPatch::default());
    assert!(matches!(kit.one(foreign).await, OpResult::Changed(Changed::NotFound)), "it is another shard's");
    let next = kit.again(false).await;
    let stale = kit.one(replay_op(&kit, Q, dead_letter, ReplayPatch::default())).await;
    assert!(matches!(stale, OpResult::FenceLost(_)), "{stale:?}");
    assert_eq!(next.dump().await, before, "nothing was written");
    replayed(&next, Q, dead_letter, ReplayPatch::default()).await;
    assert_eq!(
        replay(&next, Q, dead_letter, ReplayPatch::default()).await,
        Changed::Conflict(JobState::Queued)
    );
}

pub(crate) async fn lineage_lasts_over_failures_retries_and_completion(kit: Kit) {
    let id = dead(&kit, Q, failed()).await;
    let lineage = async || {
        let all = kit.inspect(id).await;
        if let Some(letter) = &all.dead_letter {
            assert_eq!(
                (letter.replay_count, letter.last_replayed_at),
                (all.replay_count, all.last_replayed_at)
            );
        }
        (all.replay_count, all.last_replayed_at)
    };
    assert_eq!(lineage().await, (0, None));
    replayed(&kit, Q, id, ReplayPatch::default()).await;
    let first = lineage().await;
    assert_eq!(first, (1, Some(kit.view(id).await.run_at)));
    kit.run(Q, id, retry_after(0)).await;
    kit.run(Q, id, failed()).await;
    assert_eq!(lineage().await, first);
    assert!(matches!(kit.retry(Q, id).await, Retried::Done { .. }));
    kit.run(Q, id, failed()).await;
    assert_eq!(lineage().await, first, "a retry is no replay");
    kit.pass(1).await;
    replayed(&kit, Q, id, ReplayPatch::default()).await;
    let second = lineage().await;
    assert!(second.0 == 2 && second.1 > first.1, "{second:?}");
    kit.run(Q, id, completed()).await;
    assert_eq!(lineage().await, second);
    kit.check().await;
}

pub(crate) async fn dependents_of_a_replayed_job_wait_for_it_again(kit: Kit) {
    let parent = kit.made(Q).await;
    let strict = kit.make(&child(OTHER, &[parent])).await;
    kit.run(Q, parent, failed()).await;
    assert_eq!(kit.inbox(OTHER).await.stuck.len(), 1);
    assert!(kit.view(strict).await.blocked_reason.is_some());
    let done = replayed(&kit, Q, parent, ReplayPatch::default()).await;
    assert_eq!(done.wakes, [ShardId::of_queue(OTHER)]);
    kit.inbox(OTHER).await;
    assert_eq!(kit.view(strict).await.blocked_reason, None);
    kit.run(Q, parent, completed()).await;
    let unblocked = kit.inbox(OTHER).await.unblocked;
    assert_eq!(unblocked.iter().map(|entry| entry.job).collect::<Vec<_>>(), [strict]);
    kit.check().await;
}

pub(crate) async fn many_replays_go_in_one_batch(kit: Kit) {
    let ids = fail_together(&kit, 20).await;
    let live = kit.made(Q).await;
    let mut ops: Vec<Op> = ids.iter().map(|id| replay_op(&kit, Q, *id, ReplayPatch::default())).collect();
    ops.push(replay_op(&kit, Q, live, ReplayPatch::default()));
    ops.push(kit.submit_op(&child(OTHER, &[ids[0], ids[1]])));
    let results = kit.commit(&ops).await;
    let done = results.iter().filter(|result| matches!(result, OpResult::Changed(Changed::Done(_)))).count();
    assert_eq!(done, 20);
    assert!(matches!(results[20], OpResult::Changed(Changed::Conflict(JobState::Queued))));
    assert_eq!(kit.ready(Q).await.len(), 21);
    assert!(groups(&kit, &LetterFilter::default()).await.is_empty());
    kit.check().await;
}

/// `forget` takes away the fingerprints of all letters, as those have none that an earlier version wrote.
pub(crate) async fn missing_fingerprints_are_made_by_upkeep(kit: Kit, forget: impl AsyncFnOnce()) {
    let ids = fail_together(&kit, 3).await;
    let other = dead(&kit, Q, fails("smtp", "mailbox 17 is full")).await;
    forget().await;
    let before = groups(&kit, &LetterFilter::default()).await;
    assert_eq!((before.len(), before[0].fingerprint.as_str(), before[0].count), (1, "", 4));
    kit.store.maintain().await.expect("looks after it");
    let print = async |id| kit.inspect(id).await.dead_letter.expect("a letter").fingerprint;
    assert_eq!(print(ids[0]).await, fingerprint("test", "gave up"));
    assert_eq!(print(other).await, fingerprint("smtp", "mailbox 4 is full"));
    assert_eq!(groups(&kit, &LetterFilter::default()).await.len(), 2);
}
