//! Upkeep as an actor: one round a second, never two at once.

use std::{sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::{AbortHandle, JoinSet};

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
    sweep: Option<AbortHandle>,
    expiry: Option<AbortHandle>,
    maintenance: Option<AbortHandle>,
}

/// Tells upkeep that the round is over, also when its task panics.
struct Done(ActorRef<UpkeepMessage>);

impl Drop for Done {
    fn drop(&mut self) {
        drop(self.0.cast(UpkeepMessage::RoundDone));
    }
}

impl UpkeepState {
    /// Sees to it that what goes on beside the rounds does: a sweep that panicked is started again.
    fn beside(&mut self, number: u64) {
        let is_over = |task: &Option<AbortHandle>| task.as_ref().is_none_or(AbortHandle::is_finished);
        if is_over(&self.sweep) {
            self.sweep = Some(self.tasks.spawn(self.args.round.clone().sweep()));
        }
        if is_over(&self.expiry) {
            self.expiry = Some(self.tasks.spawn(self.args.round.clone().expire()));
        }
        if Round::is_maintained(number) && is_over(&self.maintenance) {
            self.maintenance = Some(self.tasks.spawn(self.args.round.clone().maintain()));
        }
    }
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
        drop(myself.cast(UpkeepMessage::Tick));
        Ok(UpkeepState {
            args,
            rounds: 0,
            tasks: JoinSet::new(),
            sweep: None,
            expiry: None,
            maintenance: None,
        })
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
                state.beside(number);
                let done = Done(myself);
                state.tasks.spawn(async move {
                    let _done = done;
                    round.run(number).await;
                });
            }
            UpkeepMessage::RoundDone => {
                let _timing = probe.time("RoundDone");
                while let Some(ended) = state.tasks.try_join_next() {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a task of the upkeep did not end well");
                    }
                }
                drop(myself.send_after(TICK, || UpkeepMessage::Tick));
            }
        }
        Ok(())
    }
}
