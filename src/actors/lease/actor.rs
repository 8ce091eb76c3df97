//! A lease's actor: hands its job over when it starts, and passes controls on.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::{handle::LeaseArgs, messages::LeaseMessage, state::LeaseFacts};
use crate::actors::{runtime::Probe, worker::messages::SessionOp};

/// The actor of one active job.
#[derive(Debug)]
pub struct LeaseActor;

/// What the actor keeps.
#[derive(Debug)]
pub struct LeaseState {
    door: crate::actors::runtime::Door<SessionOp>,
    facts: Arc<LeaseFacts>,
    probe: Arc<Probe>,
}

impl Actor for LeaseActor {
    type Msg = LeaseMessage;
    type State = LeaseState;
    type Arguments = (LeaseArgs, Arc<Probe>);

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        (args, probe): Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        crate::crash_point::pass("lease", "start")?;
        if let Some(granted) = args.hand_over {
            let assign = SessionOp::Assign { session: args.facts.session, granted };
            // A session keeps room for every credit it lends. One that is gone has told the queue so.
            if args.door.try_send(assign).is_err() {
                tracing::warn!(job.id = %args.facts.job, "no room at the session's door for a leased job");
            }
        }
        Ok(LeaseState { door: args.door, facts: args.facts, probe })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LeaseMessage::Cancel => {
                let _timing = state.probe.time("Cancel");
                let cancel = SessionOp::Cancel { job: state.facts.job, fence: state.facts.fence };
                // Delivered is what its session says. Without room the control waits for the lease's end.
                if state.door.try_send(cancel).is_err() {
                    tracing::warn!(job.id = %state.facts.job, "no room at the session's door for a cancel");
                }
            }
        }
        Ok(())
    }
}
