//! The one face of the actors: what the HTTP layer and embedding programs ask of a node.

mod births;
/// One change over many jobs.
pub mod bulk;
/// Changes of one job.
mod change;
mod dead_letters;
mod explain;
mod purge;
mod queues;
mod replace;
mod running;
mod workers;

pub use dead_letters::{LETTERS_NAMED_MAX, LetterAction, Letters, LettersDone};
pub use explain::{Explanation, Reason, Waits};
pub use purge::{PurgeProgress, Purged};
pub use queues::{JobCounts, Percentiles, QueueLatency, QueueThroughput, QueueView};
pub use replace::Replaced;
pub use workers::WorkerView;

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

mod dashboard;
mod overview;
mod restart;

pub use dashboard::{
    BUCKET_SECONDS_DEFAULT, Dashboard, DashboardLetter, HourMetrics, LatencyMs, Leader, Point, RateLimitRow,
    Trend,
};
pub use overview::Overview;

use dashboard::SnapshotCache;

use super::{
    console::HubHandle,
    journal::{JournalHandle, Outcome},
    operations::handle::OperationsHandle,
    queue::{core::Interference, handle::ASK_DEADLINE, messages::QueueRequest},
    runtime::{Directory, OperatorError, Page, SupervisionNode},
    shard::Shards,
    upkeep::StoreHealth,
    worker::Sessions,
};

use crate::{
    domain::{BootId, Clock, JobId, NewJob},
    store::{
        Op, OpResult, Store,
        ops::{Canceled, Changed, Requester, Retried, SubmitOp, SubmitRefusal, Submitted},
    },
};

/// Why the actors did not do what was asked. Says what the caller can do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AskError {
    /// A door is full: try again after `retry_after`.
    #[error("the node is overloaded")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// An actor or the store is starting, restarting or out of reach: try again. Nothing is known to
    /// have been written, but a submission should be repeated with its idempotency key.
    #[error("not ready: {reason}")]
    Unavailable {
        /// Which part, and why.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The queue cannot be loaded and is set aside until an operator restarts it or a retry succeeds.
    #[error("queue {queue} is quarantined: {reason}")]
    Quarantined {
        /// The queue.
        queue: String,
        /// Why.
        reason: String,
    },
    /// The store refused what was written: a fault of ours, or data it cannot hold.
    #[error("refused by the store: {0}")]
    Refused(String),
    /// No answer within the deadline; the change may have happened.
    #[error("no answer within the deadline")]
    TimedOut,
}

/// Why jobs were not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SubmitError {
    /// The submission is at fault.
    #[error("refused")]
    Refused(SubmitRefusal),
    /// The node could not.
    #[error(transparent)]
    Ask(#[from] AskError),
}

/// A part of the node and whether it is ready.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PartReadiness {
    /// `store`, `migrations`, `actors`, or a queue (`queue:mail`).
    pub part: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What the actors are made of; `system` puts it together.
#[derive(Debug)]
pub struct PlatformParts {
    /// The store's clock.
    pub clock: Arc<Clock>,
    /// What is read.
    pub store: Arc<dyn Store>,
    /// What is written.
    pub journal: JournalHandle,
    /// The node's name.
    pub node: String,
    /// This run of the node.
    pub boot: BootId,
    /// The queues.
    pub shards: Shards,
    /// The workers.
    pub sessions: Arc<Sessions>,
    /// The streams.
    pub hub: HubHandle,
    /// The tree.
    pub directory: Arc<Directory>,
    /// What is known of the store.
    pub health: Arc<StoreHealth>,
    /// Bulk operations.
    pub operations: OperationsHandle,
}

/// The actors' one face. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Platform(Arc<PlatformParts>, Arc<SnapshotCache>);

impl Platform {
    /// Over these actors.
    #[must_use]
    pub fn new(parts: PlatformParts) -> Self {
        let began = parts.clock.now();
        Self(Arc::new(parts), Arc::new(SnapshotCache::new(began)))
    }

    /// The store's clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The store, for reads.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    /// The node's name.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.0.node
    }

    /// Whether a node that is asked for is this one: by its name, or by its run.
    #[must_use]
    pub fn is_called(&self, node: &str) -> bool {
        node == self.0.node || node == self.0.boot.to_string()
    }

    /// This run of the node.
    #[must_use]
    pub fn boot(&self) -> BootId {
        self.0.boot
    }

    /// The streams.
    #[must_use]
    pub fn hub(&self) -> &HubHandle {
        &self.0.hub
    }

    /// The queues.
    #[must_use]
    pub fn shards(&self) -> &Shards {
        &self.0.shards
    }

    /// The tree.
    #[must_use]
    pub fn directory(&self) -> &Arc<Directory> {
        &self.0.directory
    }

    /// Makes a job, through its queue.
    ///
    /// # Errors
    /// [`SubmitError::Refused`] names the fault; the rest is the node's. After `TimedOut` the job may have
    /// been made.
    pub async fn submit(&self, job: NewJob) -> Result<Submitted, SubmitError> {
        let queue = self.0.shards.queue(&job.queue)?;
        let outcome = queue.ask(|reply| QueueRequest::Submit { job: Box::new(job), reply }).await;
        let made = submitted(outcome)?;
        made.into_iter().next().ok_or(SubmitError::Ask(AskError::TimedOut))
    }

    /// Makes jobs of any queues in one transaction: all or none. They may depend on earlier ones among
    /// them.
    ///
    /// # Errors
    /// As for [`submit`](Self::submit).
    pub async fn births(&self, jobs: Vec<NewJob>) -> Result<Vec<Submitted>, SubmitError> {
        for job in &jobs {
            self.0.shards.queue(&job.queue)?;
        }
        let shards: Vec<_> = jobs.iter().map(|job| crate::domain::ShardId::of_queue(&job.queue)).collect();
        let op = Op::Submit(SubmitOp { owner: None, jobs });
        let outcome = self.0.journal.ask(self.0.journal.idlest(), op, ASK_DEADLINE).await;
        self.0.shards.waker().wake(&shards);
        submitted(outcome).inspect(|made| births::count(made))
    }

    /// Cancels a job, with a row of the audit log.
    ///
    /// # Errors
    /// The node's; after `TimedOut` it may have been canceled.
    pub async fn cancel(&self, id: JobId, reason: String, by: Requester) -> Result<Canceled, AskError> {
        let what = Interference::Cancel { reason, unstarted_only: false, by: Some(by) };
        match self.interfere(id, what).await? {
            Some(OpResult::Canceled(done)) => Ok(done),
            Some(_) => Err(AskError::TimedOut),
            None => Ok(Canceled::NotFound),
        }
    }

    /// Runs a failed or waiting job again now, with a row of the audit log.
    ///
    /// # Errors
    /// The node's; after `TimedOut` it may have been done.
    pub async fn retry(&self, id: JobId, by: Requester) -> Result<Retried, AskError> {
        match self.interfere(id, Interference::Retry { by: Some(by) }).await? {
            Some(OpResult::Retried(done)) => Ok(done),
            Some(_) => Err(AskError::TimedOut),
            None => Ok(Retried::NotFound),
        }
    }

    /// Has the job's queue do something to it; `None` for an unknown job.
    async fn interfere(&self, id: JobId, what: Interference) -> Result<Option<OpResult>, AskError> {
        let Some(mut queue) = self.queue_of(id).await? else { return Ok(None) };
        loop {
            let wanted = what.clone();
            let done = queue.ask(|reply| QueueRequest::Interfere { job: id, what: wanted, reply }).await?;
            if !is_not_found(&done) {
                return Ok(Some(done));
            }
            // It may have been moved to another shard meanwhile.
            match self.queue_of(id).await? {
                Some(now) if now != queue => queue = now,
                Some(_) => return Ok(Some(done)),
                None => return Ok(None),
            }
        }
    }

    async fn queue_of(&self, id: JobId) -> Result<Option<super::queue::handle::QueueHandle>, AskError> {
        let located = self.0.store.locate(id).await;
        let located = located.map_err(|error| super::journal::ask_error(&error))?;
        located.map(|(_, queue)| self.0.shards.queue(&queue)).transpose()
    }

    /// What is ready and what is not.
    #[must_use]
    pub fn readiness(&self) -> Vec<PartReadiness> {
        let part = |part: &str, fault: Option<String>| PartReadiness {
            part: part.to_owned(),
            ready: fault.is_none(),
            reason: fault,
        };
        let root = self.0.directory.find("node").is_none().then(|| "not running".to_owned());
        let mut parts = vec![
            part("store", self.0.health.fault()),
            // A node whose migrations are not done does not get this far.
            part("migrations", None),
            part("actors", root),
        ];
        for down in self.0.directory.quarantined() {
            let reason = down.last.map_or_else(|| "quarantined".to_owned(), |last| last.reason);
            parts.push(part(&format!("actor:{}", down.path), Some(reason)));
        }
        parts
    }

    /// The supervision tree from `path` on, `depth` levels deep.
    #[must_use]
    pub fn supervision(
        &self,
        path: Option<&str>,
        depth: u32,
        kind: Option<&str>,
        page: Page,
    ) -> Option<SupervisionNode> {
        self.0.directory.snapshot(path, depth, kind, page)
    }

    /// Starts an actor, and all below it, afresh.
    ///
    /// # Errors
    /// Nothing has that path, it is the root, or its supervisor is down.
    pub fn restart(&self, path: &str) -> Result<(), OperatorError> {
        self.0.directory.restart(path)
    }
}

fn is_not_found(result: &OpResult) -> bool {
    matches!(
        result,
        OpResult::Canceled(Canceled::NotFound)
            | OpResult::Retried(Retried::NotFound)
            | OpResult::Changed(Changed::NotFound)
    )
}

fn submitted(outcome: Outcome) -> Result<Vec<Submitted>, SubmitError> {
    match outcome? {
        OpResult::Submitted(made) => Ok(made),
        OpResult::SubmitRefused(refusal) => Err(SubmitError::Refused(refusal)),
        OpResult::FenceLost(_) => Err(SubmitError::Ask(AskError::Unavailable {
            reason: "this node no longer owns the queue".to_owned(),
            retry_after: Duration::from_secs(1),
        })),
        _ => Err(SubmitError::Ask(AskError::TimedOut)),
    }
}
