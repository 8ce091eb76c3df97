//! What a session hands over: one job, leased to this process.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use uuid::Uuid;

/// One leased attempt of one job.
#[derive(Clone)]
pub struct Assignment {
    /// The job.
    pub job_id: Uuid,
    /// Its type, which picks the handler.
    pub job_type: String,
    /// The queue it came from.
    pub queue: String,
    /// The tenant it belongs to.
    pub tenant: String,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// After how many attempts the job is given up.
    pub max_attempts: u32,
    /// Grows with every lease of the job; carry it to other systems that can refuse older writers.
    pub fence: u64,
    /// Names job and fence to the node; never logged.
    pub lease_token: String,
    /// The payload, byte for byte as it was submitted.
    pub payload: Arc<RawValue>,
    /// How long the attempt may take.
    pub timeout: Duration,
    /// The trace that the submitter was part of.
    pub traceparent: Option<String>,
    /// Version of the payload's schema.
    pub schema_version: u32,
    /// When the job was submitted.
    pub created_at: DateTime<Utc>,
    /// Results of the jobs that this one depends on; `None` for one that failed or had nothing to say.
    pub dependency_results: Vec<(Uuid, Option<Box<RawValue>>)>,
    /// The submitter's own notes on the job, a JSON object.
    pub metadata: Option<Box<RawValue>>,
    /// The submitter's tags.
    pub tags: Vec<String>,
    /// What the last attempt left with its heartbeats, to resume from.
    pub details: Option<Box<RawValue>>,
}

impl Assignment {
    /// An assignment with the contract's defaults, for embedders and tests.
    pub fn new(
        job_id: Uuid,
        job_type: impl Into<String>,
        payload: Arc<RawValue>,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            job_id,
            job_type: job_type.into(),
            queue: "default".to_owned(),
            tenant: "default".to_owned(),
            attempt: 1,
            max_attempts: 5,
            fence: 1,
            lease_token: String::new(),
            payload,
            timeout: Duration::from_secs(300),
            traceparent: None,
            schema_version: 1,
            created_at: now,
            dependency_results: Vec::new(),
            metadata: None,
            tags: Vec::new(),
            details: None,
        }
    }
}

impl fmt::Debug for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the payload nor the lease token may reach a log.
        f.debug_struct("Assignment")
            .field("job_id", &self.job_id)
            .field("job_type", &self.job_type)
            .field("queue", &self.queue)
            .field("attempt", &self.attempt)
            .field("fence", &self.fence)
            .finish_non_exhaustive()
    }
}
