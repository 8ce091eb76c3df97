//! The supervisor as an actor, and the handle others hold: dispatch only, decisions are in `family`.
//!
//! Its children's starts are awaited in its handlers, each within a deadline, because order is what a supervisor is
//! for; their stops are not, except where a sibling's start waits for them. A start that hangs delays what the
//! supervisor does about other children by its deadline, never what those children do.

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::sync::oneshot;
use tracing::error;

use super::directory::{Directory, Slot};
use super::exit::exit_of;
use super::family::{Escalated, Family};
use super::node::Status;
use super::probe::{LastRestart, Probe};
use super::spec::{ChildSpec, StartContext, SupervisorSpec};
use super::tracked::spawn_tracked;

/// A supervisor answers after what is before the request in its mailbox: a start or two at their deadline.
const ANSWER_MARGIN: Duration = Duration::from_secs(10);

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

/// One child as its supervisor's handle shows it.
#[derive(Debug, Clone)]
pub struct ChildInfo {
    /// Its name among its siblings.
    pub name: String,
    /// What sort of actor it is.
    pub kind: &'static str,
    /// How it is doing.
    pub status: Status,
    /// How often it was started again.
    pub restarts: u32,
    /// Its present incarnation.
    pub cell: Option<ActorCell>,
}

/// Speaks to a supervisor, whichever incarnation runs at the moment.
#[derive(Debug, Clone)]
pub struct SupervisorHandle {
    slot: Arc<Slot>,
}

impl SupervisorHandle {
    pub(super) fn new(slot: Arc<Slot>) -> Self {
        Self { slot }
    }

    /// Starts the tree's root with its children; it has no supervisor, so its failure is the tree's end.
    ///
    /// # Errors
    /// A child did not start; those that had are stopped again, in reverse order.
    pub async fn start_root(spec: SupervisorSpec, directory: &Arc<Directory>) -> Result<Self, SpawnErr> {
        let slot = directory.reserve_root(Probe::new(spec.kind, spec.name.as_str()));
        let args = SupervisorArgs { spec, slot: Arc::clone(&slot), directory: Arc::clone(directory) };
        spawn_tracked(directory, &slot, None, Supervisor, args).await?;
        Ok(Self::new(slot))
    }

    /// The present incarnation.
    pub fn cell(&self) -> Option<ActorCell> {
        self.slot.cell()
    }

    /// What the directory calls it.
    pub fn path(&self) -> String {
        self.slot.path()
    }

    /// Adds a child, and waits until it has started. A child that fails to start is not kept, unless it is of those
    /// that are quarantined: that one stays and is tried again.
    ///
    /// # Errors
    /// See [`SupervisorError`]; after `TimedOut` the child may be there.
    pub async fn start_child(&self, spec: ChildSpec) -> Result<ActorCell, SupervisorError> {
        let patience = spec.start_deadline + ANSWER_MARGIN;
        let (reply, answer) = oneshot::channel();
        self.tell(SupervisorMessage::Start { spec: Box::new(spec), reply: Some(reply) })?;
        answer_of(answer, patience).await?
    }

    /// Adds a child without waiting; if its start fails it is started again like one that failed later. A child whose
    /// name is there already changes nothing.
    ///
    /// # Errors
    /// The supervisor is not running.
    pub fn start_child_nowait(&self, spec: ChildSpec) -> Result<(), SupervisorError> {
        self.tell(SupervisorMessage::Start { spec: Box::new(spec), reply: None })
    }

    /// Stops a child for good, within its own deadline and then by force, and waits for its end.
    ///
    /// # Errors
    /// See [`SupervisorError`]; after `TimedOut` it may be stopping still.
    pub async fn stop_child(&self, name: &str) -> Result<(), SupervisorError> {
        let (reply, answer) = oneshot::channel();
        self.tell(SupervisorMessage::Stop { name: name.to_owned(), reply })?;
        // Its own deadline is the child's; this one covers an actor that cannot even be killed.
        answer_of(answer, Duration::from_secs(60)).await?
    }

    /// Asks for a fresh incarnation of a child, as an operator does; returns when asked, not when done.
    ///
    /// # Errors
    /// The supervisor or the child is not there.
    pub fn restart_child(&self, name: &str) -> Result<(), SupervisorError> {
        self.slot.child(name).ok_or(SupervisorError::NotFound)?;
        self.tell(SupervisorMessage::Restart { name: name.to_owned() })
    }

    /// The children, leaves among them, in the order in which they were first started.
    pub fn children(&self) -> Vec<ChildInfo> {
        let slots = self.slot.children_after(None, usize::MAX);
        let info = |slot: &Arc<Slot>| ChildInfo {
            name: slot.probe.name().to_owned(),
            kind: slot.probe.kind(),
            status: slot.status(),
            restarts: slot.probe.restarts(),
            cell: slot.cell(),
        };
        slots.iter().map(info).collect()
    }

    /// A child that is itself a supervisor.
    pub fn supervisor(&self, name: &str) -> Option<Self> {
        let slot = self.slot.child(name)?;
        let is_supervisor = slot.cell()?.is_message_type_of::<SupervisorMessage>() == Some(true);
        is_supervisor.then(|| Self::new(slot))
    }

    /// Stops it and all below it in good order, and waits for the end. Only for the root: another is started again
    /// by its supervisor.
    pub async fn shutdown(&self, reason: &str) {
        if let Some(cell) = self.cell() {
            cell.stop(Some(reason.to_owned()));
            // Without a limit of its own the wait cannot fail; children's deadlines bound it.
            let _cannot_time_out = cell.wait(None).await;
        }
    }

    /// Waits until this incarnation has ended; why, if it failed.
    pub async fn ended(&self) -> Option<LastRestart> {
        if let Some(cell) = self.cell() {
            let _cannot_time_out = cell.wait(None).await;
        }
        self.slot.probe.last_restart()
    }

    fn tell(&self, message: SupervisorMessage) -> Result<(), SupervisorError> {
        let cell = self.cell().ok_or(SupervisorError::NotRunning)?;
        cell.send_message(message).map_err(|_| SupervisorError::NotRunning)
    }
}

async fn answer_of<T>(answer: oneshot::Receiver<T>, patience: Duration) -> Result<T, SupervisorError> {
    match tokio::time::timeout(patience, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(SupervisorError::NotRunning),
        Err(_) => Err(SupervisorError::TimedOut),
    }
}
