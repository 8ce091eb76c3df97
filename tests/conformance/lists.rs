//! Lists, reports and removal.

use ganger::{
    domain::{JobId, JobOptions, JobState, NewJob, WorkflowId},
    store::read::{FinishedFilter, JobCursor, JobFilter},
};

use super::kit::{HOUR_MS, Kit, child, completed, failed, job, keyed, retry_after, tolerant_child};

const Q: &str = "mail";

async fn found(kit: &Kit, filter: JobFilter) -> Vec<JobId> {
    let jobs = kit.jobs(&filter, None, 100).await;
    jobs.into_iter().map(|job| job.id).collect()
}

pub(crate) async fn jobs_are_found_by_what_they_are(kit: Kit) {
    let workflow = WorkflowId::new();
    let tagged = JobOptions { tags: vec!["red".into(), "blue".into()], ..JobOptions::default() };
    let a = kit.make(&NewJob { options: tagged, ..job(Q) }).await;
    let b = kit.make(&NewJob { tenant: "acme".into(), kind: "image.resize".into(), ..job("images") }).await;
    let c = kit.make(&NewJob { workflow_id: Some(workflow), ..job(Q) }).await;
    let d = kit.made(Q).await;
    kit.run(Q, d, retry_after(HOUR_MS)).await;
    let e = kit.made(Q).await;
    kit.grant(Q, e).await;
    let any = JobFilter::default;
    assert_eq!(found(&kit, any()).await, [e, d, c, b, a], "newest first");
    assert_eq!(found(&kit, JobFilter { queue: Some("images".into()), ..any() }).await, [b]);
    assert_eq!(found(&kit, JobFilter { tenant: Some("acme".into()), ..any() }).await, [b]);
    assert_eq!(found(&kit, JobFilter { kind: Some("image.resize".into()), ..any() }).await, [b]);
    assert_eq!(found(&kit, JobFilter { workflow: Some(workflow.0), ..any() }).await, [c]);
    assert_eq!(found(&kit, JobFilter { tag: Some("blue".into()), ..any() }).await, [a]);
    assert!(found(&kit, JobFilter { tag: Some("blu".into()), ..any() }).await.is_empty());
    assert_eq!(found(&kit, JobFilter { worker: Some("worker-1".into()), ..any() }).await, [e, d]);
    let made = kit.view(c).await.created_at;
    assert_eq!(found(&kit, JobFilter { created_after: Some(made), ..any() }).await, [e, d, c]);
    assert_eq!(found(&kit, JobFilter { created_before: Some(made), ..any() }).await, [b, a]);
    let both = JobFilter { queue: Some(Q.into()), worker: Some("worker-1".into()), ..any() };
    assert_eq!(found(&kit, JobFilter { states: vec![JobState::Active], ..both }).await, [e]);
    let view = &kit.jobs(&JobFilter { tag: Some("red".into()), ..any() }, None, 1).await[0];
    assert_eq!(view.tags, ["red", "blue"]);
}

pub(crate) async fn jobs_are_found_by_the_state_they_are_shown_in(kit: Kit) {
    let later = kit.now().await.plus_millis(HOUR_MS);
    let queued = kit.made(Q).await;
    let due = kit.made(Q).await;
    kit.run(Q, due, retry_after(0)).await;
    let scheduled = kit.make(&NewJob { run_at: Some(later), ..job(Q) }).await;
    let blocked = kit.make(&child(Q, &[queued])).await;
    let active = kit.made(Q).await;
    kit.grant(Q, active).await;
    let done = kit.made(Q).await;
    kit.run(Q, done, completed()).await;
    let lost = kit.made(Q).await;
    kit.run(Q, lost, failed()).await;
    let by = async |states: &[JobState]| {
        found(&kit, JobFilter { states: states.to_vec(), ..JobFilter::default() }).await
    };
    assert_eq!(by(&[JobState::Queued]).await, [due, queued]);
    assert!(by(&[JobState::Retrying]).await.is_empty(), "its time has come");
    assert_eq!(by(&[JobState::Scheduled, JobState::Blocked]).await, [blocked, scheduled]);
    assert_eq!(by(&[JobState::Active]).await, [active]);
    assert_eq!(by(&[JobState::Completed]).await, [done]);
    assert_eq!(by(&[JobState::Failed, JobState::Canceled]).await, [lost]);
    assert_eq!(by(&[JobState::Queued, JobState::Failed]).await, [lost, due, queued]);
}

pub(crate) async fn jobs_are_found_by_a_part_of_their_text_in_any_case(kit: Kit) {
    let a = kit.make(&NewJob { kind: "Report.Daily".into(), ..job(Q) }).await;
    let b = kit.made(Q).await;
    let granted = kit.grant(Q, b).await;
    let error = super::kit::error("Connection REFUSED by 100%_peer");
    kit.end(Q, b, granted.fence, ganger::store::ops::EndKind::Failed { error }).await;
    let by =
        async |text: &str| found(&kit, JobFilter { text: Some(text.into()), ..JobFilter::default() }).await;
    assert_eq!(by("report.d").await, [a]);
    assert_eq!(by("refused BY").await, [b]);
    assert_eq!(by("100%_p").await, [b]);
    assert!(by("1%p").await.is_empty(), "no wildcards");
    let id = a.to_string();
    assert_eq!(by(&id).await, [a]);
    assert_eq!(by(&id[20..].to_uppercase()).await, [a]);
    assert_eq!(by("mail.send").await, [b]);
}

pub(crate) async fn pages_of_jobs_are_stable_while_jobs_are_added(kit: Kit) {
    let mut made = Vec::new();
    for _ in 0..10 {
        made.push(kit.made(Q).await);
    }
    made.reverse();
    let mut seen: Vec<JobId> = Vec::new();
    loop {
        let cursor = seen.last().map(|id| JobCursor(*id));
        let page = kit.jobs(&JobFilter::default(), cursor, 3).await;
        if page.is_empty() {
            break;
        }
        seen.extend(page.iter().map(|job| job.id));
        kit.made(Q).await;
    }
    assert_eq!(seen, made);
}

pub(crate) async fn a_search_looks_at_no_more_than_it_may_and_says_how_far_it_came(kit: Kit) {
    let lost = kit.made(Q).await;
    kit.run(Q, lost, failed()).await;
    let mut others = Vec::new();
    for n in 0..7 {
        let id = kit.made(Q).await;
        match n % 3 {
            0 => drop(kit.cancel(Q, id).await),
            1 => drop(kit.run(Q, id, completed()).await),
            _ => {}
        }
        others.push(id);
    }
    let gone = kit.made(Q).await;
    kit.run(Q, gone, failed()).await;
    let by = |states: &[JobState]| JobFilter { states: states.to_vec(), ..JobFilter::default() };
    use JobState::{Active, Canceled, Completed, Failed, Queued};
    for (states, rows) in [
        // Nine jobs; two failed, three canceled, two completed, two queued.
        (&[Queued, Failed][..], 9),
        (&[Failed], 2),
        (&[Canceled], 3),
        (&[Canceled, Failed], 5),
        (&[Completed, Failed], 7),
        (&[Completed], 7),
        (&[Queued], 2),
        (&[Active, Queued], 2),
        (&[Active], 0),
    ] {
        let filter = by(states);
        let whole = kit.store.search(&filter, None, 100, 100).await.expect("reads");
        assert_eq!(whole.reached, None, "{states:?}");
        for scan in 1..=rows + 1 {
            let (mut found, mut steps, mut cursor) = (Vec::new(), 0, None);
            loop {
                let step = kit.store.search(&filter, cursor, 100, scan).await.expect("reads");
                let ids = kit.store.search_ids(&filter, cursor, 100, scan).await.expect("reads");
                assert_eq!(ids.found, step.found.iter().map(|job| job.id).collect::<Vec<_>>());
                assert_eq!(ids.reached, step.reached);
                assert!(i64::try_from(step.found.len()).expect("fits") <= scan, "{states:?}");
                assert!(cursor.is_none() || step.reached.is_none() || step.reached != cursor, "stands still");
                found.extend(ids.found);
                steps += 1;
                cursor = step.reached;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(
                found,
                whole.found.iter().map(|job| job.id).collect::<Vec<_>>(),
                "{states:?} by {scan}"
            );
            assert_eq!(steps, ((rows + scan - 1) / scan).max(1), "{states:?}: each step looks at {scan}");
        }
    }
    let step = kit.store.search(&by(&[Failed]), None, 1, 100).await.expect("reads");
    assert_eq!((step.found[0].id, step.reached), (gone, Some(JobCursor(gone))), "as many as may be found");
    let none = JobFilter { queue: Some("images".into()), ..JobFilter::default() };
    let step = kit.store.search(&none, None, 10, 4).await.expect("reads");
    assert_eq!(
        (step.found.len(), step.reached),
        (0, Some(JobCursor(others[4]))),
        "nothing found is progress too"
    );
}

pub(crate) async fn finished_jobs_are_reported_in_the_order_they_were_made(kit: Kit) {
    let (a, b, c, d) = (kit.made(Q).await, kit.made(Q).await, kit.made("images").await, kit.made(Q).await);
    kit.run(Q, b, completed()).await;
    kit.run(Q, a, failed()).await;
    let since = kit.view(a).await.finished_at;
    kit.run("images", c, completed()).await;
    kit.cancel(Q, d).await;
    kit.made(Q).await;
    let by = async |filter: FinishedFilter, after| {
        let rows = kit.store.finished(&filter, after, 10).await.expect("reads");
        rows.into_iter().map(|row| row.job).collect::<Vec<_>>()
    };
    let any = FinishedFilter::default;
    assert_eq!(by(any(), None).await, [a, b, c, d]);
    assert_eq!(by(any(), Some(b)).await, [c, d]);
    assert_eq!(by(FinishedFilter { queue: Some("images".into()), ..any() }, None).await, [c]);
    assert_eq!(by(FinishedFilter { state: Some(JobState::Completed), ..any() }, None).await, [b, c]);
    assert_eq!(by(FinishedFilter { since, ..any() }, None).await, [a, c, d]);
    assert_eq!(by(FinishedFilter { until: since, ..any() }, None).await, [b]);
    assert!(by(FinishedFilter { tenant: Some("acme".into()), ..any() }, None).await.is_empty());
    let row = kit.store.finished(&any(), None, 1).await.expect("reads").remove(0);
    assert_eq!((row.state, row.attempts, row.kind.as_str()), (JobState::Failed, 1, "mail.send"));
    assert_eq!(row.last_error.as_deref(), Some("gave up"));
    let view = kit.view(a).await;
    assert_eq!(
        (row.created_at, row.started_at, Some(row.finished_at)),
        (view.created_at, view.started_at, view.finished_at)
    );
}

pub(crate) async fn finished_jobs_are_removed_with_all_that_belongs_to_them(kit: Kit) {
    let done = kit.make(&keyed(Q, "k", 900, 1)).await;
    kit.run(Q, done, retry_after(0)).await;
    kit.run(Q, done, completed()).await;
    let lost = kit.made(Q).await;
    kit.run(Q, lost, failed()).await;
    let parent = kit.made(Q).await;
    let waiting = kit.make(&tolerant_child(Q, &[parent])).await;
    kit.run(Q, parent, completed()).await;
    kit.inbox(Q).await;
    let elsewhere = kit.made("images").await;
    kit.run("images", elsewhere, completed()).await;
    let live = kit.made(Q).await;
    let before = kit.now().await.plus_millis(1);
    let owners = kit.owned.as_slice();
    let remove = async |states: &[JobState], queue, limit| {
        kit.store.remove_finished(owners, before, states, queue, None, limit).await.expect("removes")
    };
    let early = kit.view(done).await.created_at;
    let none = kit.store.remove_finished(owners, early, &[JobState::Completed], None, None, 10).await;
    assert_eq!(none.expect("removes"), 0, "they ended later");
    assert_eq!(remove(&[JobState::Completed], Some(Q), 10).await, 1, "the one that another waits for stays");
    assert!(kit.store.job(done).await.expect("reads").is_none());
    assert!(kit.store.inspect(done).await.expect("reads").is_none());
    assert!(kit.store.events(done, 0, 10).await.expect("reads").is_none());
    kit.check().await;
    assert_eq!(remove(&[JobState::Failed, JobState::Canceled], None, 10).await, 1);
    assert_eq!(remove(&[JobState::Completed], None, 10).await, 1, "the other queue's");
    assert_eq!(kit.all_jobs().await.iter().map(|job| job.id).collect::<Vec<_>>(), [parent, waiting, live]);
    kit.run(Q, waiting, completed()).await;
    let before = kit.now().await.plus_millis(1);
    let removed = kit.store.remove_finished(owners, before, &[JobState::Completed], None, None, 1).await;
    assert_eq!(removed.expect("removes"), 1, "no more than the limit");
    let removed = kit.store.remove_finished(owners, before, &[JobState::Completed], None, None, 9).await;
    assert_eq!(removed.expect("removes"), 1);
    assert_eq!(kit.all_jobs().await.len(), 1);
    kit.check().await;
}

pub(crate) async fn a_tenants_finished_jobs_are_removed_alone(kit: Kit) {
    let theirs = kit.make(&NewJob { tenant: "acme".into(), ..job(Q) }).await;
    let ours = kit.made(Q).await;
    for id in [theirs, ours] {
        kit.run(Q, id, completed()).await;
    }
    let before = kit.now().await.plus_millis(1);
    let remove = async |queue, tenant| {
        let states = [JobState::Completed];
        let removed = kit.store.remove_finished(&kit.owned, before, &states, queue, Some(tenant), 10).await;
        removed.expect("removes")
    };
    assert_eq!(remove(None, "nobody").await, 0);
    assert_eq!(remove(Some("images"), "acme").await, 0);
    assert_eq!(remove(Some(Q), "acme").await, 1);
    assert_eq!(kit.all_jobs().await.iter().map(|job| job.id).collect::<Vec<_>>(), [ours]);
    assert_eq!(remove(None, "default").await, 1);
    kit.check().await;
}

pub(crate) async fn what_an_unfinished_job_depends_on_is_not_removed(kit: Kit) {
    let all = [JobState::Completed, JobState::Failed, JobState::Canceled];
    let remove = async || {
        let before = kit.now().await.plus_millis(1);
        kit.store.remove_finished(&kit.owned, before, &all, None, None, 10).await.expect("removes")
    };
    // One ends before its children are made, one after; each otherwise than a strict child needs.
    let (lost, gone, done) = (kit.made(Q).await, kit.made(Q).await, kit.made(Q).await);
    kit.run(Q, lost, failed()).await;
    let mut children = vec![kit.make(&child("images", &[lost])).await];
    for parent in [gone, done] {
        children.push(kit.make(&child("images", &[parent])).await);
    }
    kit.cancel(Q, gone).await;
    kit.run(Q, done, completed()).await;
    assert_eq!(remove().await, 0, "before the news is taken");
    kit.inbox("images").await;
    assert_eq!(remove().await, 0, "what has a stuck child stays, as does what a child has yet to read");
    for (id, state) in children.iter().zip([JobState::Blocked, JobState::Blocked, JobState::Queued]) {
        assert_eq!(kit.state(*id).await, state);
    }
    let reason = kit.view(children[1]).await.blocked_reason.expect("a reason");
    assert!(reason.contains(&gone.to_string()) && reason.contains("canceled"), "{reason}");
    assert_eq!(kit.state(gone).await, JobState::Canceled, "whom it names is there");
    for id in &children {
        kit.cancel("images", *id).await;
    }
    assert_eq!(remove().await, 6, "when the children have ended, all go");
    assert!(kit.all_jobs().await.is_empty());
    kit.check().await;
}

pub(crate) async fn only_an_owner_removes(kit: Kit) {
    let id = kit.made(Q).await;
    kit.run(Q, id, completed()).await;
    let before = kit.now().await.plus_millis(1);
    let next = kit.again(false).await;
    let by = async |kit: &Kit| {
        let states = [JobState::Completed];
        kit.store.remove_finished(&kit.owned, before, &states, None, None, 10).await.expect("removes")
    };
    assert_eq!(by(&kit).await, 0, "a former owner removes nothing");
    assert_eq!(by(&next).await, 1);
}
