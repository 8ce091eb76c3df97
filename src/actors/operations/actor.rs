//! The operations as an actor: finds what is not finished, and runs it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::{AbortHandle, JoinSet};
use uuid::Uuid;

use super::{
    handle::OperationsHandle,
    messages::OperationsMessage,
    state::{RUNNING_MAX, run},
};
use crate::{
    actors::{platform::Platform, runtime::Probe},
    store::operations::OperationRow,
};

/// How often it is looked for what nobody runs: behind a lost wake-up, and after a start.
const TICK: Duration = Duration::from_secs(1);

/// What the operations are started with; the same for each incarnation.
#[derive(Debug, Clone)]
pub struct OperationsArgs {
    /// Through which jobs are changed.
    pub platform: Platform,
    /// Their face.
    pub handle: OperationsHandle,
    /// Counts.
    pub probe: Arc<Probe>,
}

/// The operations.
#[derive(Debug)]
pub struct OperationsActor;

/// Which operations run, and the tasks that run them.
#[derive(Debug)]
pub struct OperationsState {
    args: OperationsArgs,
    running: HashSet<Uuid>,
    /// Ended with the actor: an operation then goes on at its cursor.
    tasks: JoinSet<()>,
    bell: Option<AbortHandle>,
    is_looking: bool,
    looks_again: bool,
}

/// Tells the actor that a runner has ended, also when it panicked.
struct Ended(ActorRef<OperationsMessage>, Uuid);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.cast(OperationsMessage::Ended(self.1)));
    }
}

impl OperationsState {
    /// Reads what is not finished.
    fn look(&mut self, myself: &ActorRef<OperationsMessage>) {
        if self.is_looking {
            self.looks_again = true;
            return;
        }
        self.is_looking = true;
        let (store, myself) = (self.args.platform.store().clone(), myself.clone());
        // Enough to find one that does not run behind those that do.
        let limit = i64::try_from(2 * RUNNING_MAX).unwrap_or(8);
        self.tasks.spawn(async move {
            let found = store.unfinished_operations(limit).await.unwrap_or_else(|error| {
                tracing::warn!(%error, "bulk operations not read");
                Vec::new()
            });
            drop(myself.cast(OperationsMessage::Found(found)));
        });
    }

    fn found(&mut self, rows: Vec<OperationRow>, myself: &ActorRef<OperationsMessage>) {
        for row in rows {
            if self.running.len() >= RUNNING_MAX {
                break;
            }
            if self.running.insert(row.id) {
                let ended = Ended(myself.clone(), row.id);
                let (platform, handle) = (self.args.platform.clone(), self.args.handle.clone());
                self.tasks.spawn(async move {
                    let _ended = ended;
                    run(platform, handle, row).await;
                });
            }
        }
        self.is_looking = false;
        if std::mem::take(&mut self.looks_again) {
            self.look(myself);
        }
    }

    /// Sees to it that wake-ups are heard: a listener that panicked is started again.
    fn listen(&mut self, myself: &ActorRef<OperationsMessage>) {
        if self.bell.as_ref().is_none_or(AbortHandle::is_finished) {
            let (handle, myself) = (self.args.handle.clone(), myself.clone());
            self.bell = Some(self.tasks.spawn(async move {
                loop {
                    handle.woken().await;
                    drop(myself.cast(OperationsMessage::Look));
                }
            }));
        }
    }
}

impl Actor for OperationsActor {
    type Msg = OperationsMessage;
    type State = OperationsState;
    type Arguments = OperationsArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        args: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        drop(myself.cast(OperationsMessage::Tick));
        Ok(OperationsState {
            args,
            running: HashSet::new(),
            tasks: JoinSet::new(),
            bell: None,
            is_looking: false,
            looks_again: false,
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
            OperationsMessage::Tick => {
                let _timing = probe.time("Tick");
                while let Some(ended) = state.tasks.try_join_next() {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a task of the operations did not end well");
                    }
                }
                state.listen(&myself);
                // A look that was never answered does not keep the next ones from being made.
                state.is_looking = false;
                state.look(&myself);
                drop(myself.send_after(TICK, || OperationsMessage::Tick));
            }
            OperationsMessage::Look => {
                let _timing = probe.time("Look");
                state.look(&myself);
            }
            OperationsMessage::Found(rows) => {
                let _timing = probe.time("Found");
                state.found(rows, &myself);
            }
            OperationsMessage::Ended(id) => {
                let _timing = probe.time("Ended");
                state.running.remove(&id);
                // Another one may wait for its turn.
                state.look(&myself);
            }
        }
        Ok(())
    }
}
