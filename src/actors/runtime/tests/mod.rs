//! The runtime with real actors. Nothing sleeps: a test waits for a state, with a deadline.

mod doors;
mod restarts;
mod shutdown;
mod tree;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef};

use super::*;

/// What happened, in order, over all actors of a test.
#[derive(Debug, Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn note(&self, line: impl Into<String>) {
        self.0.lock().expect("diary").push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().expect("diary").clone()
    }

    fn clear(&self) {
        self.0.lock().expect("diary").clear();
    }
}

enum Order {
    Panic(&'static str),
    Fail(&'static str),
    Stop,
    Ping(tokio::sync::oneshot::Sender<()>),
}

/// An actor that does as it is told and writes its diary.
struct Soldier {
    name: String,
    diary: Diary,
}

impl Actor for Soldier {
    type Msg = Order;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _myself: ActorRef<Order>, (): ()) -> Result<(), ActorProcessingErr> {
        self.diary.note(format!("start {}", self.name));
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Order>,
        message: Order,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Order::Panic(text) => panic!("{text}"),
            Order::Fail(text) => return Err(text.into()),
            Order::Stop => myself.stop(None),
            Order::Ping(reply) => {
                let _asker_left = reply.send(());
            }
        }
        Ok(())
    }

    async fn post_stop(&self, _myself: ActorRef<Order>, (): &mut ()) -> Result<(), ActorProcessingErr> {
        self.diary.note(format!("stop {}", self.name));
        Ok(())
    }
}

fn soldier(name: &str, diary: &Diary) -> ChildSpec {
    let (name, diary) = (name.to_owned(), diary.clone());
    ChildSpec::new(name.clone(), "soldier", move |context| {
        let soldier = Soldier { name: name.clone(), diary: diary.clone() };
        async move { Ok(context.spawn(soldier, ()).await?.get_cell()) }
    })
}

/// A root with `names` as soldiers, ready.
async fn troop(spec: SupervisorSpec, names: &[&str]) -> (SupervisorHandle, Arc<Directory>, Diary) {
    let (directory, diary) = (Directory::new(), Diary::default());
    let spec = names.iter().fold(spec, |spec, name| spec.child(soldier(name, &diary)));
    let root = SupervisorHandle::start_root(spec, &directory).await.expect("root starts");
    (root, directory, diary)
}

fn root() -> SupervisorSpec {
    SupervisorSpec::new("node", "supervisor")
}

fn tell(directory: &Directory, path: &str, order: Order) -> ActorCell {
    let cell = directory.find(path).expect("running");
    assert!(cell.send_message(order).is_ok(), "{path} takes no orders");
    cell
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::task::yield_now().await;
    }
}

/// Waits until `path` is held by another, running incarnation than `former`.
async fn replaced(directory: &Directory, path: &str, former: &ActorCell) -> ActorCell {
    wait_until(path, || {
        directory
            .find(path)
            .is_some_and(|cell| cell != *former && cell.get_status() == ractor::ActorStatus::Running)
    })
    .await;
    directory.find(path).expect("running")
}

fn status(directory: &Directory, path: &str) -> Option<Status> {
    directory.snapshot(Some(path), 0, None, Page::default()).map(|node| node.status)
}
