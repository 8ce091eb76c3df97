//! `cleanup.run`: forgets a tenant's jobs that ended long ago.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::worker::{JobContext, JobError, LogLevel, RemovalScope};

use super::Tools;

/// Without a word on age: 7 days.
const OLDER_THAN_SECONDS: u64 = 7 * 24 * 3600;
/// Jobs removed by one statement: short locks, and a place to stop between them.
const STEP: u32 = 500;
/// Jobs removed by one run without a word on that: a run is to end well within its timeout.
const LIMIT: u64 = 100_000;
/// States that a job never leaves by itself.
pub(super) const STATES: [&str; 3] = ["completed", "canceled", "failed"];
/// Dead letters are kept unless asked for by name: someone may still replay them.
const STATES_DEFAULT: [&str; 2] = ["completed", "canceled"];

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Payload {
    older_than_seconds: Option<u64>,
    states: Option<Vec<String>>,
    queue: Option<String>,
    limit: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cleaned {
    removed: u64,
    steps: u64,
    /// Whether the limit ended the run before the jobs did.
    limit_reached: bool,
    older_than: String,
    states: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
}

pub(super) async fn run(
    tools: Arc<Tools>,
    ctx: JobContext,
    payload: Option<Payload>,
) -> Result<Cleaned, JobError> {
    let payload = payload.unwrap_or_default();
    let states = payload.states.unwrap_or_else(|| STATES_DEFAULT.map(str::to_owned).to_vec());
    if let Some(wrong) = states.iter().find(|state| !STATES.contains(&state.as_str())) {
        return Err(JobError::invalid_payload(format!("states: {wrong} is not one of {STATES:?}")));
    }
    let age = Duration::from_secs(payload.older_than_seconds.unwrap_or(OLDER_THAN_SECONDS));
    let older_than = chrono::TimeDelta::from_std(age)
        .ok()
        .and_then(|age| (tools.platform.clock)().checked_sub_signed(age))
        .ok_or_else(|| JobError::invalid_payload("olderThanSeconds: too large"))?;
    let tenant = ctx.assignment().tenant.clone();
    let scope = RemovalScope { older_than, states, queue: payload.queue, tenant };
    let limit = payload.limit.unwrap_or(LIMIT);

    let (mut removed, mut steps, mut more) = (0, 0, true);
    while more && removed < limit {
        let step = u32::try_from(limit - removed).unwrap_or(STEP).min(STEP);
        let gone = tools.platform.history.remove_finished(&scope, step).await;
        let gone = gone.map_err(|error| error.into_job_error())?;
        removed += gone;
        steps += 1;
        more = gone >= u64::from(step);
        ctx.progress(&json!({ "removed": removed }));
    }
    ctx.log(LogLevel::Info, format!("removed {removed} jobs"));
    Ok(Cleaned {
        removed,
        steps,
        limit_reached: more,
        older_than: older_than.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        states: scope.states,
        queue: scope.queue,
    })
}
