//! What the worker's unit tests share.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Assignment, JobContext, JobSink, NullSink, system_clock};

/// An assignment of `job_type` with `payload`, a JSON text.
pub(crate) fn assignment(job_type: &str, payload: &str) -> Assignment {
    let payload: Arc<RawValue> = Arc::from(RawValue::from_string(payload.to_owned()).unwrap());
    Assignment::new(Uuid::now_v7(), job_type, payload, system_clock())
}

/// A context that forgets its notes.
pub(crate) fn context(job_type: &str, payload: &str) -> JobContext {
    context_with(job_type, payload, Arc::new(NullSink))
}

/// A context that speaks to `sink`.
pub(crate) fn context_with(job_type: &str, payload: &str, sink: Arc<dyn JobSink>) -> JobContext {
    let deadline = Instant::now() + Duration::from_secs(60);
    JobContext::new(assignment(job_type, payload), CancellationToken::new(), deadline, sink)
}
