//! A shard as an actor: has its inbox read, one read at a time.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio_util::task::TaskTracker;

use super::{
    core::Reading,
    handle::{Bell, Shards},
    messages::ShardMessage,
};
use crate::{
    actors::{journal::JournalHandle, runtime::Probe},
    domain::ShardEpoch,
};

/// What a shard is started with; the same for each incarnation.
#[derive(Debug, Clone)]
pub struct ShardArgs {
    /// The shard and the epoch it is owned under.
    pub owner: ShardEpoch,
    /// Finds and starts queues.
    pub shards: Shards,
    /// What is written.
    pub journal: JournalHandle,
    /// Owns the reads under way, which outlive an incarnation: what was taken is handed out whatever happens.
    pub tasks: TaskTracker,
    /// Counts.
    pub probe: Arc<Probe>,
}

/// A shard.
#[derive(Debug)]
pub struct ShardActor;

/// A shard's memory: whether it is reading its inbox.
#[derive(Debug)]
pub struct ShardState {
    args: ShardArgs,
    bell: Arc<Bell>,
    is_reading: bool,
    is_woken: bool,
}

/// Tells the shard that a read is over, also when its task panics.
struct Told {
    shard: ActorRef<ShardMessage>,
    is_more: bool,
}

impl Drop for Told {
    fn drop(&mut self) {
        // The incarnation that asked may be gone; the next one has read for itself.
        drop(self.shard.cast(ShardMessage::Taken { is_more: self.is_more }));
    }
}

impl Actor for ShardActor {
    type Msg = ShardMessage;
    type State = ShardState;
    type Arguments = ShardArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let bell = Arc::new(Bell { rung: AtomicBool::new(false), actor: myself.clone() });
        args.shards.waker.register(args.owner.shard, bell.clone());
        Ok(ShardState { args, bell, is_reading: false, is_woken: false })
    }

    async fn post_start(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // Queues are started again with the shard; those that run already change nothing.
        for queue in state.args.shards.queues.all() {
            if queue.shard() == state.args.owner.shard
                && let Err(error) = state.args.shards.start(&queue)
            {
                tracing::warn!(queue.name = %queue.name(), %error, "a queue was not started with its shard");
            }
        }
        state.read(&myself);
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let probe = state.args.probe.clone();
        match message {
            ShardMessage::Wake => {
                let _timing = probe.time("Wake");
                state.bell.rung.swap(false, Ordering::SeqCst);
                if state.is_reading {
                    state.is_woken = true;
                } else {
                    state.read(&myself);
                }
            }
            ShardMessage::Taken { is_more } => {
                let _timing = probe.time("Taken");
                state.is_reading = false;
                if is_more || std::mem::take(&mut state.is_woken) {
                    state.read(&myself);
                }
            }
        }
        Ok(())
    }
}

impl ShardState {
    fn read(&mut self, myself: &ActorRef<ShardMessage>) {
        self.is_reading = true;
        let reading = Reading {
            owner: self.args.owner,
            shards: self.args.shards.clone(),
            journal: self.args.journal.clone(),
            tasks: self.args.tasks.clone(),
        };
        let told = Told { shard: myself.clone(), is_more: false };
        self.args.tasks.spawn(async move {
            // All of it, and not its field alone, which is all that the block would take.
            let mut told = told;
            told.is_more = reading.run().await;
        });
    }
}
