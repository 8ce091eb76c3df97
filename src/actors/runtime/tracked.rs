//! The wrapper every actor of ours runs in: it takes its place in the directory, and a panic in it gets its name.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, ActorRuntime, SpawnErr, SupervisionEvent};

use super::directory::{Directory, ReserveError, Slot};
use super::exit::{Panicked, in_words};
use super::probe::Probe;

/// An actor together with its place.
pub(super) struct Tracked<A> {
    actor: A,
    slot: Arc<Slot>,
    directory: Arc<Directory>,
    /// The supervisor of a leaf: nobody keeps its place for a next incarnation, and nobody waits for its start.
    leaf_of: Option<ActorCell>,
}

/// Why a leaf was not spawned.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    /// Its place could not be had.
    #[error("no place for the actor")]
    Place(#[from] ReserveError),
    /// ractor refused.
    #[error("actor not spawned")]
    Spawn(#[from] SpawnErr),
}

/// Spawns an actor under a supervisor, and waits for its `pre_start`.
pub(super) async fn spawn_tracked<A: Actor>(
    directory: &Arc<Directory>,
    slot: &Arc<Slot>,
    supervisor: Option<ActorCell>,
    actor: A,
    arguments: A::Arguments,
) -> Result<ActorRef<A::Msg>, SpawnErr> {
    let actor = Tracked { actor, slot: Arc::clone(slot), directory: Arc::clone(directory), leaf_of: None };
    let (actor, _ended) = match supervisor {
        Some(supervisor) => ActorRuntime::spawn_linked(None, actor, arguments, supervisor).await?,
        None => ActorRuntime::spawn(None, actor, arguments).await?,
    };
    Ok(actor)
}

/// Spawns a leaf (an actor that nobody restarts in place, as a lease's) under `supervisor` without waiting for it;
/// messages can be sent to it at once. However it ends, also in its `pre_start`, the supervisor hears so and the
/// leaf leaves the directory. If the supervisor ends, the leaf is killed.
///
/// # Errors
/// The supervisor has ended or is not registered, or a live sibling has the probe's name.
pub fn spawn_leaf<A: Actor>(
    directory: &Arc<Directory>,
    supervisor: &ActorCell,
    probe: Arc<Probe>,
    actor: A,
    arguments: A::Arguments,
) -> Result<ActorRef<A::Msg>, LeafError> {
    let parent = directory.slot_of(supervisor.get_id()).ok_or(ReserveError::ParentGone)?;
    let slot = directory.reserve(&parent, supervisor.get_id(), probe)?;
    let actor = Tracked { actor, slot, directory: Arc::clone(directory), leaf_of: Some(supervisor.clone()) };
    let (leaf, _started) = ActorRuntime::spawn_linked_instant(None, actor, arguments, supervisor.clone())?;
    Ok(leaf)
}

async fn caught<T>(
    future: impl Future<Output = Result<T, ActorProcessingErr>>,
) -> Result<T, ActorProcessingErr> {
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(result) => result,
        Err(payload) => Err(Panicked::from_payload(&*payload).into()),
    }
}

/// Tells a leaf's supervisor of a kill during `pre_start`, of which ractor says nothing.
struct StartGuard(Option<ActorCell>);

impl Drop for StartGuard {
    fn drop(&mut self) {
        if let Some(cell) = self.0.take() {
            let killed = SupervisionEvent::ActorTerminated(cell.clone(), None, Some("killed".to_owned()));
            cell.notify_supervisor(killed);
        }
    }
}

impl<A: Actor> Actor for Tracked<A> {
    type Msg = A::Msg;
    type State = A::State;
    type Arguments = A::Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        self.directory.occupy(&self.slot, &myself.get_cell());
        if let Some(supervisor) = &self.leaf_of {
            // ractor links after `pre_start`: until then a failure would be told to nobody, and the supervisor's end
            // would leave the leaf behind.
            myself.get_cell().link(supervisor.clone());
            if myself.try_get_supervisor().is_none() {
                return Err("its supervisor has ended".into());
            }
        }
        let mut guard = StartGuard(self.leaf_of.as_ref().map(|_| myself.get_cell()));
        let started = caught(self.actor.pre_start(myself.clone(), arguments)).await;
        guard.0 = None;
        if self.leaf_of.is_some()
            && let Err(error) = &started
        {
            // ractor reports a failed start to the spawner only, and nobody waits for a leaf's.
            let words = in_words(&**error).into();
            myself.notify_supervisor(SupervisionEvent::ActorFailed(myself.get_cell(), words));
        }
        started
    }

    async fn post_start(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        caught(self.actor.post_start(myself, state)).await
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        caught(self.actor.handle(myself, message, state)).await
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        caught(self.actor.handle_supervisor_evt(myself, event, state)).await
    }

    async fn post_stop(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        caught(self.actor.post_stop(myself, state)).await
    }
}

impl<A> Drop for Tracked<A> {
    fn drop(&mut self) {
        // ractor drops the actor after its end has been reported, whatever the end was.
        if self.leaf_of.is_some() {
            self.directory.release(&self.slot);
        }
    }
}
