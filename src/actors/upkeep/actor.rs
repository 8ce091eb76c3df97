//! Upkeep as an actor: one round a second, never two at once.

use std::{sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use super::{messages::UpkeepMessage, state::Round};
use crate::actors::runtime::Probe;

/// How often: the bound of every sweep that stands behind a wake-up.
const TICK: Duration = Duration::from_secs(1);

/// What upkeep is started with; the same for each incarnation.
#[derive(Debug, Clone)]
pub struct UpkeepArgs {
    /// What a round works with.
    pub round: Round,
    /// Counts.
    pub probe: Arc<Probe>,
}

/// Upkeep.
#[derive(Debug)]
pub struct UpkeepActor;

/// Upkeep's memory: which round it is, and its tasks.
#[derive(Debug)]
pub struct UpkeepState {
    args: UpkeepArgs,
    rounds: u64,
    tasks: JoinSet<()>,
}

impl Actor for UpkeepActor {
    type Msg = UpkeepMessage;
    type State = UpkeepState;
    type Arguments = UpkeepArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut tasks = JoinSet::new();
        // A sweep that somebody asks for does not wait for the next round.
        let round = args.round.clone();
        tasks.spawn(async move {
            loop {
                round.waker.sweep_wanted().await;
                if let Ok(shards) = round.store.inbox_shards().await {
                    round.waker.wake_all(&shards);
                }
            }
        });
        drop(myself.cast(UpkeepMessage::Tick));
        Ok(UpkeepState { args, rounds: 0, tasks })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let probe = state.args.probe.clone();
        match message {
            UpkeepMessage::Tick => {
                let _timing = probe.time("Tick");
                let (round, number) = (state.args.round.clone(), state.rounds);
                state.rounds += 1;
                state.tasks.spawn(async move {
                    round.run(number).await;
                    drop(myself.cast(UpkeepMessage::RoundDone));
                });
            }
            UpkeepMessage::RoundDone => {
                let _timing = probe.time("RoundDone");
                while state.tasks.try_join_next().is_some() {}
                drop(myself.send_after(TICK, || UpkeepMessage::Tick));
            }
        }
        Ok(())
    }
}
