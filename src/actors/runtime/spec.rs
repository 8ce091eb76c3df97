//! What a supervisor is told: its children in order, how to build each, and what to do when one fails.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};

use super::directory::{Directory, Slot};
use super::exit::Exit;
use super::handle::SupervisorHandle;
use super::probe::Probe;
use super::restarts::{Backoff, Intensity};
use super::supervisor::Supervisor;
use super::tracked::spawn_tracked;

/// A `pre_start` is quick by rule; one that is not is a failure, because its supervisor waits for it.
pub const START_DEADLINE: Duration = Duration::from_secs(5);
/// How long a child may take to stop in good order unless its spec says otherwise; then it is killed.
pub const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);
/// How long a quarantined child is left alone: what keeps it from loading takes a person, or the store's return.
pub const QUARANTINE_BACKOFF: Backoff = Backoff { min: Duration::from_secs(5), max: Duration::from_secs(60) };

/// Who is restarted with a child that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// The child alone.
    #[default]
    OneForOne,
    /// The child and those started after it: they stand on it.
    RestForOne,
}

/// In which order children are stopped with their supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShutdownOrder {
    /// One after the other, the last started first.
    #[default]
    Reverse,
    /// All at once: for many children that do not need one another.
    Together,
}

/// Which ends of a child are followed by a new start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// Every end.
    #[default]
    Permanent,
    /// A failure; a child that stops normally leaves the tree.
    Transient,
    /// None; the child leaves the tree.
    Temporary,
}

/// Called with the reason when a child is given up.
pub type GiveUpHook = Arc<dyn Fn(&str) + Send + Sync>;

/// What follows when a child fails too often.
#[derive(Clone, Default)]
pub enum GiveUp {
    /// The supervisor stops its children and fails itself: its own supervisor decides.
    #[default]
    Escalate,
    /// The child alone is left down, shown as quarantined, and tried again now and then; its failures do not count
    /// for its siblings. Children that stand on it (rest_for_one) run meanwhile.
    Quarantine {
        /// The waits between tries.
        backoff: Backoff,
        /// Told once for each time the child is given up.
        notify: Option<GiveUpHook>,
    },
}

impl GiveUp {
    /// Quarantine with the usual waits.
    pub fn quarantine(notify: Option<GiveUpHook>) -> Self {
        Self::Quarantine { backoff: QUARANTINE_BACKOFF, notify }
    }
}

impl fmt::Debug for GiveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Escalate => f.write_str("Escalate"),
            Self::Quarantine { backoff, .. } => f.debug_tuple("Quarantine").field(backoff).finish(),
        }
    }
}

/// Builds one incarnation of a child. It is called anew for each, so it holds what outlives them: doors, handles.
pub type StartChild =
    Arc<dyn Fn(StartContext) -> BoxFuture<'static, Result<ActorCell, ActorProcessingErr>> + Send + Sync>;

/// What an incarnation is started with.
#[derive(Debug, Clone)]
pub struct StartContext {
    /// The supervisor to link to; [`spawn`](Self::spawn) does.
    pub supervisor: ActorCell,
    /// Where the node's actors are found.
    pub directory: Arc<Directory>,
    /// The child's probe: the same one for all incarnations.
    pub probe: Arc<Probe>,
    /// 1 for the first.
    pub incarnation: u64,
    /// How the one before ended, if it failed.
    pub last_failure: Option<String>,
    pub(super) slot: Arc<Slot>,
}

impl StartContext {
    /// Spawns the actor linked and registered, and waits for its `pre_start`. An actor that is spawned otherwise
    /// works too, but its panics are reported without `panicked:`, and it must not have children.
    ///
    /// # Errors
    /// Its `pre_start` failed, or the supervisor is ending.
    pub async fn spawn<A: Actor>(
        &self,
        actor: A,
        arguments: A::Arguments,
    ) -> Result<ActorRef<A::Msg>, SpawnErr> {
        spawn_tracked(&self.directory, &self.slot, Some(self.supervisor.clone()), actor, arguments).await
    }

    /// Starts a supervisor as this child, and waits for its own first children.
    ///
    /// # Errors
    /// A child of it did not start, or the supervisor above is ending.
    pub async fn supervise(&self, spec: SupervisorSpec) -> Result<SupervisorHandle, SpawnErr> {
        Supervisor::start(self, spec).await
    }
}

/// One child of a supervisor.
#[derive(Clone)]
pub struct ChildSpec {
    /// Its name, unique among its siblings.
    pub name: String,
    /// What sort of actor it is.
    pub kind: &'static str,
    /// Which ends are followed by a new start.
    pub restart: Restart,
    /// How long it may take to stop before it is killed.
    pub shutdown: Duration,
    /// How long it may take to start before that counts as a failure.
    pub start_deadline: Duration,
    /// What follows when it fails too often.
    pub on_give_up: GiveUp,
    /// Builds an incarnation.
    pub start: StartChild,
}

impl ChildSpec {
    /// A permanent child with the usual deadlines, whose repeated failure escalates.
    pub fn new<F, Fut>(name: impl Into<String>, kind: &'static str, start: F) -> Self
    where
        F: Fn(StartContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<ActorCell, ActorProcessingErr>> + Send + 'static,
    {
        Self {
            name: name.into(),
            kind,
            restart: Restart::Permanent,
            shutdown: SHUTDOWN_DEADLINE,
            start_deadline: START_DEADLINE,
            on_give_up: GiveUp::Escalate,
            start: Arc::new(move |context| Box::pin(start(context))),
        }
    }

    /// With another restart policy.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// With another time to stop in.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Duration) -> Self {
        self.shutdown = shutdown;
        self
    }

    /// With another end to repeated failure.
    #[must_use]
    pub fn on_give_up(mut self, on_give_up: GiveUp) -> Self {
        self.on_give_up = on_give_up;
        self
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("restart", &self.restart)
            .finish_non_exhaustive()
    }
}

/// Called when a leaf under a supervisor has ended; must be quick, it runs in the supervisor.
pub type LeafExitHook = Arc<dyn Fn(&ActorCell, &Exit) + Send + Sync>;

/// A supervisor and the children it starts with, in order.
#[derive(Clone)]
pub struct SupervisorSpec {
    /// Its name among its own siblings.
    pub name: String,
    /// What sort of supervisor it is.
    pub kind: &'static str,
    /// Who is restarted with a child that failed.
    pub strategy: Strategy,
    /// How many restarts are borne, of all escalating children together, of each quarantined one by itself.
    pub intensity: Intensity,
    /// How long to wait between restarts.
    pub backoff: Backoff,
    /// In which order children are stopped.
    pub shutdown_order: ShutdownOrder,
    /// Children that are there from the start. Children added later are not started again with the supervisor.
    pub children: Vec<ChildSpec>,
    /// Told of the end of each leaf.
    pub on_leaf_exit: Option<LeafExitHook>,
}

impl SupervisorSpec {
    /// A one_for_one supervisor without children.
    pub fn new(name: impl Into<String>, kind: &'static str) -> Self {
        Self {
            name: name.into(),
            kind,
            strategy: Strategy::default(),
            intensity: Intensity::default(),
            backoff: Backoff::default(),
            shutdown_order: ShutdownOrder::default(),
            children: Vec::new(),
            on_leaf_exit: None,
        }
    }

    /// With one more child, started after the others.
    #[must_use]
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(child);
        self
    }

    /// With another strategy.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// With other bounds to restarts.
    #[must_use]
    pub fn intensity(mut self, max_restarts: u32, window: Duration) -> Self {
        self.intensity = Intensity { max_restarts, window };
        self
    }

    /// This supervisor as another one's child. It may take as long to start and stop as its children together;
    /// for children that are added later, set `shutdown`.
    pub fn into_child(self) -> ChildSpec {
        let (mut start_deadline, mut shutdown) = (START_DEADLINE, SHUTDOWN_DEADLINE);
        for child in &self.children {
            start_deadline += child.start_deadline;
            shutdown += child.shutdown;
        }
        let (name, kind) = (self.name.clone(), self.kind);
        let child = ChildSpec::new(name, kind, move |context| {
            let spec = self.clone();
            async move { context.supervise(spec).await?.cell().ok_or_else(|| "supervisor ended at once".into()) }
        });
        ChildSpec { start_deadline, shutdown, ..child }
    }
}

impl fmt::Debug for SupervisorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorSpec")
            .field("name", &self.name)
            .field("strategy", &self.strategy)
            .field("intensity", &self.intensity)
            .field("children", &self.children)
            .finish_non_exhaustive()
    }
}
