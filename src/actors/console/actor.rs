//! The hub as an actor: from the door to the ring.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;

use super::{handle::HubHandle, messages::StreamEvent};
use crate::actors::runtime::{DRAIN_MAX, DoorReceiver, Probe};

/// What the hub is told.
#[derive(Debug)]
pub enum HubMessage {
    /// Events wait at the door.
    Bell,
    /// Private: readers have slept long enough.
    Wake,
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

/// The hub's memory: when readers were woken last, and whether they will be.
#[derive(Debug)]
pub struct HubState {
    args: HubArgs,
    woken_at: Option<Instant>,
    is_wake_due: bool,
}

impl HubState {
    fn wake(&mut self) {
        self.woken_at = Some(Instant::now());
        self.is_wake_due = false;
        // Readers wake by the number; nobody listening is no error.
        let shared = &self.args.handle.shared;
        shared.newest.send_replace(shared.ring.newest());
    }

    /// Wakes readers now, or when they have slept a while: many events are one wake-up.
    fn wake_soon(&mut self, myself: &ActorRef<HubMessage>) {
        let pause = self.args.handle.wake_pause();
        let slept = self.woken_at.map_or(pause, |at| at.elapsed());
        if slept >= pause {
            self.wake();
        } else if !self.is_wake_due {
            self.is_wake_due = true;
            drop(myself.send_after(pause.saturating_sub(slept), || HubMessage::Wake));
        }
    }
}

/// The console hub.
#[derive(Debug)]
pub struct HubActor;

impl Actor for HubActor {
    type Msg = HubMessage;
    type State = HubState;
    type Arguments = HubArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        args.door.attach(move || drop(myself.cast(HubMessage::Bell)));
        Ok(HubState { args, woken_at: None, is_wake_due: false })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let probe = state.args.probe.clone();
        match message {
            HubMessage::Bell => {
                let mut timing = probe.time("Bell");
                let mut batches = Vec::new();
                timing.handled(state.args.door.answer(DRAIN_MAX, &mut batches).taken as u64);
                state.args.handle.shared.ring.append(batches.into_iter().flatten());
                state.wake_soon(&myself);
            }
            HubMessage::Wake => {
                let _timing = probe.time("Wake");
                state.wake();
            }
        }
        Ok(())
    }
}
