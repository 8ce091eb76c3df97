//! How stored rows become a job, its timeline and its attempts. Shared by the engines.
//!
//! The ordinary life writes few rows: the job row is the timeline's first, the lease row is its
//! `job.started`, and the outcome row packs the last attempt and the end. Only the unusual is in
//! `event` and `attempt`. A deferred job whose time has come is shown as `queued`, with its row, before
//! anything is written: that row is written with the next change (the grant's lease row stands for it
//! by `due_at`).
//!
//! ```text
//! seq 1            job row            job.enqueued | job.scheduled | job.blocked
//! seq 2 …          event rows         retries, unblocks, cancels asked, releases …
//! started_seq - 1  lease | outcome    job.enqueued, when it was granted from a deferred state (due_at)
//! started_seq      lease | outcome    job.started
//! event_seq        outcome            job.completed | job.failed | job.recovered | job.canceled
//! ```

use crate::domain::{
    AttemptRow, AttemptStatus, DependencyPolicy, EventKind, Fence, JobId, JobOptions, JobState, JobView,
    LeaseToken, RawJson, ShardId, TimelineRow, Timestamp, WaitingFor, WorkflowId,
};

/// A row of `job`: the definition.
#[derive(Debug, Clone)]
pub struct JobRow {
    /// The job.
    pub id: JobId,
    /// What handles it.
    pub kind: String,
    /// The queue it was made in, or moved to.
    pub queue: String,
    /// Whose it is.
    pub tenant: String,
    /// What the handler gets.
    pub payload: String,
    /// 0 to 9.
    pub priority: i16,
    /// The state it was born in: `queued`, `scheduled` or `blocked`.
    pub birth_state: JobState,
    /// The `run_at` it was born with.
    pub run_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// Attempts it has.
    pub max_attempts: i32,
    /// How long an attempt may take, in seconds.
    pub timeout_seconds: i32,
    /// The version of the payload's shape.
    pub schema_version: i32,
    /// The key of its submission.
    pub idempotency_key: Option<String>,
    /// A label that groups jobs.
    pub workflow_id: Option<uuid::Uuid>,
    /// What a failed dependency means; `None` without dependencies.
    pub dependency_policy: Option<DependencyPolicy>,
    /// The stored form of its options.
    pub options: Option<String>,
}

/// A row of `job_live`: what has not finished.
#[derive(Debug, Clone)]
pub struct LiveRow {
    /// Its shard.
    pub shard: ShardId,
    /// Its queue.
    pub queue: String,
    /// 0 to 9.
    pub priority: i16,
    /// Its place within the priority, and not before it.
    pub run_at: Timestamp,
    /// As stored: a leased job has the state it was granted from.
    pub state: JobState,
    /// What keeps it out of the ready order.
    pub gate: Option<String>,
    /// Attempts used up.
    pub attempt: i32,
    /// The newest fence that ended; 0 before the first.
    pub fence: Fence,
    /// The newest written `seq`, but for those of a lease.
    pub event_seq: i64,
    /// Why it is blocked.
    pub blocked_reason: Option<String>,
    /// The text of its last error.
    pub last_error: Option<String>,
    /// Who ran it last.
    pub last_worker: Option<String>,
    /// When its last ended attempt began.
    pub last_started_at: Option<Timestamp>,
    /// How long that took.
    pub execution_ms: i64,
    /// When the row last changed.
    pub updated_at: Timestamp,
}

/// A row of `lease`.
#[derive(Debug, Clone)]
pub struct LeaseSnapshot {
    /// Its shard.
    pub shard: ShardId,
    /// Its fence.
    pub fence: Fence,
    /// The number of the attempt.
    pub attempt: i32,
    /// Who holds it.
    pub worker: String,
    /// When it was given.
    pub granted_at: Timestamp,
    /// How long it lasts without a renewal.
    pub ttl_ms: i64,
    /// Whether a cancel was asked.
    pub cancel_requested: bool,
    /// The `seq` of its `job.started`.
    pub started_seq: i64,
    /// When the job became ready, if it was granted from a deferred state.
    pub due_at: Option<Timestamp>,
}

/// A row of `outcome`: how the job ended, with its last attempt packed in.
#[derive(Debug, Clone)]
pub struct OutcomeRow {
    /// Its shard.
    pub shard: ShardId,
    /// Its queue.
    pub queue: String,
    /// How it ended.
    pub state: JobState,
    /// The newest fence; 0 if it never ran.
    pub fence: Fence,
    /// Attempts used up.
    pub attempt: i32,
    /// When it ended.
    pub finished_at: Timestamp,
    /// The `seq` of the end.
    pub event_seq: i64,
    /// What the end is called in the timeline.
    pub end_kind: EventKind,
    /// Its last `run_at`.
    pub run_at: Timestamp,
    /// 0 to 9.
    pub priority: i16,
    /// What it made.
    pub result: Option<String>,
    /// Why it was canceled.
    pub reason: Option<String>,
    /// The `seq` of the last attempt's `job.started`; `None` if it ended while it waited.
    pub started_seq: Option<i64>,
    /// When the last attempt began.
    pub started_at: Option<Timestamp>,
    /// How long the last attempt took, of a job that ended while it waited.
    pub execution_ms: Option<i64>,
    /// When it had become ready, if it was granted from a deferred state.
    pub due_at: Option<Timestamp>,
    /// How the last attempt ended.
    pub attempt_status: Option<AttemptStatus>,
    /// Who ran it last.
    pub worker: Option<String>,
    /// The last error's type.
    pub error_type: Option<String>,
    /// The last error's text.
    pub error_message: Option<String>,
    /// Where it happened.
    pub stack_trace: Option<String>,
}

impl OutcomeRow {
    /// How long the last attempt took; 0 if there was none.
    #[must_use]
    pub fn last_execution_ms(&self) -> i64 {
        let packed = self.attempt_status.and(self.started_at);
        let took = packed.map(|at| self.finished_at.millis_since(at).max(0));
        took.or(self.execution_ms).unwrap_or(0)
    }
}

/// A job with what belongs to it: exactly one of `live` and `outcome`, and a `lease` only with `live`.
#[derive(Debug, Clone)]
pub struct JobParts {
    /// The definition.
    pub job: JobRow,
    /// While it has not finished.
    pub live: Option<LiveRow>,
    /// While it runs.
    pub lease: Option<LeaseSnapshot>,
    /// When it has finished.
    pub outcome: Option<OutcomeRow>,
}

/// What an event says for people. Never stored, so that it can be put better later.
#[must_use]
pub fn message(kind: EventKind, state: JobState) -> &'static str {
    match (kind, state) {
        (EventKind::Enqueued, _) => "ready to run",
        (EventKind::Blocked, _) => "waits for jobs it depends on",
        (EventKind::Unblocked, _) => "every job it depends on has ended as needed",
        (EventKind::Scheduled, _) => "waits for its time",
        (EventKind::Throttled, _) => "put aside by a limit",
        (EventKind::Started, _) => "leased by a worker",
        (EventKind::Completed, _) => "completed",
        (EventKind::Retrying, _) => "the attempt failed; another follows",
        (EventKind::Failed, _) => "failed for good; now in the dead letters",
        (EventKind::Recovered, JobState::Failed) => "the lease ended without a word, and no attempt is left",
        (EventKind::Recovered, _) => "the lease ended without a word; the job runs again",
        (EventKind::CancelRequested, _) => "its worker is asked to stop",
        (EventKind::Canceled, _) => "canceled",
        (EventKind::Retried, _) => "run again by an operator",
        (EventKind::Replayed, _) => "run again from the dead letters",
        (EventKind::Updated, _) => "its definition was changed",
        (EventKind::DuplicateSuppressed, _) => "a repeat of its submission was answered with it",
    }
}

/// The kind of the row that a birth in `state` is.
#[must_use]
pub fn birth_kind(state: JobState) -> EventKind {
    match state {
        JobState::Blocked => EventKind::Blocked,
        JobState::Scheduled => EventKind::Scheduled,
        _ => EventKind::Enqueued,
    }
}

impl JobParts {
    /// The state shown: `active` with a lease, `queued` for a deferred job whose time has come.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> JobState {
        match (&self.live, &self.lease, &self.outcome) {
            (_, Some(_), _) => JobState::Active,
            (Some(live), None, _) if self.is_due(live, now) => JobState::Queued,
            (Some(live), None, _) => live.state,
            (None, None, Some(outcome)) => outcome.state,
            // Between two reads of a row that moved; the engines read in one snapshot.
            (None, None, None) => self.job.birth_state,
        }
    }

    fn is_due(&self, live: &LiveRow, now: Timestamp) -> bool {
        live.state.is_deferred() && live.gate.is_none() && live.run_at <= now
    }

    /// The job as it is shown at `now`. `lease_token` is filled in; who may not see it must drop it.
    #[must_use]
    pub fn view(&self, now: Timestamp) -> JobView {
        let job = &self.job;
        let (live, lease, outcome) = (self.live.as_ref(), self.lease.as_ref(), self.outcome.as_ref());
        let state = self.state(now);
        let options = JobOptions::from_stored(job.options.as_deref());
        let run_at = live.map(|l| l.run_at).or(outcome.map(|o| o.run_at)).unwrap_or(job.run_at);
        let started_at = lease
            .map(|l| l.granted_at)
            .or(live.and_then(|l| l.last_started_at))
            .or(outcome.and_then(|o| o.started_at));
        let execution_ms = match (lease, live, outcome) {
            (Some(lease), _, _) => now.millis_since(lease.granted_at).max(0),
            (None, Some(live), _) => live.execution_ms,
            (None, None, Some(outcome)) => outcome.last_execution_ms(),
            (None, None, None) => 0,
        };
        let fence = lease
            .map(|l| l.fence)
            .or(live.map(|l| l.fence))
            .or(outcome.map(|o| o.fence))
            .filter(|fence| fence.0 > 0);
        JobView {
            id: job.id,
            kind: job.kind.clone(),
            queue: live.map(|l| &l.queue).or(outcome.map(|o| &o.queue)).unwrap_or(&job.queue).clone(),
            tenant_id: job.tenant.clone(),
            payload: RawJson::trusted(job.payload.as_str()),
            priority: live.map(|l| l.priority).or(outcome.map(|o| o.priority)).unwrap_or(job.priority),
            attempts: lease
                .map(|l| l.attempt)
                .or(live.map(|l| l.attempt))
                .or(outcome.map(|o| o.attempt))
                .unwrap_or(0),
            max_attempts: job.max_attempts,
            state,
            schema_version: job.schema_version,
            timeout_seconds: job.timeout_seconds,
            cancel_requested: lease.is_some_and(|l| l.cancel_requested),
            created_at: job.created_at,
            updated_at: lease
                .map(|l| l.granted_at)
                .or(live.map(|l| l.updated_at))
                .or(outcome.map(|o| o.finished_at))
                .unwrap_or(job.created_at),
            run_at,
            execution_ms,
            idempotency_key: job.idempotency_key.clone(),
            workflow_id: job.workflow_id.map(WorkflowId),
            parent_job_id: options.parent_job_id,
            dependency_policy: job.dependency_policy,
            blocked_reason: live
                .filter(|_| state == JobState::Blocked)
                .and_then(|l| l.blocked_reason.clone()),
            started_at,
            finished_at: outcome.map(|o| o.finished_at),
            last_heartbeat_at: None,
            lease_expires_at: lease.map(|l| l.granted_at.plus_millis(l.ttl_ms)),
            throttle_until: live.filter(|_| state == JobState::Throttled).map(|l| l.run_at),
            last_error: live
                .and_then(|l| l.last_error.clone())
                .or(outcome.and_then(|o| o.error_message.clone())),
            result: outcome.and_then(|o| o.result.as_deref()).map(RawJson::trusted),
            worker_id: lease
                .map(|l| l.worker.clone())
                .or(live.and_then(|l| l.last_worker.clone()))
                .or(outcome.and_then(|o| o.worker.clone())),
            lease_token: lease
                .map(|l| LeaseToken { shard: l.shard, fence: l.fence, job: job.id }.to_string()),
            fence,
            progress: None,
            tags: options.tags,
            metadata: options.metadata,
            traceparent: options.traceparent,
            concurrency_key: options.concurrency_key,
            fairness_key: options.fairness_key,
            cost: options.cost,
            expires_at: options.expires_at,
            waiting_for: live.and_then(|l| l.gate.as_deref()).and_then(behind).or(waiting_for(state)),
            controls: Vec::new(),
            actor: None,
        }
    }

    /// The timeline, given its `event` rows in the order of `seq`; oldest first.
    #[must_use]
    pub fn timeline(&self, events: Vec<TimelineRow>, now: Timestamp) -> Vec<TimelineRow> {
        let job = &self.job;
        let birth =
            self.row(1, birth_kind(job.birth_state), job.birth_state, job.created_at, None, None, None);
        let mut rows = Vec::with_capacity(events.len() + 4);
        rows.push(birth);
        rows.extend(events);
        if let Some(lease) = &self.lease {
            let who = (lease.attempt, lease.fence, lease.worker.as_str());
            self.started_rows(&mut rows, lease.started_seq, lease.granted_at, lease.due_at, who);
        } else if let Some(live) = self.live.as_ref().filter(|live| self.is_due(live, now)) {
            rows.push(self.row(
                live.event_seq + 1,
                EventKind::Enqueued,
                JobState::Queued,
                live.run_at,
                None,
                None,
                None,
            ));
        }
        if let Some(outcome) = &self.outcome {
            rows.extend(self.end_rows(outcome));
        }
        // A cancel asked of a running job is an event row behind the lease's rows.
        rows.sort_by_key(|row| row.seq);
        rows
    }

    /// The rows that an outcome stands for; a retry writes them out as `event` rows.
    #[must_use]
    pub fn end_rows(&self, outcome: &OutcomeRow) -> Vec<TimelineRow> {
        let mut rows = Vec::with_capacity(3);
        let worker = outcome.worker.as_deref().unwrap_or_default();
        let ran = outcome.started_seq.zip(outcome.started_at);
        if let Some((seq, at)) = ran {
            self.started_rows(&mut rows, seq, at, outcome.due_at, (outcome.attempt, outcome.fence, worker));
        }
        let metadata = match (&outcome.error_type, &outcome.reason) {
            (Some(error), _) if outcome.end_kind != EventKind::Completed => {
                Some(serde_json::json!({ "errorType": error, "error": outcome.error_message }))
            }
            (_, Some(reason)) => Some(serde_json::json!({ "reason": reason })),
            _ => None,
        };
        let who = ran.map(|_| (outcome.attempt, outcome.fence));
        rows.push(self.row(
            outcome.event_seq,
            outcome.end_kind,
            outcome.state,
            outcome.finished_at,
            who,
            ran.map(|_| worker),
            metadata.map(|value| value.to_string()),
        ));
        rows
    }

    /// The attempts, given the rows of `attempt` in the order of their fences; oldest first.
    #[must_use]
    pub fn attempts(&self, mut rows: Vec<AttemptRow>) -> Vec<AttemptRow> {
        if let Some(lease) = &self.lease {
            rows.push(AttemptRow {
                id: AttemptRow::id_of(self.job.id, lease.fence),
                job_id: self.job.id,
                attempt: lease.attempt,
                fence: lease.fence,
                worker_id: lease.worker.clone(),
                status: AttemptStatus::Started,
                error_type: None,
                error_message: None,
                stack_trace: None,
                lease_expired: false,
                started_at: lease.granted_at,
                finished_at: None,
            });
        }
        rows.extend(self.outcome.as_ref().and_then(|outcome| self.packed_attempt(outcome)));
        rows
    }

    /// The attempt that an outcome packs, if it ended one.
    #[must_use]
    pub fn packed_attempt(&self, outcome: &OutcomeRow) -> Option<AttemptRow> {
        let (status, started_at) = outcome.attempt_status.zip(outcome.started_at)?;
        Some(AttemptRow {
            id: AttemptRow::id_of(self.job.id, outcome.fence),
            job_id: self.job.id,
            attempt: outcome.attempt,
            fence: outcome.fence,
            worker_id: outcome.worker.clone().unwrap_or_default(),
            status,
            error_type: outcome.error_type.clone(),
            // Without a type it is an earlier attempt's, kept as the job's last error.
            error_message: outcome.error_type.as_ref().and(outcome.error_message.clone()),
            stack_trace: outcome.stack_trace.clone(),
            lease_expired: status == AttemptStatus::LeaseExpired,
            started_at,
            finished_at: Some(outcome.finished_at),
        })
    }

    fn started_rows(
        &self,
        rows: &mut Vec<TimelineRow>,
        seq: i64,
        at: Timestamp,
        due_at: Option<Timestamp>,
        (attempt, fence, worker): (i32, Fence, &str),
    ) {
        if let Some(due) = due_at {
            rows.push(self.row(seq - 1, EventKind::Enqueued, JobState::Queued, due, None, None, None));
        }
        let who = Some((attempt, fence));
        rows.push(self.row(seq, EventKind::Started, JobState::Active, at, who, Some(worker), None));
    }

    #[expect(clippy::too_many_arguments, reason = "one for each column")]
    fn row(
        &self,
        seq: i64,
        kind: EventKind,
        state: JobState,
        at: Timestamp,
        who: Option<(i32, Fence)>,
        worker: Option<&str>,
        metadata: Option<String>,
    ) -> TimelineRow {
        TimelineRow {
            job_id: self.job.id,
            seq,
            kind,
            message: message(kind, state).to_owned(),
            occurred_at: at,
            state,
            attempt: who.map(|(attempt, _)| attempt),
            fence: who.map(|(_, fence)| fence),
            worker_id: worker.map(str::to_owned),
            metadata: metadata.map(RawJson::trusted),
        }
    }
}

/// What a job behind this gate waits for.
fn behind(gate: &str) -> Option<WaitingFor> {
    match gate.split_once(':')?.0 {
        // No worker handles its type.
        "type" => Some(WaitingFor::Worker),
        "hold" => Some(WaitingFor::Hold),
        "limit" => Some(WaitingFor::RateLimit),
        _ => None,
    }
}

fn waiting_for(state: JobState) -> Option<WaitingFor> {
    match state {
        JobState::Queued => Some(WaitingFor::Turn),
        JobState::Scheduled => Some(WaitingFor::Time),
        JobState::Retrying => Some(WaitingFor::Backoff),
        JobState::Blocked => Some(WaitingFor::Dependency),
        JobState::Throttled => Some(WaitingFor::RateLimit),
        JobState::Active | JobState::Completed | JobState::Failed | JobState::Canceled => None,
    }
}
