//! Moves of live rows that no lease ends: materialised readiness, unblocking, a retry of what waits.

use super::{batch::Batch, parts::Stored, rows::Rows};
use crate::{
    domain::{EventKind, JobId, JobState, Timestamp},
    store::{
        assemble::{JobRow, LiveRow},
        ops::LiveEntry,
    },
};

/// Sets all of a live row that such a move may change.
pub(super) const MOVE: &str = "
    update job_live set
        state = e.value ->> 1, run_at = e.value ->> 2, gate = e.value ->> 3, event_seq = e.value ->> 4,
        blocked_on = e.value ->> 5, blocked_reason = e.value ->> 6, updated_at = e.value ->> 7
    from jsonb_each(?1) e
    where job_live.id = unhex(e.value ->> 0)";

/// Counts what is written behind a leased job's `job.started`, and whether a cancel was asked.
pub(super) const NOTE_LEASE: &str = "
    update lease set event_seq = e.value ->> 1, cancel_requested = e.value ->> 2
    from jsonb_each(?1) e
    where lease.job_id = unhex(e.value ->> 0)";

/// Counts what is written behind an end.
pub(super) const NOTE_OUTCOME: &str = "
    update outcome set last_seq = e.value ->> 1
    from jsonb_each(?1) e
    where outcome.job_id = unhex(e.value ->> 0)";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] =
    &[("move", MOVE), ("note lease", NOTE_LEASE), ("note outcome", NOTE_OUTCOME)];

/// Writes the derived `job.enqueued` row of a deferred job whose time has come, before anything else of
/// it is written. The live row is `queued` from then on; the caller writes it.
pub(super) fn materialise(batch: &mut Batch<'_>, stored: &mut Stored) {
    let due = stored.parts.lease.is_none() && stored.state(batch.now) == JobState::Queued;
    let Some(live) = stored.parts.live.as_mut().filter(|live| due && live.state.is_deferred()) else {
        return;
    };
    stored.last_seq += 1;
    batch.event(
        stored.parts.job.id,
        stored.last_seq,
        EventKind::Enqueued,
        JobState::Queued,
        live.run_at,
        None,
        None,
    );
    batch.count_move(live.shard, &live.queue, live.state, JobState::Queued);
    live.state = JobState::Queued;
}

/// A row for [`MOVE`].
pub(super) fn move_row(
    rows: &mut Rows,
    job: JobId,
    live: &LiveRow,
    seq: i64,
    blocked_on: i64,
    updated_at: Timestamp,
) {
    rows.row()
        .id(job)
        .int(live.state.code())
        .int(live.run_at.0)
        .opt_text(live.gate.as_deref())
        .int(seq)
        .int(blocked_on)
        .opt_text(live.blocked_reason.as_deref())
        .int(updated_at.0);
}

/// A live row as its owner needs to know it.
pub(super) fn entry(job: &JobRow, live: &LiveRow) -> LiveEntry {
    LiveEntry {
        job: job.id,
        queue: live.queue.clone(),
        kind: job.kind.clone(),
        state: live.state,
        priority: live.priority,
        run_at: live.run_at,
    }
}
