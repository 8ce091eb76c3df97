//! A shard as an actor: reads its inbox through the journal, and hands out what was in it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use super::{
    handle::{Bell, Shards},
    messages::ShardMessage,
};
use crate::{
    actors::{
        journal::JournalHandle,
        queue::messages::{Arrival, QueueOp},
        runtime::Probe,
    },
    domain::ShardEpoch,
    store::{
        Op, OpResult,
        ops::{InboxOp, InboxTaken, LiveEntry},
    },
};

/// The most rows of the inbox that one op takes.
const INBOX_STEP: i64 = 500;

/// What a shard is started with; the same for each incarnation.
#[derive(Debug, Clone)]
pub struct ShardArgs {
    /// The shard and the epoch it is owned under.
    pub owner: ShardEpoch,
    /// Finds and starts queues.
    pub shards: Shards,
    /// What is written.
    pub journal: JournalHandle,
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
    tasks: JoinSet<()>,
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
        Ok(ShardState { args, bell, is_reading: false, is_woken: false, tasks: JoinSet::new() })
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
            ShardMessage::Taken(outcome) => {
                let _timing = probe.time("Taken");
                state.is_reading = false;
                while state.tasks.try_join_next().is_some() {}
                let is_more = match outcome {
                    Ok(OpResult::Inbox(taken)) => {
                        let is_more = taken.rows >= INBOX_STEP;
                        state.hand_out(taken);
                        is_more
                    }
                    Ok(OpResult::FenceLost(shard)) => {
                        state.args.shards.waker.fence_lost(shard);
                        false
                    }
                    Ok(_) => false,
                    Err(error) => {
                        // Upkeep's sweep wakes us again.
                        tracing::warn!(shard = state.args.owner.shard.0, %error, "inbox not read");
                        false
                    }
                };
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
        let (journal, myself) = (self.args.journal.clone(), myself.clone());
        let op = Op::Inbox(InboxOp { owner: self.args.owner, limit: INBOX_STEP });
        self.tasks.spawn(async move {
            let deadline = crate::actors::queue::handle::ASK_DEADLINE;
            let outcome = journal.ask(journal.idlest(), op, deadline).await;
            drop(myself.cast(ShardMessage::Taken(outcome)));
        });
    }

    fn hand_out(&self, taken: InboxTaken) {
        let mut by_queue: HashMap<String, Vec<(Arrival, LiveEntry)>> = HashMap::new();
        let born = taken.born.into_iter().map(|entry| (Arrival::Born, entry));
        let unblocked = taken.unblocked.into_iter().map(|entry| (Arrival::Unblocked, entry));
        for (arrival, entry) in born.chain(unblocked) {
            by_queue.entry(entry.queue.clone()).or_default().push((arrival, entry));
        }
        for (name, entries) in by_queue {
            // A queue that is loading, or starts now, reads these jobs with its load, and hears of them
            // again here: it must not count them twice.
            match self.args.shards.queue(&name) {
                Ok(queue) => {
                    if !queue.tell(QueueOp::Arrived(entries)) {
                        tracing::warn!(queue.name = name, "no room for arrivals: the queue loads anew");
                        if let Err(error) = self.args.shards.restart_queue(&queue) {
                            tracing::error!(queue.name = name, %error, "not restarted");
                        }
                    }
                }
                Err(error) => tracing::error!(queue.name = name, %error, "a queue was not started"),
            }
        }
    }
}
