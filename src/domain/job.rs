//! The job: what is stored when it is submitted, and what is shown of it.

use serde::{Deserialize, Serialize};

use super::{
    clock::Timestamp,
    fence::Fence,
    ids::{JobId, WorkflowId},
    json::RawJson,
    retry::RetryPolicy,
    state::JobState,
    unique::UniqueKey,
};

/// What a failed or canceled dependency means for the job that waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DependencyPolicy {
    /// The job stays blocked until the dependency has completed.
    #[default]
    Block,
    /// The job runs once the dependency has completed, failed or been canceled.
    AllowFailed,
}

impl DependencyPolicy {
    /// The number that stands for it in the store.
    #[must_use]
    pub fn code(self) -> i16 {
        match self {
            Self::Block => 0,
            Self::AllowFailed => 1,
        }
    }

    /// The policy with this number.
    #[must_use]
    pub fn from_code(code: i16) -> Option<Self> {
        match code {
            0 => Some(Self::Block),
            1 => Some(Self::AllowFailed),
            _ => None,
        }
    }

    /// Whether a dependency that ended in `outcome` is met; `None` while it has not ended.
    #[must_use]
    pub fn is_met_by(self, outcome: Option<JobState>) -> bool {
        match (self, outcome) {
            (_, Some(JobState::Completed)) => true,
            (Self::AllowFailed, Some(state)) => state.is_terminal(),
            (Self::Block, Some(_)) | (_, None) => false,
        }
    }
}

/// What of a job's definition is rarely set; stored together, absent when all of it is default.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobOptions {
    /// Its own retry policy; the node's default otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// Free words to filter by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Free data of the submitter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<RawJson>,
    /// W3C trace context of the submission, handed to the worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The key that concurrency limits of scope `key` count by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<String>,
    /// The key that a fair queue shares by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fairness_key: Option<String>,
    /// What it takes from rate limits; 1 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<u32>,
    /// The job that this one was made by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_job_id: Option<JobId>,
    /// Canceled if it has not started by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl JobOptions {
    /// The stored form; `None` when all is default.
    #[must_use]
    pub fn to_stored(&self) -> Option<String> {
        if *self == Self::default() { None } else { serde_json::to_string(self).ok() }
    }

    /// From the stored form; a form that cannot be read is default (a newer version wrote it).
    #[must_use]
    pub fn from_stored(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}

/// What makes repeats of one submission the same job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The key, in the scope of the job's tenant.
    pub key: String,
    /// The key holds this long, or until the job is terminal, whichever is later.
    pub window_seconds: u32,
    /// Hash of type, queue and payload as a JSON value: a repeat must have the same.
    pub fingerprint: [u8; 32],
}

/// A job as it is about to be stored: checked, with every default filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    /// Its id, chosen before the insert, so that a repeated insert is recognised.
    pub id: JobId,
    /// What handles it.
    pub kind: String,
    /// Where it waits.
    pub queue: String,
    /// Whose it is.
    pub tenant: String,
    /// What the handler gets.
    pub payload: RawJson,
    /// 0 to 9, 9 first.
    pub priority: i16,
    /// Not before it. `None`, or a time past, is the store's now at insert.
    pub run_at: Option<Timestamp>,
    /// How many attempts it has.
    pub max_attempts: i32,
    /// How long an attempt may take.
    pub timeout_seconds: i32,
    /// The version of the payload's shape.
    pub schema_version: i32,
    /// What makes a repeat of the submission the same job.
    pub idempotency: Option<IdempotencyKey>,
    /// A label that groups jobs.
    pub workflow_id: Option<WorkflowId>,
    /// Jobs that must end first; without repeats.
    pub dependencies: Vec<JobId>,
    /// What their failure means.
    pub dependency_policy: DependencyPolicy,
    /// The key that it alone is to have.
    pub unique: Option<UniqueKey>,
    /// The rest.
    pub options: JobOptions,
}

/// What a waiting job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitingFor {
    /// No worker handles its queue and type, or none has room.
    Worker,
    /// Others are before it.
    Turn,
    /// A rate limit.
    RateLimit,
    /// A concurrency limit.
    ConcurrencyLimit,
    /// Jobs it depends on.
    Dependency,
    /// Its time.
    Time,
    /// The delay after a failed attempt.
    Backoff,
    /// Its queue is paused.
    Pause,
    /// An operator's hold.
    Hold,
}

/// A job as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobView {
    /// Its id.
    pub id: JobId,
    /// What handles it.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it waits.
    pub queue: String,
    /// Whose it is.
    pub tenant_id: String,
    /// What the handler gets, byte for byte as it was submitted.
    pub payload: RawJson,
    /// 0 to 9, 9 first.
    pub priority: i16,
    /// Attempts used up.
    pub attempts: i32,
    /// Attempts it has.
    pub max_attempts: i32,
    /// Where it is in its life.
    pub state: JobState,
    /// The version of the payload's shape.
    pub schema_version: i32,
    /// How long an attempt may take.
    pub timeout_seconds: i32,
    /// Whether a cancel was asked.
    pub cancel_requested: bool,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// Not before it.
    #[schema(value_type = String, format = DateTime)]
    pub run_at: Timestamp,
    /// How long its last attempt has run, in milliseconds; 0 before the first.
    pub execution_ms: i64,
    /// The key of its submission.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// A label that groups jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow_id: Option<WorkflowId>,
    /// The job that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_job_id: Option<JobId>,
    /// What a failed dependency means; only for jobs with dependencies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dependency_policy: Option<DependencyPolicy>,
    /// Why it is blocked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked_reason: Option<String>,
    /// When its last attempt began.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// When its worker was last heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_heartbeat_at: Option<Timestamp>,
    /// When its lease ends unless it is renewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub lease_expires_at: Option<Timestamp>,
    /// Until when a limit holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub throttle_until: Option<Timestamp>,
    /// The text of its last error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What it made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<RawJson>,
    /// Who runs it, or ran it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
    /// The proof of its lease; only for its worker and for admins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_token: Option<String>,
    /// The newest fence given for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// What its worker said last of how far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<RawJson>,
    /// Free words to filter by.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tags: Vec<String>,
    /// Free data of the submitter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<RawJson>,
    /// W3C trace context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The key that concurrency limits count by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency_key: Option<String>,
    /// The key that a fair queue shares by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fairness_key: Option<String>,
    /// What it takes from rate limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<u32>,
    /// Canceled if it has not started by then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// What it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<WaitingFor>,
    /// What was asked of it while it ran; not in lists.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub controls: Vec<super::control::Control>,
    /// The supervision path of its lease's actor, while it runs; not in lists.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub actor: Option<String>,
}
