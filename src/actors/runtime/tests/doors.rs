//! Doors, and what survives of them.

use super::*;

/// Takes numbers from its door into its diary; panics at 13, after it has put back nothing.
struct Taker {
    door: DoorReceiver<u32>,
    diary: Diary,
}

struct Bell;

impl Actor for Taker {
    type Msg = Bell;
    type State = Vec<u32>;
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<Bell>, (): ()) -> Result<Vec<u32>, ActorProcessingErr> {
        self.door.attach(move || {
            let _stopped = myself.cast(Bell);
        });
        Ok(Vec::new())
    }

    async fn handle(
        &self,
        _myself: ActorRef<Bell>,
        Bell: Bell,
        batch: &mut Vec<u32>,
    ) -> Result<(), ActorProcessingErr> {
        self.door.answer(1, batch);
        for op in batch.drain(..) {
            assert!(op != 13, "thirteen");
            self.diary.note(op.to_string());
        }
        Ok(())
    }
}

#[test]
fn a_full_door_gives_the_op_back_and_shows_its_depth() {
    let (door, receiver) = door(2);
    door.try_send(1).expect("room");
    door.try_send(2).expect("room");
    assert!(matches!(door.try_send(3), Err(DoorError::Full(3))));
    assert_eq!((door.depth(), door.capacity(), door.high_water(), receiver.len()), (2, 2, 2, 2));
    assert!((door.fill() - 1.0).abs() < f64::EPSILON);

    let mut batch = Vec::new();
    assert_eq!(receiver.answer(DRAIN_MAX, &mut batch), Drained { taken: 2, more: false });
    assert_eq!((batch, door.depth(), door.high_water()), (vec![1, 2], 0, 2));

    drop(receiver);
    assert!(matches!(door.try_send(4), Err(DoorError::Closed(4))));
}

#[test]
fn a_bell_rings_once_a_batch_and_again_for_what_is_left() {
    let (door, receiver) = door(8);
    let rings = Diary::default();
    let bell = rings.clone();
    receiver.attach(move || bell.note("ring"));
    for op in 0..3 {
        door.try_send(op).expect("room");
    }
    assert_eq!(rings.lines().len(), 1, "the attach rang; the sends found it rung");
    let mut batch = Vec::new();
    assert_eq!(receiver.answer(2, &mut batch), Drained { taken: 2, more: true });
    assert_eq!(rings.lines().len(), 2);
    assert_eq!(receiver.answer(2, &mut batch), Drained { taken: 1, more: false });
    assert_eq!(rings.lines().len(), 2);
    door.try_send(9).expect("room");
    assert_eq!(rings.lines().len(), 3, "the next after an empty door rings again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_waits_in_a_door_survives_the_restart_of_its_actor() {
    let (root, directory, diary) = troop(root(), &[]).await;
    let (door, receiver) = door(64);
    let notes = diary.clone();
    for op in [1, 13, 2, 3] {
        door.try_send(op).expect("room");
    }
    let watched = door.clone();
    let taker = ChildSpec::new("taker", "taker", move |context| {
        let taker = Taker { door: receiver.clone(), diary: notes.clone() };
        context.probe.watch_door(&watched);
        async move { Ok(context.spawn(taker, ()).await?.get_cell()) }
    });
    root.start_child(taker).await.expect("starts");
    wait_until("all taken", || diary.lines() == ["1", "2", "3"]).await;
    door.try_send(4).expect("the same door");
    wait_until("the next too", || diary.lines().len() == 4).await;

    let node = directory.snapshot(Some("node/taker"), 0, None, Page::default()).expect("node");
    assert_eq!(node.restarts, 1);
    assert_eq!(node.last_restart.expect("noted").reason, "panicked: thirteen");
    assert_eq!(node.mailbox, Mailbox { depth: 0, high_water: 4 });
}
