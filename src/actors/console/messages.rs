//! What is told on the streams.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{
    actors::platform::Overview,
    domain::{JobId, JobState, Timestamp},
};

/// One event of a node.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamEvent {
    /// What happened: a timeline type, or `worker.*`, `queue.*`, `actor.restarted`, `overview` …
    #[schema(value_type = String)]
    pub kind: Cow<'static, str>,
    /// Its place among all events of this node's run, without gaps.
    pub seq: u64,
    /// When, on the store's clock.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    /// The job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// The queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
    /// The tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// The job's state after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The node's counts, now and then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overview: Option<Box<Overview>>,
}

impl StreamEvent {
    /// An event of this kind; the hub gives it its `seq`.
    #[must_use]
    pub fn new(kind: impl Into<Cow<'static, str>>, timestamp: Timestamp) -> Self {
        Self {
            kind: kind.into(),
            seq: 0,
            timestamp,
            job_id: None,
            queue: None,
            worker_id: None,
            tenant_id: None,
            state: None,
            message: None,
            overview: None,
        }
    }
}
