//! Who is restarted, when, and what is given up.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_child_is_restarted_after_a_panic_an_error_and_a_kill() {
    let (_root, directory, _diary) = troop(root(), &["a", "b"]).await;
    let sibling = directory.find("node/b").expect("b");
    let probe = directory.probe("node/a").expect("probe");

    let first = tell(&directory, "node/a", Order::Panic("boom"));
    let second = replaced(&directory, "node/a", &first).await;
    assert_eq!(probe.last_restart().expect("noted").reason, "panicked: boom");

    tell(&directory, "node/a", Order::Fail("broken state"));
    let third = replaced(&directory, "node/a", &second).await;
    assert_eq!(probe.last_restart().expect("noted").reason, "broken state");

    directory.kill("node/a").expect("killed");
    replaced(&directory, "node/a", &third).await;
    assert_eq!(probe.last_restart().expect("noted").reason, "killed");
    assert_eq!(probe.restarts(), 3);
    assert_eq!(directory.find("node/b"), Some(sibling), "one_for_one leaves siblings alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn rest_for_one_restarts_those_started_after_in_order() {
    let (_root, directory, diary) = troop(root().strategy(Strategy::RestForOne), &["a", "b", "c", "d"]).await;
    let untouched = directory.find("node/a");
    let last = directory.find("node/d").expect("d");
    diary.clear();

    tell(&directory, "node/b", Order::Panic("boom"));
    replaced(&directory, "node/d", &last).await;

    assert_eq!(diary.lines(), ["stop d", "stop c", "start b", "start c", "start d"]);
    assert_eq!(directory.find("node/a"), untouched);
    assert_eq!(directory.probe("node/d").expect("probe").restarts(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_child_that_fails_too_often_takes_its_supervisor_down_which_its_own_restarts() {
    let (directory, diary) = (Directory::new(), Diary::default());
    let inner = SupervisorSpec::new("inner", "supervisor").intensity(1, Duration::from_secs(60));
    let inner = inner.child(soldier("x", &diary)).child(soldier("y", &diary)).child(soldier("z", &diary));
    let _root =
        SupervisorHandle::start_root(root().child(inner.into_child()), &directory).await.expect("root");
    let supervisor = directory.find("node/inner").expect("inner");

    let x = tell(&directory, "node/inner/x", Order::Panic("one"));
    let x = replaced(&directory, "node/inner/x", &x).await;
    diary.clear();
    tell(&directory, "node/inner/x", Order::Panic("two"));
    replaced(&directory, "node/inner", &supervisor).await;
    replaced(&directory, "node/inner/x", &x).await;

    let reason = directory.probe("node/inner").expect("probe").last_restart().expect("noted").reason;
    assert_eq!(reason, "child \"x\" failed 2 times in 60s: panicked: two");
    assert_eq!(diary.lines(), ["stop z", "stop y", "start x", "start y", "start z"]);
    assert_eq!(directory.len(), 5, "nobody of the former family is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_root_that_gives_up_ends_and_says_why() {
    let (root, directory, _diary) = troop(root().intensity(0, Duration::from_secs(60)), &["a"]).await;
    tell(&directory, "node/a", Order::Panic("boom"));
    let end = root.ended().await.expect("failed");
    assert_eq!(end.reason, "child \"a\" failed 1 times in 60s: panicked: boom");
}

/// A child whose start fails while `broken` is above zero, counting down.
fn fragile(name: &str, broken: &Arc<AtomicU32>, diary: &Diary) -> ChildSpec {
    let (broken, well) = (Arc::clone(broken), soldier(name, diary));
    ChildSpec::new(name, "fragile", move |context| {
        let (broken, well) = (Arc::clone(&broken), well.clone());
        async move {
            let was_broken =
                broken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if was_broken.is_ok() { Err("cannot load".into()) } else { (well.start)(context).await }
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_quarantined_child_is_left_down_alone_until_an_operator_restarts_it() {
    let (root, directory, diary) = troop(root(), &["well"]).await;
    let broken = Arc::new(AtomicU32::new(u32::MAX));
    let given_up = Diary::default();
    let told = given_up.clone();
    let spec = fragile("mail/eu", &broken, &diary)
        .on_give_up(GiveUp::quarantine(Some(Arc::new(move |reason| told.note(reason)))));

    let error = root.start_child(spec).await.expect_err("cannot load");
    assert_eq!(error.to_string(), "child did not start: cannot load");
    let path = "node/mail%2Feu";
    wait_until("given up", || given_up.lines() == ["cannot load"]).await;
    assert_eq!(status(&directory, path), Some(Status::Quarantined));
    let down = directory.quarantined();
    assert_eq!((down.len(), down[0].path.as_str(), down[0].name.as_str()), (1, path, "mail/eu"));
    for unharmed in ["node", "node/well"] {
        assert_eq!(directory.probe(unharmed).expect("probe").restarts(), 0);
        wait_until(unharmed, || status(&directory, unharmed) == Some(Status::Running)).await;
    }

    broken.store(0, Ordering::SeqCst);
    directory.restart(path).expect("asked");
    wait_until("running", || status(&directory, path) == Some(Status::Running)).await;
    assert_eq!(directory.quarantined(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_quarantined_child_is_tried_again_by_itself() {
    let (root, directory, diary) = troop(root(), &[]).await;
    let broken = Arc::new(AtomicU32::new(7));
    let brief = Backoff { min: Duration::from_millis(1), max: Duration::from_millis(2) };
    let spec = fragile("q", &broken, &diary).on_give_up(GiveUp::Quarantine { backoff: brief, notify: None });
    root.start_child_nowait(spec).expect("asked");
    wait_until("running", || status(&directory, "node/q") == Some(Status::Running)).await;
    assert_eq!(directory.probe("node/q").expect("probe").restarts(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_child_whose_start_fails_is_not_kept_when_its_caller_was_told() {
    let (root, directory, diary) = troop(root(), &[]).await;
    let broken = Arc::new(AtomicU32::new(1));
    root.start_child(fragile("q", &broken, &diary)).await.expect_err("told");
    assert_eq!(status(&directory, "node/q"), None);
    let cell = root.start_child(fragile("q", &broken, &diary)).await.expect("starts now");
    let error = root.start_child(fragile("q", &broken, &diary)).await.expect_err("is there");
    assert!(matches!(error, SupervisorError::Exists(Some(there)) if there == cell));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_transient_child_leaves_when_it_stops_and_returns_when_it_fails() {
    let (root, directory, diary) = troop(root(), &[]).await;
    root.start_child(soldier("t", &diary).restart(Restart::Transient)).await.expect("starts");
    let first = tell(&directory, "node/t", Order::Panic("boom"));
    replaced(&directory, "node/t", &first).await;
    tell(&directory, "node/t", Order::Stop);
    wait_until("gone", || status(&directory, "node/t").is_none()).await;
    assert!(root.children().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn an_operators_restart_takes_the_subtree_and_counts_as_no_failure() {
    let (directory, diary) = (Directory::new(), Diary::default());
    let inner = SupervisorSpec::new("inner", "supervisor").child(soldier("x", &diary));
    let spec = root().intensity(0, Duration::from_secs(60)).child(inner.into_child());
    let _root = SupervisorHandle::start_root(spec, &directory).await.expect("root");
    let (supervisor, x) =
        (directory.find("node/inner").expect("inner"), directory.find("node/inner/x").expect("x"));
    diary.clear();

    directory.restart("node/inner").expect("asked");
    replaced(&directory, "node/inner", &supervisor).await;
    replaced(&directory, "node/inner/x", &x).await;

    assert_eq!(diary.lines(), ["stop x", "start x"]);
    let probe = directory.probe("node/inner").expect("probe");
    assert_eq!(probe.last_restart().expect("noted").reason, OPERATOR_RESTART);
    assert_eq!(directory.restart("node"), Err(OperatorError::Root));
    assert_eq!(directory.restart("node/nobody"), Err(OperatorError::NotFound));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_killed_supervisor_returns_with_its_first_children() {
    let (directory, diary) = (Directory::new(), Diary::default());
    let inner = SupervisorSpec::new("inner", "supervisor").child(soldier("x", &diary));
    let _root =
        SupervisorHandle::start_root(root().child(inner.into_child()), &directory).await.expect("root");
    let x = directory.find("node/inner/x").expect("x");
    directory.kill("node/inner").expect("killed");
    replaced(&directory, "node/inner/x", &x).await;
    assert_eq!(x.get_status(), ractor::ActorStatus::Stopped, "the former child has ended before");
    assert_eq!(directory.len(), 3);
}

/// Panics in its own start.
struct Stillborn;

impl Actor for Stillborn {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _myself: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        panic!("stillborn")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_panic_in_a_start_is_named_as_one() {
    let (root, _directory, _diary) = troop(root(), &[]).await;
    let spec = ChildSpec::new("s", "stillborn", |context| async move {
        Ok(context.spawn(Stillborn, ()).await?.get_cell())
    });
    let error = root.start_child(spec).await.expect_err("panics");
    assert_eq!(error.to_string(), "child did not start: panicked: stillborn");
    let spec =
        ChildSpec::new("s", "careless", |_| -> std::future::Ready<Result<ActorCell, ActorProcessingErr>> {
            panic!("before there is a future")
        });
    let error = root.start_child(spec).await.expect_err("panics");
    assert_eq!(error.to_string(), "child did not start: panicked: before there is a future");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_wait_for_an_earlier_sibling_is_kept_under_rest_for_one() {
    let (root, directory, diary) = troop(root().strategy(Strategy::RestForOne), &[]).await;
    let broken = Arc::new(AtomicU32::new(2));
    root.start_child_nowait(fragile("a", &broken, &diary)).expect("asked");
    root.start_child_nowait(soldier("b", &diary)).expect("asked");
    wait_until("b runs", || status(&directory, "node/b") == Some(Status::Running)).await;
    assert_eq!(diary.lines(), ["start a", "start b"]);
    assert_eq!(directory.probe("node/a").expect("probe").restarts(), 2);
}
