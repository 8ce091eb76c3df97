//! Answers of a node, as far as they are shown. Kinds and statuses are texts here, and numbers may be missing: a
//! newer node's answers stay readable.

use serde::Deserialize;

use crate::domain::{JobId, JobView, RawJson, Timestamp};

/// `POST /jobs`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Submitted {
    pub(super) job: JobView,
    #[serde(default)]
    pub(super) duplicate_suppressed: bool,
}

/// `GET /jobs/{id}/inspection`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Inspection {
    pub(super) job: JobView,
    pub(super) attempts: Vec<Attempt>,
    pub(super) events: Vec<Moment>,
    pub(super) graph: Graph,
    pub(super) dead_letter: Option<DeadLetter>,
}

/// A row of a timeline.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Moment {
    pub(super) seq: i64,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) message: String,
    pub(super) occurred_at: Timestamp,
    pub(super) state: String,
    pub(super) attempt: Option<i64>,
    pub(super) worker_id: Option<String>,
}

/// An attempt.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Attempt {
    pub(super) attempt: i64,
    pub(super) worker_id: String,
    pub(super) status: String,
    pub(super) error_type: Option<String>,
    pub(super) error_message: Option<String>,
    pub(super) stack_trace: Option<String>,
    pub(super) started_at: Timestamp,
    pub(super) finished_at: Option<Timestamp>,
}

/// A dead letter.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeadLetter {
    pub(super) error_type: String,
    pub(super) error_message: String,
    pub(super) failed_at: Timestamp,
    #[serde(default)]
    pub(super) replay_count: i64,
}

/// A dependency graph.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Graph {
    pub(super) root_job_id: JobId,
    pub(super) nodes: Vec<GraphNode>,
    #[serde(default)]
    pub(super) truncated: bool,
}

/// A job of a graph.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GraphNode {
    pub(super) job_id: JobId,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) state: String,
    #[serde(default)]
    pub(super) queue: String,
    #[serde(default)]
    pub(super) depends_on: Vec<JobId>,
    #[serde(default)]
    pub(super) dependents: Vec<JobId>,
    pub(super) blocked_reason: Option<String>,
}

/// An actor of the supervision tree.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Actor {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) path: String,
    pub(super) status: String,
    #[serde(default)]
    pub(super) restarts: u64,
    pub(super) last_restart: Option<LastRestart>,
    #[serde(default)]
    pub(super) mailbox: Mailbox,
    #[serde(default)]
    pub(super) messages: Messages,
    #[serde(default)]
    pub(super) child_count: u64,
    #[serde(default)]
    pub(super) children: Vec<Actor>,
    /// A cursor: a number or a text, to be handed back.
    pub(super) next_child: Option<RawJson>,
}

/// When and why an actor was last started again.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct LastRestart {
    pub(super) at: Timestamp,
    pub(super) reason: String,
}

/// What waits for an actor.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Mailbox {
    pub(super) depth: u64,
    pub(super) high_water: u64,
}

/// What an actor has handled.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Messages {
    pub(super) handled: u64,
    pub(super) per_second: f64,
    pub(super) mean_micros: f64,
    pub(super) p99_micros: Option<f64>,
}

/// The counts of a node.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Overview {
    pub(super) total_jobs: i64,
    pub(super) queued_jobs: i64,
    pub(super) blocked_jobs: i64,
    pub(super) throttled_jobs: i64,
    pub(super) active_jobs: i64,
    pub(super) failed_jobs: i64,
    pub(super) retrying_jobs: i64,
    pub(super) completed_jobs: i64,
    pub(super) scheduled_jobs: i64,
    pub(super) canceled_jobs: i64,
    pub(super) queue_lengths: std::collections::BTreeMap<String, i64>,
    pub(super) average_exec_ms: f64,
    pub(super) last_updated_at: Timestamp,
    pub(super) active_workers: i64,
    pub(super) delayed_backlog: i64,
}

/// A ticket for a stream.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ticket {
    pub(super) ticket: String,
    pub(super) expires_at: Timestamp,
}

/// A message of a stream: an event, or one about the stream itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StreamMessage {
    pub(super) kind: String,
    pub(super) seq: u64,
    pub(super) timestamp: Timestamp,
    pub(super) stream_id: Option<crate::domain::BootId>,
    pub(super) job_id: Option<JobId>,
    pub(super) queue: Option<String>,
    pub(super) worker_id: Option<String>,
    pub(super) state: Option<String>,
    pub(super) message: Option<String>,
    /// A line that the job's handler has logged.
    pub(super) log: Option<SaidLine>,
    /// How far the job is.
    pub(super) progress: Option<serde_json::Value>,
    /// How many events of each kind stand behind one that merges them.
    pub(super) counts: Option<std::collections::BTreeMap<String, u64>>,
}

/// A line of a job's log.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct SaidLine {
    pub(super) level: String,
    pub(super) message: String,
}
