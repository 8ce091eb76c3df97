//! The directory, its snapshots, and leaves.

use tokio::sync::oneshot;

use super::*;

fn leaf(directory: &Arc<Directory>, parent: &ActorCell, name: &str) -> Result<ActorRef<Order>, LeafError> {
    let actor = Soldier { name: name.to_owned(), diary: Diary::default() };
    spawn_leaf(directory, parent, Probe::new("lease", name), actor, ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_thousand_leaves_are_paged_in_order() {
    let (root, directory, _diary) = troop(root(), &["a"]).await;
    let parent = root.cell().expect("running");
    let names: Vec<String> = (0..1_000).map(|number| format!("lease-{number}")).collect();
    for name in &names {
        leaf(&directory, &parent, name).expect("spawned");
    }

    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = Page { limit: 300, after };
        let node = directory.snapshot(None, 1, Some("lease"), page).expect("root");
        assert_eq!(node.child_count, 1_001);
        assert!(node.children.len() <= 300);
        seen.extend(node.children.into_iter().map(|child| child.name));
        after = node.next_child;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, names);
    let first = directory.snapshot(None, 1, None, Page::default()).expect("root");
    assert_eq!(first.children.len(), PAGE_LIMIT_DEFAULT);
    assert!(first.next_child.is_some());
    root.shutdown("over").await;
    wait_until("all leaves left", || directory.len() <= 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_end_of_a_leaf_is_told_and_it_leaves_the_tree() {
    let ends = Diary::default();
    let told = ends.clone();
    let mut spec = root();
    spec.on_leaf_exit = Some(Arc::new(move |_, exit| told.note(exit.reason())));
    let (root, directory, _diary) = troop(spec, &[]).await;
    let parent = root.cell().expect("running");

    let panics = leaf(&directory, &parent, "one").expect("spawned");
    assert!(matches!(leaf(&directory, &parent, "one"), Err(LeafError::Place(ReserveError::Taken(_)))));
    panics.cast(Order::Panic("boom")).expect("sent at once");
    wait_until("told", || ends.lines() == ["panicked: boom"]).await;
    wait_until("gone", || status(&directory, "node/one").is_none()).await;

    let again = leaf(&directory, &parent, "one").expect("its name is free");
    let (reply, answer) = oneshot::channel();
    again.cast(Order::Ping(reply)).expect("sent");
    answer.await.expect("runs");
    directory.restart("node/one").expect("asked");
    wait_until("told", || ends.lines().len() == 2).await;
    assert_eq!(ends.lines()[1], OPERATOR_RESTART);
}

/// A leaf that cannot start.
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
async fn a_leaf_that_does_not_start_is_reported_too() {
    let ends = Diary::default();
    let told = ends.clone();
    let mut spec = root();
    spec.on_leaf_exit = Some(Arc::new(move |_, exit| told.note(exit.reason())));
    let (root, directory, _diary) = troop(spec, &[]).await;
    let parent = root.cell().expect("running");
    spawn_leaf(&directory, &parent, Probe::new("lease", "s"), Stillborn, ()).expect("spawned");
    wait_until("told", || ends.lines() == ["panicked: stillborn"]).await;
    wait_until("gone", || status(&directory, "node/s").is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn leaves_end_with_their_supervisor_and_cannot_be_had_without_it() {
    let (root, directory, _diary) = troop(root(), &[]).await;
    let parent = root.cell().expect("running");
    let orphan = leaf(&directory, &parent, "one").expect("spawned");
    parent.kill();
    wait_until("gone", || orphan.get_status() == ractor::ActorStatus::Stopped).await;
    wait_until("left", || directory.len() <= 1).await;
    root.ended().await;
    let late = leaf(&directory, &parent, "two");
    let late = late.map(|late| late.get_cell());
    if let Ok(late) = late {
        // The root's place is not emptied by anybody: such a leaf is refused by ractor and leaves by itself.
        wait_until("refused", || late.get_status() == ractor::ActorStatus::Stopped).await;
    }
    wait_until("left", || directory.len() <= 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_node_is_shown_as_the_contract_has_it() {
    let (root, directory, diary) = troop(root(), &[]).await;
    root.start_child(soldier("a/b", &diary)).await.expect("starts");
    wait_until("running", || status(&directory, "node/a%2Fb") == Some(Status::Running)).await;
    let probe = directory.probe("node/a%2Fb").expect("probe");
    probe.describe(|| serde_json::json!({ "jobId": "j1" }));
    probe.time("Renew").handled(4);
    assert_eq!(probe.last_message(), "Renew");

    let node = directory.snapshot(None, 1, None, Page::default()).expect("root");
    let shown = serde_json::to_value(&node.children[0]).expect("json");
    let object = shown.as_object().expect("object");
    let keys: Vec<&str> = object.keys().map(String::as_str).collect();
    let mut expected = vec![
        "id",
        "kind",
        "name",
        "path",
        "status",
        "startedAt",
        "restarts",
        "mailbox",
        "messages",
        "detail",
        "childCount",
        "children",
    ];
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    expected.sort_unstable();
    assert_eq!(sorted, expected);
    assert_eq!(shown["path"], "node/a%2Fb");
    assert_eq!(shown["name"], "a/b");
    assert_eq!(shown["status"], "running");
    assert_eq!(shown["messages"]["handled"], 4);
    assert!(shown["messages"]["p99Micros"].is_number());
    assert_eq!(shown["mailbox"], serde_json::json!({ "depth": 0, "highWater": 0 }));
    assert_eq!(shown["detail"]["jobId"], "j1");
}
