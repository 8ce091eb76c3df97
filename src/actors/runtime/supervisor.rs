//! The supervisor as an actor: dispatch only, decisions are in `family`.
//!
//! Its children's starts are awaited in its handlers, each within a deadline, because order is what a supervisor is
//! for; their stops are not, except where a sibling's start waits for them. A start that hangs delays what the
//! supervisor does about other children by its deadline, never what those children do.

use std::sync::Arc;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::sync::oneshot;
use tracing::error;

use super::child::Escalated;
use super::directory::{Directory, Slot};
use super::exit::exit_of;
use super::family::Family;
use super::handle::SupervisorHandle;
use super::probe::Probe;
use super::spec::{ChildSpec, StartContext, SupervisorSpec};

/// Why a child was not started or stopped.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SupervisorError {
    /// A child of that name is there; it may be down at the moment.
    #[error("a child of that name is there already")]
    Exists(Option<ActorCell>),
    /// The child's start failed. It is tried again only if it would be quarantined rather than escalated.
    #[error("child did not start: {0}")]
    StartFailed(String),
    /// No child has that name.
    #[error("no child has that name")]
    NotFound,
    /// The supervisor is down: being restarted, or ended.
    #[error("supervisor is not running")]
    NotRunning,
    /// No answer in time: whether it was done is not known.
    #[error("supervisor did not answer in time")]
    TimedOut,
}

/// Where the outcome of a start goes.
pub(super) type StartReply = oneshot::Sender<Result<ActorCell, SupervisorError>>;

/// What a supervisor is asked, and asks itself.
#[derive(Debug)]
pub(super) enum SupervisorMessage {
    /// Add a child; without a reply a failed start is treated like any failure of the child.
    Start { spec: Box<ChildSpec>, reply: Option<StartReply> },
    /// Stop a child for good.
    Stop { name: String, reply: oneshot::Sender<Result<(), SupervisorError>> },
    /// An operator wants a fresh incarnation.
    Restart { name: String },
    /// Private: the pause after a failure is over.
    RetryTick { order: u64, incarnation: u64 },
    /// Private: a child that was told to stop had its time.
    OverdueTick { order: u64, actor: ActorId },
}

/// What a supervisor is started with.
#[derive(Debug)]
pub(super) struct SupervisorArgs {
    pub(super) spec: SupervisorSpec,
    pub(super) slot: Arc<Slot>,
    pub(super) directory: Arc<Directory>,
}

#[derive(Debug)]
pub(super) struct Supervisor;

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = Family;
    type Arguments = SupervisorArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(Family::raise(myself, args).await?)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        family: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let probe = family.probe();
        let done = match message {
            SupervisorMessage::Start { spec, reply } => {
                let _timing = probe.time("Start");
                family.add(*spec, reply).await
            }
            SupervisorMessage::Stop { name, reply } => {
                let _timing = probe.time("Stop");
                family.stop_child(&name, reply);
                Ok(())
            }
            SupervisorMessage::Restart { name } => {
                let _timing = probe.time("Restart");
                family.restart_child(&name).await
            }
            SupervisorMessage::RetryTick { order, incarnation } => {
                let _timing = probe.time("RetryTick");
                family.retry(order, incarnation).await
            }
            SupervisorMessage::OverdueTick { order, actor } => {
                let _timing = probe.time("OverdueTick");
                family.kill_overdue(order, actor);
                Ok(())
            }
        };
        settle(&probe, done)
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        family: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let Some((cell, exit)) = exit_of(event) else { return Ok(()) };
        let probe = family.probe();
        let _timing = probe.time("ChildExited");
        let done = family.exited(&cell, exit).await;
        settle(&probe, done)
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        family: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        family.stop_all("supervisor stops").await;
        Ok(())
    }
}

fn settle(probe: &Probe, done: Result<(), Escalated>) -> Result<(), ActorProcessingErr> {
    done.map_err(|escalated| {
        let reason = escalated.to_string();
        error!(supervisor = probe.name(), reason, "supervisor gives up");
        // The root has nobody who would note it.
        probe.note_end(&reason);
        escalated.into()
    })
}

impl Supervisor {
    /// Starts a supervisor, and its first children, as the child that `context` is for.
    pub(super) async fn start(
        context: &StartContext,
        spec: SupervisorSpec,
    ) -> Result<SupervisorHandle, SpawnErr> {
        let slot = Arc::clone(&context.slot);
        let args =
            SupervisorArgs { spec, slot: Arc::clone(&slot), directory: Arc::clone(&context.directory) };
        context.spawn(Self, args).await?;
        Ok(SupervisorHandle::new(slot))
    }
}
