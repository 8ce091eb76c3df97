//! Where every actor of one node is found: a tree of places, each held by one incarnation after another.
//!
//! A place (`Slot`) keeps the probe, and with it the restart counts; the actor in it comes and goes. ractor's own registry is
//! global to the process and knows names only; this one belongs to a node, so two nodes can live in one process.
//!
//! Places are inserted and removed in O(log n) of their siblings and keep the order in which they were made, which
//! is what pages are cut by. No lock is held while another place's is taken.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use dashmap::DashMap;
use ractor::{ActorCell, ActorId, ActorStatus};

use super::handle::SupervisorHandle;
use super::node::Status;
use super::path;
use super::probe::{LastRestart, Probe};
use super::supervisor::SupervisorMessage;

/// The reason an actor is stopped with when an operator asks for a fresh one.
pub const OPERATOR_RESTART: &str = "operator restart";

/// Why a place in the tree could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// A live sibling has that name.
    #[error("an actor of that name runs already")]
    Taken(Option<ActorCell>),
    /// The parent is not registered, or has ended since.
    #[error("the supervisor has ended")]
    ParentGone,
}

/// Why an operator's restart or kill was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OperatorError {
    /// Nothing has that path.
    #[error("no actor has that path")]
    NotFound,
    /// The actor is down already, or its supervisor is.
    #[error("the actor or its supervisor is not running")]
    NotRunning,
    /// The root has nobody above it that would start it again.
    #[error("the root is restarted with the process")]
    Root,
}

/// What a place holds now.
#[derive(Debug, Clone)]
pub(super) enum Occupant {
    /// Nobody yet, or an incarnation that is being replaced.
    Awaited(Status),
    /// An actor, alive or just ended.
    Actor(ActorCell),
}

#[derive(Debug, Default)]
pub(super) struct Children {
    /// The incarnation these are the children of: a late child of an earlier one is refused.
    owner: Option<ActorId>,
    by_sequence: BTreeMap<u64, Arc<Slot>>,
    by_name: HashMap<Box<str>, u64>,
}

/// A place in the tree.
pub(super) struct Slot {
    pub(super) sequence: u64,
    pub(super) probe: Arc<Probe>,
    parent: Weak<Slot>,
    occupant: Mutex<Occupant>,
    /// Of the latest incarnation; 0 before the first.
    last_pid: AtomicU64,
    children: Mutex<Children>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    pub(super) fn cell(&self) -> Option<ActorCell> {
        match &*lock(&self.occupant) {
            Occupant::Actor(cell) => Some(cell.clone()),
            Occupant::Awaited(_) => None,
        }
    }

    pub(super) fn status(&self) -> Status {
        match &*lock(&self.occupant) {
            Occupant::Actor(cell) => Status::from(cell.get_status()),
            Occupant::Awaited(status) => *status,
        }
    }

    /// The id of the actor; while the place is empty, of the one it had last.
    pub(super) fn id(&self) -> String {
        ActorId::Local(self.last_pid.load(Ordering::Relaxed)).to_string()
    }

    pub(super) fn set_awaited(&self, status: Status) {
        *lock(&self.occupant) = Occupant::Awaited(status);
    }

    pub(super) fn parent(&self) -> Option<Arc<Self>> {
        self.parent.upgrade()
    }

    pub(super) fn child(&self, name: &str) -> Option<Arc<Self>> {
        let children = lock(&self.children);
        children.by_sequence.get(children.by_name.get(name)?).cloned()
    }

    pub(super) fn child_count(&self) -> usize {
        lock(&self.children).by_sequence.len()
    }

    /// Up to `limit` children made after the one numbered `after`, oldest first.
    pub(super) fn children_after(&self, after: Option<u64>, limit: usize) -> Vec<Arc<Self>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let children = lock(&self.children);
        children
            .by_sequence
            .range((from, Bound::Unbounded))
            .take(limit)
            .map(|(_, slot)| slot.clone())
            .collect()
    }

    fn is_over(&self) -> bool {
        match &*lock(&self.occupant) {
            Occupant::Actor(cell) => cell.get_status() >= ActorStatus::Stopping,
            Occupant::Awaited(_) => false,
        }
    }

    /// The names from the root down to here, escaped and joined.
    pub(super) fn path(&self) -> String {
        let own = path::escape(self.probe.name());
        match self.parent() {
            Some(parent) => path::join(&parent.path(), &own),
            None => own.into_owned(),
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("probe", &self.probe)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// All actors of one node, as a tree; one per node system, shared.
#[derive(Debug, Default)]
pub struct Directory {
    root: Mutex<Option<Arc<Slot>>>,
    by_actor: DashMap<ActorId, Arc<Slot>>,
    sequence: AtomicU64,
    /// Places that were quarantined; those that are no longer are dropped when somebody looks.
    quarantined: Mutex<BTreeMap<u64, Weak<Slot>>>,
    restarts: RestartWatcher,
}

/// Told of each actor that is started again, at once: it must be quick.
type OnRestart = Box<dyn Fn(&str, Option<LastRestart>) + Send + Sync>;

#[derive(Default)]
struct RestartWatcher(std::sync::OnceLock<OnRestart>);

impl fmt::Debug for RestartWatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RestartWatcher").field(&self.0.get().is_some()).finish()
    }
}

/// An actor that is left down, for those who ask whether all is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Where it stands in the tree.
    pub path: String,
    /// What sort of actor it is.
    pub kind: &'static str,
    /// Its name among its siblings.
    pub name: String,
    /// When and why it failed last.
    pub last: Option<LastRestart>,
}

impl Directory {
    /// A directory without actors.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// How many actors hold a place.
    pub fn len(&self) -> usize {
        self.by_actor.len()
    }

    /// Whether no actor holds a place.
    pub fn is_empty(&self) -> bool {
        self.by_actor.is_empty()
    }

    /// The actor at `path`; `None` if there is none, or it is down at the moment.
    pub fn find(&self, path: &str) -> Option<ActorCell> {
        self.slot_at(path)?.cell()
    }

    /// The probe at `path`, also while its actor is down.
    pub fn probe(&self, path: &str) -> Option<Arc<Probe>> {
        Some(Arc::clone(&self.slot_at(path)?.probe))
    }

    /// Where a running actor stands in the tree.
    pub fn path_of(&self, actor: ActorId) -> Option<String> {
        Some(self.slot_of(actor)?.path())
    }

    /// The supervisor at `path`; it stays valid over that supervisor's restarts. `None` also for another actor.
    pub fn supervisor(&self, path: &str) -> Option<SupervisorHandle> {
        let slot = self.slot_at(path)?;
        let is_supervisor = slot.cell()?.is_message_type_of::<SupervisorMessage>() == Some(true);
        is_supervisor.then(|| SupervisorHandle::new(slot))
    }

    /// The supervisor that runs as `cell`; it stays valid over that supervisor's restarts.
    pub fn supervisor_of(&self, cell: &ActorCell) -> Option<SupervisorHandle> {
        let slot = self.slot_of(cell.get_id())?;
        let is_supervisor = cell.is_message_type_of::<SupervisorMessage>() == Some(true);
        is_supervisor.then(|| SupervisorHandle::new(slot))
    }

    /// All actors that are quarantined now, found without walking the tree.
    pub fn quarantined(&self) -> Vec<Quarantined> {
        let down: Vec<Arc<Slot>> = {
            let mut places = lock(&self.quarantined);
            places
                .retain(|_, place| place.upgrade().is_some_and(|slot| slot.status() == Status::Quarantined));
            places.values().filter_map(Weak::upgrade).collect()
        };
        let shown = |slot: &Arc<Slot>| Quarantined {
            path: slot.path(),
            kind: slot.probe.kind(),
            name: slot.probe.name().to_owned(),
            last: slot.probe.last_restart(),
        };
        down.iter().map(shown).collect()
    }

    pub(super) fn quarantine(&self, slot: &Arc<Slot>) {
        slot.set_awaited(Status::Quarantined);
        lock(&self.quarantined).insert(slot.sequence, Arc::downgrade(slot));
    }

    /// Has `told` told the path of each actor that its supervisor starts again, and why. The first that asks is told.
    pub fn watch_restarts(&self, told: impl Fn(&str, Option<LastRestart>) + Send + Sync + 'static) {
        drop(self.restarts.0.set(Box::new(told)));
    }

    pub(super) fn restarted(&self, slot: &Slot) {
        if let Some(told) = self.restarts.0.get() {
            told(&slot.path(), slot.probe.last_restart());
        }
    }

    /// Ends the actor at `path` at once, in the middle of what it does; its supervisor sees a failure.
    ///
    /// # Errors
    /// No such path, or nobody runs there.
    pub fn kill(&self, path: &str) -> Result<(), OperatorError> {
        let slot = self.slot_at(path).ok_or(OperatorError::NotFound)?;
        slot.cell().ok_or(OperatorError::NotRunning)?.kill();
        Ok(())
    }

    /// Stops the actor at `path` in good order, and all below it, and has its supervisor start it afresh; not
    /// counted as a failure. One that is down (backing off, quarantined) is started at once. Returns when asked, not
    /// when done. A leaf is only stopped, with [`OPERATOR_RESTART`] as reason: who spawned it decides.
    ///
    /// # Errors
    /// No such path; its supervisor is down; or it is the root.
    pub fn restart(&self, path: &str) -> Result<(), OperatorError> {
        let slot = self.slot_at(path).ok_or(OperatorError::NotFound)?;
        let supervisor = slot.parent().ok_or(OperatorError::Root)?.cell().ok_or(OperatorError::NotRunning)?;
        if supervisor.is_message_type_of::<SupervisorMessage>() == Some(true) {
            let restart = SupervisorMessage::Restart { name: slot.probe.name().into() };
            supervisor.send_message(restart).map_err(|_| OperatorError::NotRunning)
        } else {
            slot.cell().ok_or(OperatorError::NotRunning)?.stop(Some(OPERATOR_RESTART.to_owned()));
            Ok(())
        }
    }

    pub(super) fn root(&self) -> Option<Arc<Slot>> {
        lock(&self.root).clone()
    }

    pub(super) fn slot_of(&self, actor: ActorId) -> Option<Arc<Slot>> {
        self.by_actor.get(&actor).map(|entry| Arc::clone(entry.value()))
    }

    pub(super) fn slot_at(&self, path: &str) -> Option<Arc<Slot>> {
        let mut names = path::names(path);
        let root = self.root()?;
        if names.next()? != root.probe.name() {
            return None;
        }
        names.try_fold(root, |slot, name| slot.child(&name))
    }

    fn new_slot(&self, probe: Arc<Probe>, parent: Weak<Slot>) -> Arc<Slot> {
        Arc::new(Slot {
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed) + 1,
            probe,
            parent,
            occupant: Mutex::new(Occupant::Awaited(Status::Starting)),
            last_pid: AtomicU64::new(0),
            children: Mutex::default(),
        })
    }

    /// The place above all others. A former root is forgotten: a directory has one tree.
    pub(super) fn reserve_root(&self, probe: Arc<Probe>) -> Arc<Slot> {
        let slot = self.new_slot(probe, Weak::new());
        let former = lock(&self.root).replace(Arc::clone(&slot));
        if let Some(former) = former {
            self.vacate(&former, Status::Stopped);
        }
        slot
    }

    /// A place under `parent`, which the incarnation `owner` must still hold.
    pub(super) fn reserve(
        &self,
        parent: &Arc<Slot>,
        owner: ActorId,
        probe: Arc<Probe>,
    ) -> Result<Arc<Slot>, ReserveError> {
        let name: Box<str> = probe.name().into();
        let slot = self.new_slot(probe, Arc::downgrade(parent));
        let mut children = lock(&parent.children);
        if children.owner != Some(owner) {
            return Err(ReserveError::ParentGone);
        }
        let namesake = children.by_name.get(&name).copied();
        if let Some(sequence) = namesake {
            // One that has ended may not have left yet: its place is given away, and it leaves by number.
            if let Some(sibling) = children.by_sequence.get(&sequence)
                && !sibling.is_over()
            {
                return Err(ReserveError::Taken(sibling.cell()));
            }
            children.by_sequence.remove(&sequence);
        }
        children.by_name.insert(name, slot.sequence);
        children.by_sequence.insert(slot.sequence, Arc::clone(&slot));
        Ok(slot)
    }

    /// Seats an incarnation. To be called before it starts children of its own. Seating it again changes nothing.
    pub(super) fn occupy(&self, slot: &Arc<Slot>, cell: &ActorCell) {
        let id = cell.get_id();
        *lock(&slot.occupant) = Occupant::Actor(cell.clone());
        slot.last_pid.store(id.pid(), Ordering::Relaxed);
        lock(&slot.children).owner = Some(id);
        slot.probe.note_start();
        self.by_actor.insert(id, Arc::clone(slot));
    }

    /// Empties a place and all below it; the place itself stays. Returns the actors that were below: ractor kills
    /// them with their supervisor, but does not wait for their end.
    pub(super) fn vacate(&self, slot: &Slot, status: Status) -> Vec<ActorCell> {
        let mut below = Vec::new();
        let (_, mut pending) = self.empty(slot, status);
        while let Some(child) = pending.pop() {
            let (cell, children) = self.empty(&child, Status::Stopped);
            below.extend(cell);
            pending.extend(children);
        }
        below
    }

    fn empty(&self, slot: &Slot, status: Status) -> (Option<ActorCell>, Vec<Arc<Slot>>) {
        let former = std::mem::replace(&mut *lock(&slot.occupant), Occupant::Awaited(status));
        let children = std::mem::take(&mut *lock(&slot.children));
        let children = children.by_sequence.into_values().collect();
        match former {
            Occupant::Actor(cell) => {
                self.by_actor.remove(&cell.get_id());
                (Some(cell), children)
            }
            Occupant::Awaited(_) => (None, children),
        }
    }

    /// Gives a place up, with all below it.
    pub(super) fn release(&self, slot: &Slot) {
        if let Some(parent) = slot.parent() {
            let mut children = lock(&parent.children);
            children.by_sequence.remove(&slot.sequence);
            if children.by_name.get(slot.probe.name()) == Some(&slot.sequence) {
                children.by_name.remove(slot.probe.name());
            }
        }
        self.vacate(slot, Status::Stopped);
    }
}
