//! A lane: one batch at a time, from the door to the store.

use std::sync::Arc;

use futures_util::FutureExt as _;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::{core::run_batch, handle::LaneHealth, messages::Entry};
use crate::{
    actors::runtime::{DRAIN_MAX, DoorReceiver, Probe},
    store::Store,
};

/// What a lane is told.
#[derive(Debug)]
pub enum LaneMessage {
    /// Ops wait at the door.
    Bell,
    /// The batch under way is answered.
    BatchDone,
}

/// What a lane is started with; the same for each incarnation.
#[derive(Debug, Clone)]
pub struct LaneArgs {
    /// Which lane this is.
    pub lane: u16,
    /// Where its batches go.
    pub store: Arc<dyn Store>,
    /// What waits.
    pub door: DoorReceiver<Entry>,
    /// Owns the batches under way, which outlive an incarnation: their ops are answered whatever happens.
    pub tasks: TaskTracker,
    /// One permit: held by the batch that is being written, whichever incarnation took it.
    pub turn: Arc<Semaphore>,
    /// Where it tells what it found out of the store.
    pub health: LaneHealth,
    /// Counts.
    pub probe: Arc<Probe>,
}

/// A journal lane.
#[derive(Debug)]
pub struct LaneActor;

/// The lane's memory: whether a batch is under way.
#[derive(Debug)]
pub struct LaneState {
    args: LaneArgs,
    is_busy: bool,
}

/// Tells the lane that the batch is over, also when its task panics.
struct Done(ActorRef<LaneMessage>);

impl Drop for Done {
    fn drop(&mut self) {
        // The incarnation that started the batch may be gone; the next one does not wait for it.
        drop(self.0.cast(LaneMessage::BatchDone));
    }
}

impl Actor for LaneActor {
    type Msg = LaneMessage;
    type State = LaneState;
    type Arguments = LaneArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let bell = myself.clone();
        args.door.attach(move || drop(bell.cast(LaneMessage::Bell)));
        Ok(LaneState { args, is_busy: false })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let probe = state.args.probe.clone();
        match message {
            LaneMessage::Bell if state.is_busy => probe.handled("Bell", 0),
            LaneMessage::Bell => state.take_batch(&myself, &probe),
            LaneMessage::BatchDone => {
                state.is_busy = false;
                state.take_batch(&myself, &probe);
            }
        }
        Ok(())
    }
}

impl LaneState {
    fn take_batch(&mut self, myself: &ActorRef<LaneMessage>, probe: &Probe) {
        let mut timing = probe.time("Batch");
        let mut entries = Vec::new();
        self.args.door.answer(DRAIN_MAX, &mut entries);
        timing.handled(entries.len() as u64);
        if entries.is_empty() {
            return;
        }
        self.is_busy = true;
        let (store, lane, done) = (self.args.store.clone(), self.args.lane, Done(myself.clone()));
        let health = self.args.health.clone();
        // A batch of the incarnation before may be under way: this one comes after it, and so do its barriers.
        // Asked for here and not in the task, so that batches are written in the order in which they were taken.
        let turn = tokio::task::unconstrained(self.args.turn.clone().acquire_owned());
        let mut turn = Box::pin(turn);
        let had = turn.as_mut().now_or_never();
        self.args.tasks.spawn(async move {
            let _done = done;
            let _turn = match had {
                Some(had) => had,
                None => turn.await,
            };
            run_batch(store, lane, health, entries).await;
        });
    }
}
