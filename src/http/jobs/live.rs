//! What memory adds to a job that was read: how it is doing while it runs, and the receipts of its controls.

use crate::{
    domain::{Control, JobState, JobView, TimelineRow},
    http::{problem::ApiError, state::HttpState},
};

/// The most timeline rows that are looked through for controls: those of any job that is not retried for ever.
const ROWS_MAX: i64 = 1_000;

/// A job with what memory knows of it, for a list.
pub(in crate::http) fn overlaid(state: &HttpState, mut job: JobView) -> JobView {
    state.platform.overlay(&mut job);
    job
}

/// The same for one job, with its controls and the place of its actor. Its timeline is read when it may hold a
/// control.
pub(in crate::http) async fn whole(state: &HttpState, job: JobView) -> Result<JobView, ApiError> {
    let known = state.platform.runs().control(job.id).is_some();
    let rows = if known || job.cancel_requested || job.state == JobState::Canceled {
        state.read(state.platform.store().events(job.id, 0, ROWS_MAX)).await?
    } else {
        None
    };
    Ok(with_rows(state, job, &rows.unwrap_or_default()))
}

/// The same with a timeline that was read already.
pub(super) fn with_rows(state: &HttpState, job: JobView, rows: &[TimelineRow]) -> JobView {
    let mut job = overlaid(state, job);
    job.controls = Control::of_timeline(rows);
    if let Some(known) = state.platform.runs().control(job.id)
        && let Some(newest) = job.controls.last_mut()
    {
        newest.recall(&known);
    }
    if job.state == JobState::Active {
        job.actor = state.platform.lease_path(job.id);
    }
    job
}
