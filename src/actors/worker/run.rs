//! From a lease to an attempt, and from its end to a report.

use std::{sync::Arc, time::Duration};

use serde_json::value::RawValue;

use crate::{
    actors::queue::core::Report,
    domain::{LeaseToken, RawJson, ShardId},
    store::ops::{AttemptError, ERROR_BYTES_MAX, Granted, STACK_BYTES_MAX},
    worker::{Assignment, AttemptOutcome, AttemptReport},
};

/// The attempt that a lease is for. `None` when what the store gave is no JSON, which cannot be.
pub(super) fn assignment_of(granted: Granted) -> Option<Assignment> {
    let raw = |text: &RawJson| RawValue::from_string(text.text().to_owned()).ok();
    let token =
        LeaseToken { shard: ShardId::of_queue(&granted.queue), fence: granted.fence, job: granted.job };
    let seconds = u64::try_from(granted.timeout_seconds).unwrap_or(300);
    Some(Assignment {
        job_id: granted.job.0,
        job_type: granted.kind,
        queue: granted.queue,
        tenant: granted.tenant,
        attempt: u32::try_from(granted.attempt).unwrap_or(1),
        max_attempts: u32::try_from(granted.max_attempts).unwrap_or(1),
        fence: granted.fence.0.unsigned_abs(),
        lease_token: token.to_string(),
        payload: Arc::from(raw(&granted.payload)?),
        timeout: Duration::from_secs(seconds),
        traceparent: granted.traceparent,
        schema_version: u32::try_from(granted.schema_version).unwrap_or(1),
        created_at: granted.created_at.to_datetime(),
        dependency_results: granted
            .dependency_results
            .iter()
            .map(|(job, result)| (job.0, result.as_ref().and_then(raw)))
            .collect(),
        metadata: granted.metadata.as_ref().and_then(raw),
        tags: granted.tags,
        details: None,
    })
}

/// What the queue is told of an attempt that ended. `is_stopping`: the node stops, so what was told to
/// stop is given back uncharged.
pub(super) fn report_of(report: AttemptReport, timeout: Duration, is_stopping: bool) -> Report {
    match report.outcome {
        AttemptOutcome::Completed { result } => {
            let text = result.get();
            let result = (text != "null").then(|| RawJson::trusted(text));
            Report::Completed(result)
        }
        AttemptOutcome::Failed { error } => Report::Failed {
            retryable: error.retryable,
            retry_after_ms: error
                .retry_after
                .map(|after| i64::try_from(after.as_millis()).unwrap_or(i64::MAX)),
            error: AttemptError {
                error_type: cut(error.error_type, 200),
                message: cut(error.message, ERROR_BYTES_MAX),
                stack_trace: error.stack_trace.map(|stack| cut(stack, STACK_BYTES_MAX)),
            },
        },
        AttemptOutcome::TimedOut => Report::Failed {
            retryable: true,
            retry_after_ms: None,
            error: AttemptError {
                error_type: "timeout".to_owned(),
                message: format!("no end within {} s", timeout.as_secs()),
                stack_trace: None,
            },
        },
        AttemptOutcome::Canceled if is_stopping => {
            Report::Released { reason: "drained".to_owned(), after_ms: None }
        }
        AttemptOutcome::Canceled => Report::Canceled,
    }
}

/// At most `bytes` of `text`, with a mark where it was cut; without NUL, which no text column holds.
fn cut(text: String, bytes: usize) -> String {
    let mut text = if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text };
    if text.len() > bytes {
        text.truncate(text.floor_char_boundary(bytes.saturating_sub(3)));
        text.push('…');
    }
    text
}
