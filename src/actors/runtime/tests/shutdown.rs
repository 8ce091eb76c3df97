//! Stopping in good order, and by force.

use super::*;

/// Never ends by itself once told to stop.
struct Stubborn;

impl Actor for Stubborn {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _myself: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn post_stop(&self, _myself: ActorRef<()>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        std::future::pending().await
    }
}

fn stubborn(name: &str) -> ChildSpec {
    let child = ChildSpec::new(name, "stubborn", |context| async move {
        Ok(context.spawn(Stubborn, ()).await?.get_cell())
    });
    child.shutdown(Duration::from_millis(20))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn children_are_stopped_in_reverse_order_and_by_force_past_their_deadline() {
    let (directory, diary) = (Directory::new(), Diary::default());
    let spec = root().child(soldier("a", &diary)).child(stubborn("s")).child(soldier("b", &diary));
    let root = SupervisorHandle::start_root(spec, &directory).await.expect("root");
    let forced = directory.find("node/s").expect("s");
    diary.clear();
    root.shutdown("over").await;
    assert_eq!(diary.lines(), ["stop b", "stop a"]);
    assert_eq!(forced.get_status(), ractor::ActorStatus::Stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_child_stopped_for_good_is_gone_and_the_others_are_served_meanwhile() {
    let (root, directory, _diary) = troop(root(), &["a"]).await;
    root.start_child(stubborn("s").shutdown(Duration::from_secs(1))).await.expect("starts");
    let stopping = root.stop_child("s");
    let restarting = async {
        // An end is heard before requests: without this wait, "a" may be replaced before "s" is told.
        wait_until("s is told", || status(&directory, "node/s") == Some(Status::Stopping)).await;
        let first = tell(&directory, "node/a", Order::Panic("boom"));
        replaced(&directory, "node/a", &first).await;
        status(&directory, "node/s")
    };
    let (stopped, meanwhile) = tokio::join!(stopping, restarting);
    stopped.expect("stopped");
    assert_eq!(meanwhile, Some(Status::Stopping));
    assert_eq!(status(&directory, "node/s"), None);
    assert!(matches!(root.stop_child("s").await, Err(SupervisorError::NotFound)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_root_whose_child_does_not_start_stops_those_that_did() {
    let (directory, diary) = (Directory::new(), Diary::default());
    let bad = ChildSpec::new("bad", "bad", |_| async { Err("no".into()) });
    let spec = root().child(soldier("a", &diary)).child(soldier("b", &diary)).child(bad);
    let error = SupervisorHandle::start_root(spec, &directory).await.expect_err("bad child");
    assert!(error.to_string().contains("\"bad\": no"), "{error}");
    assert_eq!(diary.lines(), ["start a", "start b", "stop b", "stop a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_start_that_hangs_is_a_failure() {
    let (root, _directory, _diary) = troop(root(), &[]).await;
    let mut hangs = ChildSpec::new("h", "hangs", |_| std::future::pending());
    hangs.start_deadline = Duration::from_millis(10);
    let error = root.start_child(hangs).await.expect_err("hangs");
    assert_eq!(error.to_string(), "child did not start: did not start within 10ms");
}
