//! The one face of the actors: what the HTTP layer and embedding programs ask of a node.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;


use crate::{
    domain::{BootId, Clock, JobId, JobState, NewJob, Timestamp},
    store::{
        Store,
        ops::{Canceled, Retried, SubmitRefusal, Submitted},
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

/// Counts over the whole node, from its owners' memory.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// All jobs that are kept.
    pub total_jobs: i64,
    /// Ready to run.
    pub queued_jobs: i64,
    /// Waiting for other jobs.
    pub blocked_jobs: i64,
    /// Held by a limit.
    pub throttled_jobs: i64,
    /// Running.
    pub active_jobs: i64,
    /// In the dead letters.
    pub failed_jobs: i64,
    /// Waiting for their backoff.
    pub retrying_jobs: i64,
    /// Done.
    pub completed_jobs: i64,
    /// Waiting for their time.
    pub scheduled_jobs: i64,
    /// Canceled.
    pub canceled_jobs: i64,
    /// Ready jobs by queue.
    pub queue_lengths: std::collections::BTreeMap<String, i64>,
    /// Mean execution time of attempts that ended since the node started, in milliseconds.
    pub average_exec_ms: f64,
    /// When these numbers were put together.
    #[schema(value_type = String, format = DateTime)]
    pub last_updated_at: Timestamp,
    /// Workers with a live session.
    pub active_workers: i64,
    /// Scheduled and retrying jobs together.
    pub delayed_backlog: i64,
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

/// One row of a job's live details, known only to its actors.
#[derive(Debug, Clone, Default)]
pub struct LiveDetails {
    /// When its worker was last heard.
    pub last_heartbeat_at: Option<Timestamp>,
    /// When its lease ends unless it is renewed.
    pub lease_expires_at: Option<Timestamp>,
    /// What its worker said last of how far it is.
    pub progress: Option<crate::domain::RawJson>,
}
