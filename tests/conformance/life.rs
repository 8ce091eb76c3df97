//! Lives of one job, and what is kept of them.

use ganger::{
    domain::{EventKind, JobId, JobState, NewJob, RawJson},
    store::ops::{Canceled, EndKind, Retried},
};

use super::kit::{HOUR_MS, Kit, canceled, completed, error, failed, job, retry_after};

const Q: &str = "mail";

pub(crate) async fn a_job_is_made_run_and_completed(kit: Kit) {
    let new = job(Q);
    let before = kit.now().await;
    let id = kit.make(&new).await;
    let view = kit.view(id).await;
    assert_eq!(view.state, JobState::Queued);
    assert_eq!((view.attempts, view.fence, view.kind.as_str()), (0, None, "mail.send"));
    assert!(view.run_at >= before && view.run_at == view.created_at);
    assert_eq!(kit.ready(Q).await, [id]);

    let granted = kit.grant(Q, id).await;
    assert_eq!((granted.attempt, granted.from, granted.seq), (1, JobState::Queued, 2));
    assert_eq!(granted.payload.text(), new.payload.text());
    assert_eq!(granted.max_attempts, 5);
    let view = kit.view(id).await;
    assert_eq!((view.state, view.attempts, view.fence), (JobState::Active, 1, Some(granted.fence)));
    assert_eq!(view.worker_id.as_deref(), Some("worker-1"));
    assert_eq!(view.lease_expires_at, Some(granted.granted_at.plus_millis(30_000)));
    assert!(kit.ready(Q).await.is_empty(), "a leased job is not ready");
    let leases = kit.leases(Q).await;
    assert_eq!(leases.len(), 1);
    assert_eq!((leases[0].job, leases[0].fence, leases[0].attempt), (id, granted.fence, 1));
    assert_eq!((leases[0].boot, leases[0].max_attempts), (kit.boot, 5));

    let ended = kit.end(Q, id, granted.fence, completed()).await;
    assert_eq!((ended.state, ended.seq, ended.entry), (JobState::Completed, 3, None));
    assert!(ended.wakes.is_empty());
    let view = kit.view(id).await;
    assert_eq!(view.state, JobState::Completed);
    assert_eq!(view.result.as_ref().map(RawJson::text), Some(r#"{"ok":true}"#));
    assert_eq!(view.finished_at, Some(ended.at));
    assert_eq!(
        kit.timeline(id).await,
        ["job.enqueued queued", "job.started active", "job.completed completed"]
    );
    let rows = kit.events(id).await;
    assert_eq!((rows[1].attempt, rows[1].fence), (Some(1), Some(granted.fence)));
    assert_eq!((rows[2].attempt, rows[2].worker_id.as_deref()), (Some(1), Some("worker-1")));
    assert_eq!(kit.attempts(id).await, ["1 completed"]);
    assert!(kit.leases(Q).await.is_empty());
    kit.check().await;
}

pub(crate) async fn a_failed_attempt_is_tried_again(kit: Kit) {
    let id = kit.made(Q).await;
    let first = kit.grant(Q, id).await;
    let ended = kit.end(Q, id, first.fence, retry_after(HOUR_MS)).await;
    assert_eq!((ended.state, ended.seq), (JobState::Retrying, 3));
    let entry = ended.entry.expect("it lives on");
    assert_eq!((entry.state, entry.run_at), (JobState::Retrying, ended.at.plus_millis(HOUR_MS)));
    let view = kit.view(id).await;
    assert_eq!((view.state, view.attempts), (JobState::Retrying, 1));
    assert_eq!(view.last_error.as_deref(), Some("try again"));
    assert_eq!(view.started_at, Some(first.granted_at));
    assert!(kit.ready(Q).await.is_empty());

    assert!(matches!(kit.retry(Q, id).await, Retried::Done { from: JobState::Retrying, .. }));
    let second = kit.grant(Q, id).await;
    assert_eq!(second.attempt, 2);
    assert!(second.fence > first.fence);
    kit.end(Q, id, second.fence, completed()).await;
    assert_eq!(
        kit.timeline(id).await,
        [
            "job.enqueued queued",
            "job.started active",
            "job.retrying retrying",
            "job.retried queued",
            "job.started active",
            "job.completed completed",
        ]
    );
    assert_eq!(kit.attempts(id).await, ["1 retrying", "2 completed"]);
    kit.check().await;
}

pub(crate) async fn a_retrying_job_becomes_ready_at_its_time(kit: Kit) {
    let id = kit.made(Q).await;
    kit.run(Q, id, retry_after(0)).await;
    assert_eq!(kit.state(id).await, JobState::Queued, "its time has come");
    assert_eq!(
        kit.timeline(id).await,
        ["job.enqueued queued", "job.started active", "job.retrying retrying", "job.enqueued queued"]
    );
    kit.check().await;
    assert_eq!(kit.ready(Q).await, [id]);
    let granted = kit.grant(Q, id).await;
    assert_eq!((granted.from, granted.seq), (JobState::Retrying, 5));
    kit.check().await;
    kit.end(Q, id, granted.fence, completed()).await;
    assert_eq!(
        kit.timeline(id).await,
        [
            "job.enqueued queued",
            "job.started active",
            "job.retrying retrying",
            "job.enqueued queued",
            "job.started active",
            "job.completed completed",
        ]
    );
    kit.check().await;
}

pub(crate) async fn a_due_job_is_retried_again_and_again_without_gaps(kit: Kit) {
    let id = kit.made(Q).await;
    for attempt in 1..=3 {
        let granted = kit.grant(Q, id).await;
        assert_eq!(granted.attempt, attempt);
        kit.end(Q, id, granted.fence, retry_after(0)).await;
    }
    assert_eq!(kit.timeline(id).await.len(), 1 + 3 * 3);
    assert_eq!(kit.attempts(id).await, ["1 retrying", "2 retrying", "3 retrying"]);
    kit.check().await;
}

pub(crate) async fn a_job_that_fails_for_good_is_dead_lettered(kit: Kit) {
    let id = kit.made(Q).await;
    let ended = kit.run(Q, id, failed()).await;
    assert_eq!(ended.state, JobState::Failed);
    assert_eq!(kit.timeline(id).await, ["job.enqueued queued", "job.started active", "job.failed failed"]);
    let all = kit.inspect(id).await;
    let letter = all.dead_letter.expect("a dead letter");
    assert_eq!((letter.job_id, letter.queue.as_str(), letter.last_attempt), (id, Q, 1));
    assert_eq!((letter.error_type.as_str(), letter.error_message.as_str()), ("test", "gave up"));
    assert_eq!((letter.failed_at, letter.replay_count), (ended.at, 0));
    assert_eq!(all.job.last_error.as_deref(), Some("gave up"));
    assert_eq!(kit.attempts(id).await, ["1 failed"]);
    kit.check().await;
}

pub(crate) async fn a_released_job_keeps_its_place_and_its_attempt(kit: Kit) {
    let id = kit.made(Q).await;
    let run_at = kit.view(id).await.run_at;
    let ended = kit.run(Q, id, EndKind::Released { reason: "drained".into() }).await;
    let entry = ended.entry.expect("it lives on");
    assert_eq!((entry.state, entry.run_at), (JobState::Queued, run_at));
    assert_eq!(kit.view(id).await.attempts, 0);
    assert_eq!(kit.timeline(id).await, ["job.enqueued queued", "job.started active", "job.enqueued queued"]);
    let granted = kit.grant(Q, id).await;
    assert_eq!(granted.attempt, 1, "no attempt was used up");
    kit.end(Q, id, granted.fence, completed()).await;
    assert_eq!(kit.attempts(id).await, ["1 released", "1 completed"]);
    kit.check().await;
}

pub(crate) async fn a_snoozed_job_waits_without_using_up_an_attempt(kit: Kit) {
    let id = kit.made(Q).await;
    let ended = kit.run(Q, id, EndKind::Snoozed { delay_ms: HOUR_MS }).await;
    assert_eq!(ended.entry.map(|entry| entry.run_at), Some(ended.at.plus_millis(HOUR_MS)));
    let view = kit.view(id).await;
    assert_eq!((view.state, view.attempts), (JobState::Scheduled, 0));
    assert_eq!(
        kit.timeline(id).await,
        ["job.enqueued queued", "job.started active", "job.scheduled scheduled"]
    );
    kit.check().await;
}

pub(crate) async fn a_job_whose_lease_was_lost_runs_again_at_the_head(kit: Kit) {
    let id = kit.made(Q).await;
    kit.made(Q).await;
    let run_at = kit.view(id).await.run_at;
    let ended = kit.run(Q, id, EndKind::Recovered { error: error("worker lost") }).await;
    let entry = ended.entry.expect("it lives on");
    assert_eq!((ended.state, entry.state, entry.run_at), (JobState::Queued, JobState::Queued, run_at));
    assert_eq!(kit.ready(Q).await[0], id, "it kept its place");
    assert_eq!(
        kit.timeline(id).await,
        ["job.enqueued queued", "job.started active", "job.recovered retrying", "job.enqueued queued"]
    );
    assert_eq!(ended.seq, 4);
    let granted = kit.grant(Q, id).await;
    assert_eq!((granted.attempt, granted.deaths), (2, 1));
    assert_eq!(kit.leases(Q).await[0].deaths, 1);
    let rows = kit.store.attempts(id).await.expect("reads").expect("is there");
    assert!(rows[0].lease_expired && !rows[1].lease_expired);
    kit.check().await;
}

pub(crate) async fn a_job_whose_last_lease_was_lost_fails_by_one_row(kit: Kit) {
    let id = kit.made(Q).await;
    kit.run(Q, id, EndKind::RecoveredFailed { error: error("worker lost") }).await;
    assert_eq!(kit.timeline(id).await, ["job.enqueued queued", "job.started active", "job.recovered failed"]);
    assert_eq!(kit.attempts(id).await, ["1 lease_expired"]);
    assert!(kit.inspect(id).await.dead_letter.is_some());
    kit.check().await;
}

pub(crate) async fn a_waiting_job_is_canceled_at_once(kit: Kit) {
    let queued = kit.made(Q).await;
    assert_eq!(kit.cancel(Q, queued).await, canceled(JobState::Queued));
    assert_eq!(kit.timeline(queued).await, ["job.enqueued queued", "job.canceled canceled"]);
    assert!(kit.attempts(queued).await.is_empty());
    assert!(kit.ready(Q).await.is_empty());

    let later = kit.now().await.plus_millis(HOUR_MS);
    let scheduled = kit.make(&NewJob { run_at: Some(later), ..job(Q) }).await;
    assert_eq!(kit.cancel(Q, scheduled).await, canceled(JobState::Scheduled));
    assert_eq!(kit.timeline(scheduled).await, ["job.scheduled scheduled", "job.canceled canceled"]);

    let due = kit.made(Q).await;
    kit.run(Q, due, retry_after(0)).await;
    assert!(matches!(kit.cancel(Q, due).await, Canceled::Done { .. }));
    assert_eq!(
        kit.timeline(due).await[2..],
        ["job.retrying retrying", "job.enqueued queued", "job.canceled canceled"]
    );
    assert_eq!(kit.attempts(due).await, ["1 retrying"]);
    assert_eq!(kit.cancel(Q, due).await, Canceled::Conflict(JobState::Canceled));
    kit.check().await;
}

pub(crate) async fn a_running_job_is_asked_to_stop_and_then_canceled(kit: Kit) {
    let id = kit.made(Q).await;
    let granted = kit.grant(Q, id).await;
    assert_eq!(kit.cancel(Q, id).await, Canceled::Requested);
    let view = kit.view(id).await;
    assert!(view.cancel_requested && view.state == JobState::Active);
    assert!(kit.leases(Q).await[0].cancel_requested);
    let asked = ["job.enqueued queued", "job.started active", "job.cancel_requested active"];
    assert_eq!(kit.timeline(id).await, asked);
    assert_eq!(kit.cancel(Q, id).await, Canceled::AlreadyRequested);
    assert_eq!(kit.timeline(id).await, asked, "nothing more was written");
    let ended = kit.end(Q, id, granted.fence, EndKind::Canceled { reason: "asked".into() }).await;
    assert_eq!((ended.state, ended.seq), (JobState::Canceled, 4));
    assert_eq!(kit.timeline(id).await[3], "job.canceled canceled");
    assert_eq!(kit.attempts(id).await, ["1 canceled"]);
    kit.check().await;
}

pub(crate) async fn a_job_asked_to_stop_may_still_complete_or_be_tried_again(kit: Kit) {
    for kind in [completed(), retry_after(0), EndKind::Released { reason: "drained".into() }] {
        let id = kit.made(Q).await;
        let granted = kit.grant(Q, id).await;
        assert_eq!(kit.cancel(Q, id).await, Canceled::Requested);
        let ended = kit.end(Q, id, granted.fence, kind).await;
        assert_eq!(ended.seq, 4);
    }
    kit.check().await;
}

pub(crate) async fn a_failed_job_that_is_canceled_leaves_the_dead_letters(kit: Kit) {
    let id = kit.made(Q).await;
    kit.run(Q, id, failed()).await;
    assert_eq!(kit.cancel(Q, id).await, canceled(JobState::Failed));
    assert_eq!(kit.state(id).await, JobState::Canceled);
    assert!(kit.inspect(id).await.dead_letter.is_none());
    assert_eq!(
        kit.timeline(id).await,
        ["job.enqueued queued", "job.started active", "job.failed failed", "job.canceled canceled"]
    );
    assert_eq!(kit.attempts(id).await, ["1 failed"], "its attempt stays");
    kit.check().await;
}

pub(crate) async fn a_job_that_ends_while_it_waits_tells_of_its_last_attempt(kit: Kit) {
    for wait in [HOUR_MS, 0] {
        let id = kit.made(Q).await;
        kit.run(Q, id, retry_after(wait)).await;
        let before = kit.view(id).await;
        kit.pass(50).await;
        assert!(matches!(kit.cancel(Q, id).await, Canceled::Done { .. }));
        let after = kit.view(id).await;
        assert_eq!(after.state, JobState::Canceled);
        assert_eq!((after.execution_ms, after.started_at), (before.execution_ms, before.started_at));
        assert_eq!((&after.last_error, &after.worker_id), (&before.last_error, &before.worker_id));
    }
    let id = kit.made(Q).await;
    kit.run(Q, id, failed()).await;
    let before = kit.view(id).await;
    kit.pass(50).await;
    assert_eq!(kit.cancel(Q, id).await, canceled(JobState::Failed));
    let after = kit.view(id).await;
    assert_eq!((after.execution_ms, after.started_at), (before.execution_ms, before.started_at));
    assert_eq!(after.last_error.as_deref(), Some("gave up"));
    let unrun = kit.made(Q).await;
    kit.cancel(Q, unrun).await;
    let view = kit.view(unrun).await;
    assert_eq!((view.execution_ms, view.started_at, view.last_error), (0, None, None));
    kit.check().await;
}

pub(crate) async fn a_canceled_attempt_keeps_the_error_of_an_earlier_one(kit: Kit) {
    let id = kit.made(Q).await;
    kit.run(Q, id, retry_after(0)).await;
    kit.run(Q, id, EndKind::Canceled { reason: "asked".into() }).await;
    let view = kit.view(id).await;
    assert_eq!((view.state, view.last_error.as_deref()), (JobState::Canceled, Some("try again")));
    let rows = kit.store.attempts(id).await.expect("reads").expect("is there");
    let errors: Vec<_> = rows.iter().map(|row| row.error_message.as_deref()).collect();
    assert_eq!(errors, [Some("try again"), None], "it is the first attempt's");
    let last = kit.events(id).await.pop().expect("a row");
    assert_eq!(last.metadata.expect("a reason").text().replace(' ', ""), r#"{"reason":"asked"}"#);
    let unhurt = kit.made(Q).await;
    kit.run(Q, unhurt, EndKind::Canceled { reason: "asked".into() }).await;
    assert_eq!(kit.view(unhurt).await.last_error, None);
    kit.check().await;
}

pub(crate) async fn a_failed_job_is_retried_with_attempts_and_deaths_anew(kit: Kit) {
    let id = kit.made(Q).await;
    kit.run(Q, id, EndKind::Recovered { error: error("lost") }).await;
    let second = kit.grant(Q, id).await;
    kit.end(Q, id, second.fence, failed()).await;
    match kit.retry(Q, id).await {
        Retried::Done { entry, from, .. } => {
            assert_eq!((entry.state, from), (JobState::Queued, JobState::Failed));
        }
        other => panic!("{other:?}"),
    }
    let view = kit.view(id).await;
    assert_eq!((view.state, view.attempts, view.fence), (JobState::Queued, 0, Some(second.fence)));
    assert!(kit.inspect(id).await.dead_letter.is_none());
    assert_eq!(kit.ready(Q).await, [id]);
    let third = kit.grant(Q, id).await;
    assert_eq!((third.attempt, third.deaths), (1, 0));
    assert!(third.fence > second.fence, "the fence goes on");
    kit.end(Q, id, third.fence, completed()).await;
    assert_eq!(kit.attempts(id).await, ["1 lease_expired", "2 failed", "1 completed"]);
    assert_eq!(
        kit.timeline(id).await[4..],
        [
            "job.started active",
            "job.failed failed",
            "job.retried queued",
            "job.started active",
            "job.completed completed",
        ]
    );
    kit.check().await;
}

pub(crate) async fn a_failed_job_may_fail_and_be_retried_many_times(kit: Kit) {
    let id = kit.made(Q).await;
    for _ in 0..3 {
        kit.run(Q, id, failed()).await;
        assert!(matches!(kit.retry(Q, id).await, Retried::Done { from: JobState::Failed, .. }));
    }
    assert_eq!(kit.attempts(id).await, ["1 failed"; 3]);
    let kinds: Vec<_> = kit.events(id).await.iter().map(|row| row.kind).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == EventKind::Retried).count(), 3);
    kit.check().await;
}

pub(crate) async fn a_scheduled_job_is_run_now_on_request(kit: Kit) {
    let later = kit.now().await.plus_millis(HOUR_MS);
    let id = kit.make(&NewJob { run_at: Some(later), ..job(Q) }).await;
    assert_eq!(kit.view(id).await.run_at, later);
    assert!(matches!(kit.retry(Q, id).await, Retried::Done { from: JobState::Scheduled, .. }));
    assert_eq!(kit.ready(Q).await, [id]);
    assert_eq!(kit.timeline(id).await, ["job.scheduled scheduled", "job.retried queued"]);
    assert_eq!(kit.retry(Q, id).await, Retried::AlreadyQueued);
    kit.check().await;
}

pub(crate) async fn a_past_run_at_is_the_time_of_the_insert(kit: Kit) {
    let past = kit.now().await.plus_millis(-HOUR_MS);
    let id = kit.make(&NewJob { run_at: Some(past), ..job(Q) }).await;
    let view = kit.view(id).await;
    assert_eq!((view.state, view.run_at), (JobState::Queued, view.created_at));
}

pub(crate) async fn a_payload_comes_back_byte_for_byte(kit: Kit) {
    let odd = r#"{ "a":9007199254740993, "n":"\u0000", "dup":1,"dup":2 }"#;
    let large = format!(r#""{}""#, "x\\n".repeat((1 << 20) / 3 - 1));
    for text in [odd, &large, "null", r#""ü 😀 \ud83d\ude00""#] {
        let id = kit.make(&NewJob { payload: RawJson::trusted(text), ..job(Q) }).await;
        assert_eq!(kit.view(id).await.payload.text(), text);
        let granted = kit.grant(Q, id).await;
        assert_eq!(granted.payload.text(), text);
        let result = EndKind::Completed { result: Some(RawJson::trusted(text)) };
        kit.end(Q, id, granted.fence, result).await;
        assert_eq!(kit.view(id).await.result.as_ref().map(RawJson::text), Some(text));
    }
}

pub(crate) async fn unknown_jobs_are_not_found(kit: Kit) {
    let id = JobId::new();
    let store = &kit.store;
    assert!(store.job(id).await.expect("reads").is_none());
    assert!(store.events(id, 0, 10).await.expect("reads").is_none());
    assert!(store.attempts(id).await.expect("reads").is_none());
    assert!(store.graph(id).await.expect("reads").is_none());
    assert!(store.inspect(id).await.expect("reads").is_none());
    assert!(store.locate(id).await.expect("reads").is_none());
    assert_eq!(kit.cancel(Q, id).await, Canceled::NotFound);
    assert_eq!(kit.retry(Q, id).await, Retried::NotFound);
}

pub(crate) async fn pages_of_a_timeline_join_without_gaps(kit: Kit) {
    let id = kit.made(Q).await;
    for _ in 0..3 {
        kit.run(Q, id, retry_after(0)).await;
    }
    let whole = kit.events(id).await;
    let mut paged = Vec::new();
    loop {
        let after = paged.last().map_or(0, |row: &ganger::domain::TimelineRow| row.seq);
        let page = kit.store.events(id, after, 3).await.expect("reads").expect("is there");
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 3);
        paged.extend(page);
    }
    assert_eq!(paged, whole);
}
