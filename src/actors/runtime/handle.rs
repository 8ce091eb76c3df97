//! How others speak to a supervisor, whichever incarnation of it runs.

use std::sync::Arc;
use std::time::Duration;

use ractor::{ActorCell, SpawnErr};
use tokio::sync::oneshot;

use super::directory::{Directory, Slot};
use super::node::Status;
use super::probe::{LastRestart, Probe};
use super::spec::{ChildSpec, SupervisorSpec};
use super::supervisor::{Supervisor, SupervisorArgs, SupervisorError, SupervisorMessage};
use super::tracked::spawn_tracked;

/// A supervisor answers after what is before the request in its mailbox: a start or two at their deadline.
const ANSWER_MARGIN: Duration = Duration::from_secs(10);

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
