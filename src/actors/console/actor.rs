//! The hub as an actor: from the door to the ring.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::{handle::HubHandle, messages::StreamEvent};
use crate::actors::runtime::{DRAIN_MAX, DoorReceiver, Probe};

/// What the hub is told.
#[derive(Debug)]
pub enum HubMessage {
    /// Events wait at the door.
    Bell,
}

/// What the hub is started with; the same for each incarnation.
#[derive(Debug, Clone)]
pub struct HubArgs {
    /// What readers share with it.
    pub handle: HubHandle,
    /// What waits.
    pub door: DoorReceiver<Vec<StreamEvent>>,
    /// Counts.
    pub probe: Arc<Probe>,
}

/// The console hub.
#[derive(Debug)]
pub struct HubActor;

impl Actor for HubActor {
    type Msg = HubMessage;
    type State = HubArgs;
    type Arguments = HubArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        args.door.attach(move || drop(myself.cast(HubMessage::Bell)));
        Ok(args)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            HubMessage::Bell => {
                let mut timing = state.probe.time("Bell");
                let mut batches = Vec::new();
                timing.handled(state.door.answer(DRAIN_MAX, &mut batches).taken as u64);
                let newest = state.handle.shared.ring.append(batches.into_iter().flatten());
                // Readers wake by the number; nobody listening is no error.
                state.handle.shared.newest.send_replace(newest);
            }
        }
        Ok(())
    }
}
