//! What a change of a waiting job, and the removal of a terminal one, come to. Decided once, for both engines.

use serde::Serialize;

use super::{
    assemble::{JobParts, JobRow, LiveRow},
    ops::{AuditOp, Changed, ChangedJob, ForgetOp, JobPatch, LiveEntry, UpdateOp},
};
use crate::domain::{EventKind, JobOptions, JobState, RawJson, ShardId, Timestamp};

/// What is to be written for a change.
#[derive(Debug)]
pub(super) struct Planned {
    /// Where it was: its shard, its queue and its stored state.
    pub(super) was: (ShardId, String, JobState),
    /// When its time came, if that is not in its timeline yet: the row before the one of the change.
    pub(super) due_at: Option<Timestamp>,
    /// The live row as it will be; its `event_seq` is that of the change.
    pub(super) live: LiveRow,
    /// The definition as it will be.
    pub(super) job: JobRow,
    /// Whether it goes to another queue, which is told.
    pub(super) is_moved: bool,
    /// Of the timeline row.
    pub(super) metadata: serde_json::Value,
    /// Of the audit row.
    pub(super) audit: AuditOp,
    /// The answer.
    pub(super) answer: Changed,
}

/// The fields that are changed, as the audit log shows them.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Vec<String>>,
}

/// Decides on a change of a job as it is; the answer when nothing is to be written.
pub(super) fn plan(parts: &JobParts, op: &UpdateOp, now: Timestamp) -> Result<Planned, Changed> {
    let (job, stored) = (&parts.job, waiting(parts, op.owner.shard)?);
    let shown = parts.state(now);
    let is_due = shown != stored.state;
    let live = LiveRow { state: shown, event_seq: stored.event_seq + i64::from(is_due), ..stored.clone() };
    if op.patch.max_attempts.is_some_and(|most| most < live.attempt) {
        return Err(Changed::AttemptsUsed(live.attempt));
    }
    let mut change = Change::of(job, &live);
    change.make(&op.patch, now);
    if change.names.is_empty() {
        return Err(Changed::Same(shown));
    }
    let Change { job: new_job, live: mut new_live, names, before, after } = change;
    new_live.event_seq += 1;
    let is_moved = new_live.queue != live.queue;
    let mut metadata = serde_json::json!({ "fields": names });
    if is_moved {
        metadata["fromQueue"] = live.queue.as_str().into();
        metadata["queue"] = new_live.queue.as_str().into();
    }
    let place = |row: &LiveRow| (row.priority, row.run_at, row.state);
    // Behind the gate it was behind, it has no place that its owner keeps.
    let is_in_place = !is_moved
        && (new_live.gate.is_some() || (place(&new_live) == place(&live) && live.gate == new_live.gate));
    let entry = (!is_moved).then(|| LiveEntry {
        job: job.id,
        queue: new_live.queue.clone(),
        kind: job.kind.clone(),
        state: new_live.state,
        priority: new_live.priority,
        run_at: new_live.run_at,
    });
    let wakes = if is_moved { vec![new_live.shard] } else { Vec::new() };
    let answer = if is_in_place {
        Changed::InPlace(new_live.state)
    } else {
        Changed::Done(Box::new(ChangedJob { from: shown, entry, kind: Some(EventKind::Updated), wakes }))
    };
    let audit = AuditOp {
        action: "job.updated",
        object_type: "job",
        object_id: op.job.to_string(),
        by: op.by.clone(),
        before: to_json(&before),
        after: to_json(&after),
    };
    Ok(Planned {
        was: (stored.shard, stored.queue.clone(), stored.state),
        due_at: is_due.then_some(stored.run_at),
        live: new_live,
        job: new_job,
        is_moved,
        metadata,
        audit,
        answer,
    })
}

/// The live row of a job of this shard that waits.
fn waiting(parts: &JobParts, shard: ShardId) -> Result<&LiveRow, Changed> {
    match (&parts.live, &parts.lease, &parts.outcome) {
        (Some(live), _, _) if live.shard != shard => Err(Changed::NotFound),
        (Some(_), Some(_), _) => Err(Changed::Conflict(JobState::Active)),
        (Some(live), None, _) => Ok(live),
        (None, _, Some(outcome)) if outcome.shard == shard => Err(Changed::Conflict(outcome.state)),
        (None, ..) => Err(Changed::NotFound),
    }
}

/// A change in the making.
struct Change {
    job: JobRow,
    live: LiveRow,
    names: Vec<&'static str>,
    before: Fields,
    after: Fields,
}

impl Change {
    fn of(job: &JobRow, live: &LiveRow) -> Self {
        let (before, after) = (Fields::default(), Fields::default());
        Self { job: job.clone(), live: live.clone(), names: Vec::new(), before, after }
    }

    fn make(&mut self, patch: &JobPatch, now: Timestamp) {
        if let Some(priority) = patch.priority.filter(|priority| *priority != self.live.priority) {
            self.names.push("priority");
            (self.before.priority, self.after.priority) = (Some(self.live.priority), Some(priority));
            (self.job.priority, self.live.priority) = (priority, priority);
        }
        if let Some(queue) = patch.queue.as_ref().filter(|queue| **queue != self.live.queue) {
            self.names.push("queue");
            (self.before.queue, self.after.queue) = (Some(self.live.queue.clone()), Some(queue.clone()));
            self.live.shard = ShardId::of_queue(queue);
            (self.job.queue, self.live.queue) = (queue.clone(), queue.clone());
            self.leave_gate(now);
        }
        if let Some(run_at) = patch.run_at {
            self.wait_until(run_at.max(now), now);
        }
        if let Some(payload) = patch.payload.as_ref().filter(|payload| payload.text() != self.job.payload) {
            self.names.push("payload");
            self.before.payload = Some(RawJson::trusted(self.job.payload.as_str()));
            self.after.payload = Some(payload.clone());
            payload.text().clone_into(&mut self.job.payload);
        }
        if let Some(most) = patch.max_attempts.filter(|most| *most != self.job.max_attempts) {
            self.names.push("maxAttempts");
            (self.before.max_attempts, self.after.max_attempts) = (Some(self.job.max_attempts), Some(most));
            self.job.max_attempts = most;
        }
        let options = JobOptions::from_stored(self.job.options.as_deref());
        if let Some(tags) = patch.tags.as_ref().filter(|tags| **tags != options.tags) {
            self.names.push("tags");
            (self.before.tags, self.after.tags) = (Some(options.tags.clone()), Some(tags.clone()));
            self.job.options = JobOptions { tags: tags.clone(), ..options }.to_stored();
        }
    }

    fn wait_until(&mut self, run_at: Timestamp, now: Timestamp) {
        // What may run already keeps its place when it is told to run now.
        let is_ready = self.live.state == JobState::Queued && run_at <= now;
        if run_at == self.live.run_at || is_ready {
            return;
        }
        self.names.push("runAt");
        (self.before.run_at, self.after.run_at) = (Some(self.live.run_at), Some(run_at));
        self.live.run_at = run_at;
        if self.live.state != JobState::Blocked {
            self.live.state = if run_at > now { JobState::Scheduled } else { JobState::Queued };
            self.live.gate = None;
        }
    }

    /// `throttled` is the state of a job behind a limit's gate: without it, the job is ready.
    fn leave_gate(&mut self, now: Timestamp) {
        if self.live.gate.take().is_some() && self.live.state == JobState::Throttled {
            self.live.state = JobState::Queued;
            self.live.run_at = self.live.run_at.min(now);
        }
    }
}

fn to_json(fields: &Fields) -> Option<RawJson> {
    serde_json::to_string(fields).ok().map(RawJson::trusted)
}

/// A job that is to be removed.
#[derive(Debug)]
pub(super) struct Forgotten {
    /// Its shard,
    pub(super) shard: ShardId,
    /// its queue
    pub(super) queue: String,
    /// and its state, for the counters.
    pub(super) state: JobState,
    /// Of the audit row.
    pub(super) audit: AuditOp,
    /// The answer.
    pub(super) answer: Changed,
}

/// What the audit log keeps of a job that is gone.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Gone<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    queue: &'a str,
    tenant_id: &'a str,
    payload: &'a RawJson,
    state: JobState,
    attempts: i32,
    created_at: Timestamp,
    finished_at: Timestamp,
}

/// Decides on the removal of a job; the answer when it stays.
pub(super) fn forget(
    parts: Option<&JobParts>,
    is_needed: bool,
    op: &ForgetOp,
    now: Timestamp,
) -> Result<Forgotten, Changed> {
    let parts = parts.ok_or(Changed::NotFound)?;
    let Some(outcome) = &parts.outcome else {
        let live = parts.live.as_ref().filter(|live| live.shard == op.owner.shard);
        return Err(live.map_or(Changed::NotFound, |_| Changed::Conflict(parts.state(now))));
    };
    if outcome.shard != op.owner.shard {
        return Err(Changed::NotFound);
    }
    if op.dead_letter_only && outcome.state != JobState::Failed {
        return Err(Changed::Conflict(outcome.state));
    }
    if is_needed {
        return Err(Changed::DependedOn);
    }
    let payload = RawJson::trusted(parts.job.payload.clone());
    let gone = Gone {
        kind: &parts.job.kind,
        queue: &outcome.queue,
        tenant_id: &parts.job.tenant,
        payload: &payload,
        state: outcome.state,
        attempts: outcome.attempt,
        created_at: parts.job.created_at,
        finished_at: outcome.finished_at,
    };
    let audit = AuditOp {
        action: if op.dead_letter_only { "dead_letter.deleted" } else { "job.deleted" },
        object_type: "job",
        object_id: op.job.to_string(),
        by: op.by.clone(),
        before: serde_json::to_string(&gone).ok().map(RawJson::trusted),
        after: None,
    };
    let from = outcome.state;
    let answer = Changed::Done(Box::new(ChangedJob { from, entry: None, kind: None, wakes: Vec::new() }));
    Ok(Forgotten { shard: outcome.shard, queue: outcome.queue.clone(), state: from, audit, answer })
}
