//! The face of the shards.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use dashmap::DashMap;
use ractor::ActorRef;

use super::{
    messages::ShardMessage,
    state::{QueueParts, queue_spec},
};
use crate::{
    actors::{
        platform::AskError,
        queue::handle::{QueueHandle, Queues},
        runtime::{Directory, SupervisorError},
    },
    domain::{ShardEpoch, ShardId},
};

/// The most queues of a node: each has a supervisor, five actors and some windows.
pub const QUEUES_MAX: usize = 10_000;

/// One wake-up a shard, however many ask.
#[derive(Debug)]
pub(super) struct Bell {
    pub(super) rung: AtomicBool,
    pub(super) actor: ActorRef<ShardMessage>,
}

#[derive(Debug, Default)]
struct Waker {
    shards: DashMap<ShardId, Arc<Bell>>,
    sweep: tokio::sync::Notify,
    lost: OnceLock<ShardId>,
    lost_told: tokio::sync::Notify,
}

/// Wakes shards that have something in their inbox. Messages wake; the rows are the fact.
#[derive(Debug, Clone, Default)]
pub struct ShardWaker(Arc<Waker>);

impl ShardWaker {
    /// Wakes these shards; all that have something, if none is named.
    pub fn wake(&self, shards: &[ShardId]) {
        if shards.is_empty() {
            self.0.sweep.notify_one();
        }
        for shard in shards {
            let Some(bell) = self.0.shards.get(shard).map(|entry| entry.value().clone()) else { continue };
            if !bell.rung.swap(true, Ordering::SeqCst) {
                // A shard that is down looks at its inbox when it starts.
                drop(bell.actor.cast(ShardMessage::Wake));
            }
        }
    }

    /// Wakes exactly these shards.
    pub fn wake_all(&self, shards: &[ShardId]) {
        if !shards.is_empty() {
            self.wake(shards);
        }
    }

    /// Waits until a sweep over all inboxes is asked for.
    pub async fn sweep_wanted(&self) {
        self.0.sweep.notified().await;
    }

    /// A batch found that the shard is owned by another node now.
    pub fn fence_lost(&self, shard: ShardId) {
        if self.0.lost.set(shard).is_ok() {
            tracing::error!(shard = shard.0, "the shard was taken over by another node");
        }
        self.0.lost_told.notify_waiters();
        self.0.lost_told.notify_one();
    }

    /// Waits until a shard is lost.
    pub async fn lost(&self) -> ShardId {
        loop {
            let told = self.0.lost_told.notified();
            if let Some(shard) = self.0.lost.get() {
                return *shard;
            }
            told.await;
        }
    }

    pub(super) fn register(&self, shard: ShardId, bell: Arc<Bell>) {
        self.0.shards.insert(shard, bell);
    }
}

/// Finds and starts queues.
#[derive(Debug, Clone)]
pub struct Shards {
    pub(super) parts: QueueParts,
    pub(super) directory: Arc<Directory>,
    pub(super) epochs: Arc<[ShardEpoch]>,
    pub(super) queues: Arc<Queues>,
    pub(super) waker: ShardWaker,
}

impl Shards {
    /// Over these owned shards.
    #[must_use]
    pub fn new(
        parts: QueueParts,
        directory: Arc<Directory>,
        epochs: Arc<[ShardEpoch]>,
        queues: Arc<Queues>,
        waker: ShardWaker,
    ) -> Self {
        Self { parts, directory, epochs, queues, waker }
    }

    /// The shards and the epochs they are owned under.
    #[must_use]
    pub fn epochs(&self) -> &Arc<[ShardEpoch]> {
        &self.epochs
    }

    /// The queues that run.
    #[must_use]
    pub fn queues(&self) -> &Arc<Queues> {
        &self.queues
    }

    /// Wakes shards.
    #[must_use]
    pub fn waker(&self) -> &ShardWaker {
        &self.waker
    }

    /// The queue of this name; started, if it does not run.
    ///
    /// # Errors
    /// [`AskError::Refused`] when there are too many queues, [`AskError::Unavailable`] while the shard is
    /// not owned or its supervisor is down.
    pub fn queue(&self, name: &str) -> Result<QueueHandle, AskError> {
        if let Some(queue) = self.queues.get(name) {
            return Ok(queue);
        }
        if self.queues.len() >= QUEUES_MAX {
            return Err(AskError::Refused(format!("this node runs {QUEUES_MAX} queues already")));
        }
        let mine = QueueHandle::new(name);
        let there = self.queues.insert(mine.clone());
        if there == mine {
            self.start(&there)?;
        }
        Ok(there)
    }

    /// Has the actor of a queue started afresh: it reads all it knows from the store.
    ///
    /// # Errors
    /// [`AskError::Unavailable`] when its supervisor is down: it is being restarted anyway.
    pub fn restart_queue(&self, queue: &QueueHandle) -> Result<(), AskError> {
        let shard = self.directory.supervisor(&format!("node/shards/{}", queue.shard().0));
        let restarted = shard
            .and_then(|shard| shard.supervisor(queue.name()))
            .is_some_and(|family| family.restart_child("queue").is_ok());
        if restarted {
            return Ok(());
        }
        Err(AskError::Unavailable {
            reason: "the queue is restarting".to_owned(),
            retry_after: std::time::Duration::from_secs(1),
        })
    }

    /// Starts the actors of a queue that is known. One that runs already stays as it is.
    pub(super) fn start(&self, queue: &QueueHandle) -> Result<(), AskError> {
        let unavailable = |reason: &str| AskError::Unavailable {
            reason: reason.to_owned(),
            retry_after: std::time::Duration::from_secs(1),
        };
        let shard = queue.shard();
        let owner = self.epochs.iter().find(|owned| owned.shard == shard).copied();
        let owner = owner.ok_or_else(|| unavailable("the queue's shard is not owned by this node"))?;
        let path = format!("node/shards/{}", shard.0);
        let supervisor = self.directory.supervisor(&path);
        let supervisor = supervisor.ok_or_else(|| unavailable("the queue's shard is restarting"))?;
        match supervisor.start_child_nowait(queue_spec(&self.parts, queue, owner)) {
            Ok(()) => Ok(()),
            Err(error @ (SupervisorError::NotRunning | SupervisorError::TimedOut)) => {
                Err(unavailable(&error.to_string()))
            }
            Err(error) => Err(AskError::Refused(error.to_string())),
        }
    }
}
