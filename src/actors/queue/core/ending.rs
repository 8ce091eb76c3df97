//! How leases end.

use super::*;
use crate::actors::queue::stats::Counted;

impl QueueCore {
    /// A worker reports the end of its attempt under `fence`.
    pub fn report(
        &mut self,
        session: SessionId,
        job: JobId,
        fence: Fence,
        report: Report,
        tag: Option<u64>,
        out: &mut Vec<Effect>,
    ) {
        if self.is_busy(job) {
            self.report_later(session, job, fence, report, tag, out);
            return;
        }
        // Without such a lease the store answers how the attempt is recorded: its guard writes nothing.
        let kind = self.end_kind(job, fence, report);
        self.write_end(job, fence, kind, tag, out);
    }

    /// Keeps a report until the job's op is out of the way. A session repeats a report that it has no answer
    /// to: the newest of an attempt replaces the one before, so that an outage piles nothing up.
    fn report_later(
        &mut self,
        session: SessionId,
        job: JobId,
        fence: Fence,
        report: Report,
        tag: Option<u64>,
        out: &mut Vec<Effect>,
    ) {
        if let Some((ending, _, known)) = self.unended_ops.get_mut(&job)
            && *ending == fence
        {
            out.extend(std::mem::replace(known, tag).map(Effect::Forget));
            return;
        }
        let waiting = self.waiting.entry(job).or_default();
        let same = waiting.iter_mut().find_map(|waiting| match waiting {
            Waiting::Report { fence: known, tag, .. } if *known == fence => Some(tag),
            Waiting::Report { .. }
            | Waiting::Interfere { .. }
            | Waiting::SessionEnded { .. }
            | Waiting::Log { .. } => None,
        });
        match same {
            Some(known) => out.extend(std::mem::replace(known, tag).map(Effect::Forget)),
            None => waiting.push_back(Waiting::Report { session, fence, report, tag }),
        }
    }

    fn end_kind(&mut self, job: JobId, fence: Fence, report: Report) -> EndKind {
        let random = self.random();
        let lease = self.leases.get(job).filter(|lease| lease.fence == fence);
        let is_canceled = lease.is_some_and(|lease| lease.cancel_requested);
        let canceled = || EndKind::Canceled { reason: "canceled while it ran".into() };
        match report {
            Report::Completed(result) => EndKind::Completed { result },
            Report::Canceled => canceled(),
            Report::Failed { .. } | Report::Released { .. } if is_canceled => canceled(),
            Report::Released { reason, after_ms: None } => EndKind::Released { reason },
            Report::Released { after_ms: Some(delay_ms), .. } => EndKind::Snoozed { delay_ms },
            Report::Failed { error, retryable, retry_after_ms } => {
                let Some(lease) = lease else { return EndKind::Failed { error } };
                if !retryable || lease.attempt >= lease.max_attempts {
                    return EndKind::Failed { error };
                }
                let policy = lease.retry.unwrap_or(self.retry_policy());
                let attempt = u32::try_from(lease.attempt).unwrap_or(1);
                let backoff = policy.delay(attempt, random).as_millis();
                let backoff = i64::try_from(backoff).unwrap_or(i64::MAX);
                EndKind::Retry { delay_ms: retry_after_ms.map_or(backoff, |after| after.max(0)), error }
            }
        }
    }

    /// Ends a lease whose time is over: as canceled or timed out when its worker has had one more TTL after the
    /// cancel or its time-out, and as lost otherwise.
    pub(super) fn run_out(&mut self, job: JobId, fence: Fence, now: Now, out: &mut Vec<Effect>) {
        let Some(lease) = self.leases.get(job).filter(|lease| lease.fence == fence) else { return };
        if lease.cancel_by_ms.is_some_and(|by| by <= now.mono_ms) {
            crate::metrics::lease_forced("cancel");
            let reason = "canceled by force: its worker had not stopped in time".into();
            self.write_end(job, fence, EndKind::Canceled { reason }, None, out);
        } else if lease.timeout_by_ms <= now.mono_ms {
            crate::metrics::lease_forced("timeout");
            let message = "its worker had not stopped one lease time after the time-out".into();
            let error = AttemptError { error_type: "timeout".into(), message, stack_trace: None };
            let report = Report::Failed { error, retryable: true, retry_after_ms: None };
            let kind = self.end_kind(job, fence, report);
            self.write_end(job, fence, kind, None, out);
        } else {
            self.lose(job, fence, "its lease ran out without a word", out);
        }
    }

    /// Ends a lease that nobody speaks for any longer: uses the attempt up, and the third such death
    /// under a job makes it poison.
    pub(super) fn lose(&mut self, job: JobId, fence: Fence, why: &str, out: &mut Vec<Effect>) {
        let Some(lease) = self.leases.get(job).filter(|lease| lease.fence == fence) else { return };
        let error = |error_type: &str, message: String| AttemptError {
            error_type: error_type.to_owned(),
            message,
            stack_trace: None,
        };
        let deaths = lease.deaths + 1;
        let kind = if lease.cancel_requested {
            EndKind::Canceled { reason: format!("canceled; {why}") }
        } else if deaths >= DEATHS_MAX {
            let message = format!("{deaths} workers ended under this job; the last: {why}");
            EndKind::RecoveredFailed { error: error("poison", message) }
        } else if lease.attempt >= lease.max_attempts {
            EndKind::RecoveredFailed { error: error("lease_expired", why.to_owned()) }
        } else {
            EndKind::Recovered { error: error("lease_expired", why.to_owned()) }
        };
        self.write_end(job, fence, kind, None, out);
    }

    pub(super) fn give_back(&mut self, job: JobId, fence: Fence, reason: &str, out: &mut Vec<Effect>) {
        let is_canceled = self.leases.get(job).is_some_and(|lease| lease.cancel_requested);
        let kind = if is_canceled {
            EndKind::Canceled { reason: "canceled while it ran".into() }
        } else {
            EndKind::Released { reason: reason.to_owned() }
        };
        self.write_end(job, fence, kind, None, out);
    }

    pub(super) fn write_end(
        &mut self,
        job: JobId,
        fence: Fence,
        kind: EndKind,
        tag: Option<u64>,
        out: &mut Vec<Effect>,
    ) {
        let is_reported = tag.is_some();
        self.in_journal.insert(job, InJournal::End { fence, kind: kind.clone(), is_reported });
        out.push(Effect::Write(Write::End { job, fence, kind }, tag));
    }

    /// The actor of a lease ended unasked. It is started again; after [`ACTOR_FAILURES_MAX`] times its job
    /// is poison. Returns what it was, for the record.
    pub fn actor_down(&mut self, job: JobId, fence: Fence, why: &str, out: &mut Vec<Effect>) {
        let Some(lease) = self.leases.get_mut(job).filter(|lease| lease.fence == fence) else { return };
        lease.actor_failures += 1;
        let failures = lease.actor_failures;
        if failures < ACTOR_FAILURES_MAX {
            self.restart_actor(job, fence, out);
        } else if !self.is_busy(job) {
            let message = format!("its actor ended {failures} times; the last: {why}");
            let error = AttemptError { error_type: "poison".into(), message, stack_trace: None };
            self.write_end(job, fence, EndKind::RecoveredFailed { error }, None, out);
        }
    }

    /// Starts the actor of a lease again, and repeats the cancel that the one before may not have passed on.
    pub fn restart_actor(&self, job: JobId, fence: Fence, out: &mut Vec<Effect>) {
        let Some(lease) = self.leases.get(job).filter(|lease| lease.fence == fence) else { return };
        out.push(Effect::Restart(job, fence, lease.session));
        if lease.cancel_requested {
            out.push(Effect::TellCancel(job, fence, lease.session));
        }
    }

    /// As what the end that is in the journal counts.
    #[must_use]
    pub fn ending(&self, job: JobId) -> Counted {
        match self.in_journal.get(&job) {
            Some(InJournal::End { kind, .. }) => match kind {
                EndKind::Completed { .. } => Counted::Completed,
                EndKind::Failed { .. } | EndKind::RecoveredFailed { .. } => Counted::DeadLettered,
                EndKind::Retry { .. } | EndKind::Recovered { .. } => Counted::Retried,
                EndKind::Canceled { .. } => Counted::Canceled,
                EndKind::Released { .. } | EndKind::Snoozed { .. } => Counted::Released,
            },
            _ => Counted::Released,
        }
    }

    /// A lease was ended by a commit.
    pub fn ended(&mut self, job: JobId, ended: Ended, now: Now, out: &mut Vec<Effect>) {
        let Some(InJournal::End { fence, kind, is_reported }) = self.in_journal.remove(&job) else { return };
        let lease = self.leases.remove(job, fence);
        if !is_reported && let Some(lease) = &lease {
            out.push(Effect::TellLost(job, fence, lease.session));
        }
        self.count(JobState::Active, -1);
        self.count(ended.state, 1);
        out.push(Effect::Stop(job, fence));
        if matches!(kind, EndKind::Recovered { .. } | EndKind::RecoveredFailed { .. }) {
            let kind = crate::domain::EventKind::Recovered;
            let worker = lease.map(|lease| lease.worker);
            out.push(Effect::Told(Happened { job, kind, state: ended.state, worker }));
        } else {
            self.tell(job, ended.state, lease.map(|lease| lease.worker), out);
        }
        if let Some(entry) = ended.entry {
            self.place(entry, now);
        }
        if !ended.wakes.is_empty() {
            out.push(Effect::Wake(ended.wakes));
        }
        self.next_waiting(job, out);
        if self.control.config.concurrency.is_some() {
            // Sessions have their credits back while a queue is full: they are asked again.
            self.dispatch(out);
        }
    }

    /// There was no such lease in the store.
    pub fn end_stale(&mut self, job: JobId, out: &mut Vec<Effect>) {
        let Some(InJournal::End { fence, .. }) = self.in_journal.remove(&job) else { return };
        if self.leases.remove(job, fence).is_some() {
            out.push(Effect::Stop(job, fence));
            out.push(Effect::Reload("a lease in memory was not in the store"));
        }
        self.next_waiting(job, out);
    }

    /// An end could not be written for a passing reason: tried again at the next tick, until it can.
    /// `tag` names who waits for it.
    pub fn end_failed(&mut self, job: JobId, tag: Option<u64>) {
        if let Some(InJournal::End { fence, kind, .. }) = self.in_journal.remove(&job) {
            self.unended.push(job);
            self.unended_ops.insert(job, (fence, kind, tag));
        }
    }
}
