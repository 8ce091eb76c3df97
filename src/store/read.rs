//! What is read from a store.

use serde::{Deserialize, Serialize};

use crate::domain::{
    AttemptRow, BootId, DependencyPolicy, Fence, JobId, JobState, JobView, RetryPolicy, SessionId, ShardId,
    TimelineRow, Timestamp, WorkerId,
};

/// Which jobs are listed. All that are given must match.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobFilter {
    /// One of these states; any when empty.
    pub states: Vec<JobState>,
    /// The queue.
    pub queue: Option<String>,
    /// The worker that runs it or ran it last.
    pub worker: Option<String>,
    /// The tenant.
    pub tenant: Option<String>,
    /// The workflow.
    pub workflow: Option<uuid::Uuid>,
    /// The type.
    pub kind: Option<String>,
    /// A tag it has.
    pub tag: Option<String>,
    /// Made at or after.
    pub created_after: Option<Timestamp>,
    /// Made before.
    pub created_before: Option<Timestamp>,
    /// Part of its id, type or last error, in any case.
    pub text: Option<String>,
}

/// Where the next page begins: jobs with an id below it. Ids are time-ordered, so pages are stable
/// while jobs are added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobCursor(pub JobId);

/// Which queues a shard has.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueueRow {
    /// Its name.
    pub name: String,
    /// Its shard.
    pub shard: Option<ShardId>,
    /// Whether dispatch is stopped.
    pub paused: bool,
    /// Whether submissions are refused.
    pub draining: bool,
    /// Settings as stored JSON.
    pub config: Option<String>,
    /// How many of its jobs are in each state, by the state's code; as stored: a deferred job whose time
    /// has come counts under its deferred state.
    pub counts: [i64; 9],
}

/// A place in a queue's order within one priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadyKey {
    /// First by time,
    pub run_at: Timestamp,
    /// then by id.
    pub job: JobId,
}

/// A job that is or becomes ready, as its queue's owner keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyRow {
    /// Its place.
    pub key: ReadyKey,
    /// What handles it.
    pub kind: String,
    /// As stored: `queued`, or a deferred state.
    pub state: JobState,
}

/// A lease as it is found when its shard is taken over or reloaded.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaseRow {
    /// The job.
    pub job: JobId,
    /// Its queue.
    pub queue: String,
    /// Its fence.
    pub fence: Fence,
    /// The number of the attempt.
    pub attempt: i32,
    /// Who holds it.
    pub worker: WorkerId,
    /// Over which session.
    pub session: SessionId,
    /// The boot of the node that held the session.
    pub boot: BootId,
    /// When it was given.
    pub granted_at: Timestamp,
    /// How long it lasts without a renewal.
    pub ttl_ms: i64,
    /// Whether a cancel was asked.
    pub cancel_requested: bool,
    /// What handles it.
    pub kind: String,
    /// Attempts the job has.
    pub max_attempts: i32,
    /// How long the attempt may take, in seconds.
    pub timeout_seconds: i32,
    /// Worker deaths under the job so far.
    pub deaths: i32,
    /// The job's priority.
    pub priority: i16,
    /// The job's own retry policy.
    pub retry: Option<RetryPolicy>,
}

/// A node of a dependency graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GraphNode {
    /// The job.
    pub job_id: JobId,
    /// What handles it.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it is.
    pub state: JobState,
    /// Its queue.
    pub queue: String,
    /// The jobs it waits or waited for.
    pub depends_on: Vec<JobId>,
    /// The jobs that wait or waited for it.
    pub dependents: Vec<JobId>,
    /// What a failed dependency means to it.
    pub dependency_policy: DependencyPolicy,
    /// Why it is blocked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_reason: Option<String>,
}

/// The dependency graph around a job: everything connected to it, at most [`GRAPH_NODES_MAX`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Graph {
    /// The job that was asked for.
    pub root_job_id: JobId,
    /// The jobs, in the order of their ids.
    pub nodes: Vec<GraphNode>,
    /// Whether there are more than are shown.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub truncated: bool,
}

/// The most nodes of a graph that are shown: what a screen and a browser can still draw.
pub const GRAPH_NODES_MAX: usize = 2_000;

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// The job.
    pub job_id: JobId,
    /// Its queue.
    pub queue: String,
    /// Who ran it last.
    pub worker_id: String,
    /// The error's type.
    pub error_type: String,
    /// The error's text.
    pub error_message: String,
    /// Where it happened; empty when the worker did not say.
    #[serde(serialize_with = "or_empty")]
    #[schema(value_type = String)]
    pub stack_trace: Option<String>,
    /// Its group: dead letters with the same cause share it.
    pub fingerprint: String,
    /// When it failed for good.
    #[schema(value_type = String, format = DateTime)]
    pub failed_at: Timestamp,
    /// The number of its last attempt.
    pub last_attempt: i32,
    /// How often it was replayed before.
    pub replay_count: i32,
    /// When last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_replayed_at: Option<Timestamp>,
}

/// A dead letter always has the field.
fn or_empty<S: serde::Serializer>(text: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text.as_deref().unwrap_or_default())
}

/// The record behind an idempotency key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdempotencyRecord {
    /// The key.
    pub key: String,
    /// The tenant it is scoped to.
    pub tenant_id: String,
    /// The job it names.
    pub job_id: JobId,
    /// It holds until then, and as long as the job is not terminal.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// All that is known of a job, read in one go.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// The job.
    pub job: JobView,
    /// Its attempts, oldest first, at most 1,000 newest.
    pub attempts: Vec<AttemptRow>,
    /// Its timeline, oldest first, at most 1,000 newest.
    pub events: Vec<TimelineRow>,
    /// Its dependency graph.
    pub graph: Graph,
    /// The record behind its key.
    pub idempotency: Option<IdempotencyRecord>,
    /// Its dead letter.
    pub dead_letter: Option<DeadLetter>,
    /// How often it was replayed.
    pub replay_count: i32,
    /// When last.
    pub last_replayed_at: Option<Timestamp>,
}

/// Which finished jobs a report covers.
#[derive(Debug, Clone, Default)]
pub struct FinishedFilter {
    /// The tenant.
    pub tenant: Option<String>,
    /// The queue.
    pub queue: Option<String>,
    /// The type.
    pub kind: Option<String>,
    /// The state, a terminal one.
    pub state: Option<JobState>,
    /// Finished at or after.
    pub since: Option<Timestamp>,
    /// Finished before.
    pub until: Option<Timestamp>,
}

/// A finished job, without payload and result.
#[derive(Debug, Clone, PartialEq)]
pub struct FinishedRow {
    /// The job.
    pub job: JobId,
    /// What handled it.
    pub kind: String,
    /// Its queue.
    pub queue: String,
    /// Whose it was.
    pub tenant: String,
    /// How it ended.
    pub state: JobState,
    /// Attempts used up.
    pub attempts: i32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its last attempt began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
    /// The text of its last error.
    pub last_error: Option<String>,
}
