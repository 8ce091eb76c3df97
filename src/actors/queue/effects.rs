//! Carrying out what the core decided, and bringing it the answers.

use std::time::Duration;

use super::{
    actor::QueueState,
    core::{Effect, Happened, Said, Write},
    leasing::has_ended,
    messages::{Arrival, QueueMessage, QueueOp, QueueRequest},
    stats::Counted,
};
use crate::{
    actors::{
        console::StreamEvent,
        journal::{Applied, OpKey, Outcome, QueueTicket, Reply},
        lease::LeaseMessage,
        platform::AskError,
        worker::messages::SessionOp,
    },
    domain::{EventKind, JobId, NewJob, Timestamp},
    store::{
        Op, OpResult,
        ops::{Canceled, EndOp, GrantOp, LogOp, SettingsOp, SubmitOp, Submitted},
    },
};

impl QueueState {
    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Write(write, tag) => self.write(write, tag),
                Effect::Refill { priority, after, limit } => {
                    let (source, myself, incarnation) =
                        (self.source(), self.myself.clone(), self.incarnation);
                    self.tasks.spawn(async move {
                        let now = source.clock.now();
                        let most = i64::try_from(limit).unwrap_or(i64::MAX);
                        let (shard, queue) = (source.shard, &source.queue);
                        let read = source.store.ready(shard, queue, priority, after, now, most).await;
                        let rows = read.inspect_err(|error| tracing::warn!(%error, "window not read")).ok();
                        let message = QueueMessage::Refilled { incarnation, priority, after, limit, rows };
                        drop(myself.cast(message));
                    });
                }
                Effect::LoadDeferred { after, until } => {
                    let (source, myself, incarnation) =
                        (self.source(), self.myself.clone(), self.incarnation);
                    self.tasks.spawn(async move {
                        let read = source.deferred(after, until).await;
                        let read = read.inspect_err(|error| tracing::warn!(%error, "deferred jobs not read"));
                        let (until, rows) = read.map_or((until, None), |(to, rows)| (to, Some(rows)));
                        drop(myself.cast(QueueMessage::DeferredLoaded { incarnation, until, rows }));
                    });
                }
                Effect::Start(granted, session) => self.start_lease(granted, session),
                Effect::Restart(job, fence, session) => self.restart_lease(job, fence, session),
                Effect::Stop(job, fence) => self.stop_lease(job, fence),
                Effect::TellCancel(job, fence, _session) => {
                    if let Some((held, actor)) = self.leases.get(&job)
                        && *held == fence
                    {
                        // An actor that is down is started again, which repeats the cancel.
                        drop(actor.cast(LeaseMessage::Cancel));
                    }
                }
                Effect::TellLost(job, fence, session) => {
                    if let Some(facts) = self.args.sessions.get(session) {
                        // Unheard, the session learns it with its next renewal.
                        drop(facts.door.try_send(SessionOp::Lost(vec![(job, fence)])));
                    }
                }
                Effect::Announce(session) => {
                    let told = self.args.sessions.get(session).is_some_and(|facts| {
                        let announce = SessionOp::Announce(self.args.handle.clone(), self.incarnation);
                        facts.door.try_send(announce).is_ok()
                    });
                    if !told {
                        tracing::debug!("a session did not hear of ready jobs");
                    }
                }
                Effect::ReturnCredits(session, count) => {
                    if let Some(facts) = self.args.sessions.get(session) {
                        let queue = self.args.handle.clone();
                        let returned = SessionOp::Returned(queue, self.incarnation, count);
                        if facts.door.try_send(returned).is_err() {
                            // Without room they stay here, and go back at a later tick.
                            self.core.keep_credits(session, count);
                        }
                    }
                }
                Effect::Forget(tag) => drop(self.replies.remove(&tag)),
                Effect::Told(happened) => self.tell(happened),
                Effect::Wake(shards) => self.args.shards.wake(&shards),
                Effect::Reload(why) => {
                    tracing::warn!(queue.name = %self.args.handle.name(), why, "loading anew");
                    crate::metrics::queue_reloaded();
                    self.start_load();
                    // What else the core decided belongs to the memory that was dropped.
                    return;
                }
            }
        }
    }

    fn tell(&mut self, happened: Happened) {
        let now = self.args.clock.now();
        match happened.kind {
            EventKind::Recovered => {
                crate::metrics::lease_lost();
                self.args.handle.view().record(|stats| stats.count(Counted::Recovered, now));
            }
            // With a worker it was counted as the end of an attempt.
            EventKind::Canceled if happened.worker.is_none() => {
                self.args.handle.view().record(|stats| stats.count(Counted::Canceled, now));
            }
            _ => {}
        }
        let mut event = StreamEvent::new(happened.kind.name(), now);
        event.job_id = Some(happened.job);
        event.queue = Some(self.args.handle.name().to_string());
        event.worker_id = happened.worker.map(|worker| worker.to_string());
        event.state = Some(happened.state);
        self.told.push(event);
        if self.told.len() >= 1_024 {
            self.args.hub.tell(std::mem::take(&mut self.told));
        }
    }

    fn tag(&mut self, reply: Reply) -> u64 {
        self.next_tag += 1;
        self.replies.insert(self.next_tag, reply);
        self.next_tag
    }

    fn write(&mut self, write: Write, tag: Option<u64>) {
        let owner = self.args.config.owner;
        let (op, key) = match write {
            Write::Grant { job, floor, session, worker } => {
                let ttl_ms = i64::try_from(self.core.lease_ttl_ms()).unwrap_or(i64::MAX);
                let boot = self.args.boot;
                let op = GrantOp { owner, job, fence_floor: floor, worker, session, boot, ttl_ms };
                (Op::Grant(op), OpKey::Grant(job))
            }
            Write::End { job, fence, kind } => (Op::End(EndOp { owner, job, fence, kind }), OpKey::End(job)),
            Write::Interfere { job, what } => (what.into_op(owner, job), OpKey::Interfere(job)),
            Write::Log(Said { job, fence, first, lines }) => {
                (Op::Log(LogOp { owner, job, fence, first, lines }), OpKey::Log(job))
            }
            Write::Park(op) => {
                let key = OpKey::Park(op.gate.clone(), op.jobs.clone());
                (Op::Park(op), key)
            }
            Write::Unpark(op) => {
                let key = OpKey::Unpark(op.gate.clone());
                (Op::Unpark(op), key)
            }
            Write::Settings { paused, draining, config, action, by } => {
                let queue = self.args.handle.name().to_string();
                let op = SettingsOp { owner, queue, paused, draining, config, action, by };
                // Whoever asked is answered when it is in force here.
                self.journal(self.lane, Op::Settings(op), OpKey::Settings(tag, action), None);
                return;
            }
        };
        let reply = tag.and_then(|tag| self.replies.remove(&tag));
        self.journal(self.lane, op, key, reply);
    }

    fn journal(&mut self, lane: usize, op: Op, key: OpKey, reply: Option<Reply>) {
        self.serial += 1;
        let ticket = QueueTicket::new(self.args.handle.results().clone(), self.incarnation, key);
        self.args.journal.write(lane, op, reply, Some(ticket));
    }

    pub(super) fn take_request(&mut self, request: QueueRequest) {
        match request {
            QueueRequest::Submit { job, reply } => self.submit(*job, Reply::Caller(reply)),
            QueueRequest::Interfere { job, what, reply } => {
                let tag = Some(self.tag(Reply::Caller(reply)));
                self.step(|core, _now, out| core.interfere(job, what, tag, out));
            }
            QueueRequest::Order { order, by, reply } => {
                if self.core.has_too_many_orders() {
                    Reply::Caller(reply)
                        .send(Err(AskError::Overloaded { retry_after: Duration::from_secs(1) }));
                    return;
                }
                let tag = Some(self.tag(Reply::Caller(reply)));
                self.step(|core, _now, out| core.order(order, by, tag, out));
            }
            QueueRequest::Purge { job, place, reason, reply } => {
                let tag = Some(self.tag(Reply::Caller(reply)));
                self.step(|core, _now, out| core.purge(job, place, reason, tag, out));
            }
            QueueRequest::Hold { purge, reply } => {
                let mut is_quiet = false;
                self.step(|core, _now, out| is_quiet = core.hold(purge, out));
                // Gone, its life has ended too.
                let _gone = reply.send(is_quiet);
            }
            QueueRequest::Position { job, priority, run_at, reply } => {
                // The asker may have gone.
                let _gone = reply.send(self.core.position(job, priority, run_at));
            }
        }
    }

    /// A change of the settings was written, or not: in force first, then whoever asked is told.
    fn configured(&mut self, tag: Option<u64>, action: &'static str, outcome: Outcome) {
        match &outcome {
            Ok(OpResult::Configured(row)) => {
                self.step(|core, _now, out| core.configured(row, out));
                let mut event = StreamEvent::new(action, self.args.clock.now());
                event.queue = Some(self.args.handle.name().to_string());
                self.told.push(event);
            }
            _ => self.step(|core, _now, out| core.order_failed(out)),
        }
        self.publish_condition();
        if let Some(reply) = tag.and_then(|tag| self.replies.remove(&tag)) {
            reply.send(outcome);
        }
    }

    fn submit(&mut self, job: NewJob, reply: Reply) {
        if self.submits_in_journal >= super::handle::SUBMITS_IN_JOURNAL_MAX {
            crate::metrics::refused("queue");
            reply.send(Err(AskError::Overloaded { retry_after: Duration::from_secs(1) }));
            return;
        }
        if let Some(refusal) = self.core.refusal(self.submits_in_journal) {
            if self.core.is_draining() && job.idempotency.is_some() {
                // It may be a repeat, which is answered all the same: the store tells, and refuses it otherwise.
                let op = Op::Submit(SubmitOp { owner: None, jobs: vec![job] });
                self.args.journal.write(self.lane, op, Some(reply), None);
                return;
            }
            crate::metrics::refused("queue");
            reply.send(Ok(OpResult::SubmitRefused(refusal)));
            return;
        }
        self.submits_in_journal += 1;
        // Repeats of one submission go one behind the other.
        let lane = job
            .idempotency
            .as_ref()
            .map_or(self.lane, |idempotency| self.args.journal.lane_of_key(&job.tenant, &idempotency.key));
        let op = Op::Submit(SubmitOp { owner: Some(self.args.config.owner), jobs: vec![job] });
        self.journal(lane, op, OpKey::Submit, Some(reply));
    }

    pub(super) fn take_op(&mut self, op: QueueOp) {
        match op {
            QueueOp::Report { session, job, fence, report, reply } => {
                let tag = Some(self.tag(reply));
                self.step(|core, _now, out| core.report(session, job, fence, *report, tag, out));
            }
            QueueOp::Log { said, reply } => {
                let tag = Some(self.tag(reply));
                self.step(|core, _now, out| core.log(*said, tag, out));
            }
            QueueOp::Recall(session) => self.step(|core, _now, out| core.recall(session, out)),
            // Lent to a memory that is gone: the session knows, and has them back.
            QueueOp::Credit { incarnation, .. } if incarnation != self.incarnation => {}
            QueueOp::Credit { session, count, .. } => {
                self.step(|core, _now, out| core.credit(session, count, out));
            }
            QueueOp::Renew { jobs, door } => {
                let _ = crate::crash_point::pass("queue", "renew");
                self.renew(&jobs, &door);
            }
            QueueOp::SessionUp(session) => {
                if let Some(facts) = self.args.sessions.get(session) {
                    self.step(|core, _now, out| core.session_up(session, facts.info(), out));
                }
            }
            QueueOp::SessionDown { session, charged } => {
                self.step(|core, _now, out| core.session_down(session, charged, out));
            }
            QueueOp::Undelivered(jobs) => {
                self.step(|core, _now, out| core.undelivered(&jobs, out));
            }
            QueueOp::Arrived(entries) => {
                self.is_count_doubtful = true;
                self.serial += 1;
                let view = self.args.handle.clone();
                self.step(|core, now, out| {
                    for (arrival, entry) in entries {
                        match arrival {
                            Arrival::Born => {
                                view.view().record(|stats| stats.count(Counted::Submitted, now.store));
                                core.made(entry, now, out);
                            }
                            Arrival::Unblocked => core.unblocked(entry, now, out),
                        }
                    }
                    core.dispatch_now(out);
                });
            }
            QueueOp::LeaseDown { job, fence, reason } => {
                tracing::warn!(job.id = %job, reason, "the actor of a lease ended");
                match self.leases.get(&job) {
                    Some((held, actor)) if *held == fence && !has_ended(actor) => return,
                    Some((held, _)) if *held == fence => drop(self.leases.remove(&job)),
                    Some(_) | None => {}
                }
                self.lease_failure = Some(reason.clone());
                self.step(|core, _now, out| core.actor_down(job, fence, &reason, out));
                self.lease_failure = None;
            }
            QueueOp::Expired(jobs) => self.take_expired(&jobs),
            QueueOp::StopGranting => self.step(|core, _now, out| core.set_granting(false, out)),
        }
    }

    pub(super) fn take_result(&mut self, applied: Applied) {
        if applied.incarnation != self.incarnation {
            // Of a memory that was dropped: the load that followed it has read what it did.
            return;
        }
        if applied.is_lost {
            self.carry_out(vec![Effect::Reload("an op was dropped without an answer")]);
            return;
        }
        if let Ok(OpResult::FenceLost(shard)) = &applied.outcome {
            // Alone on its store a node cannot go on without its shards: upkeep ends the process.
            self.args.shards.fence_lost(*shard);
            return;
        }
        // Cannot fail, only die: an answer is not lost on its way through memory.
        let _ = crate::crash_point::pass("queue_hears", applied.key.name());
        let tag = applied.reply.map(|reply| self.tag(reply));
        match (applied.key, applied.outcome) {
            (OpKey::Submit, outcome) => self.submitted(outcome),
            (OpKey::Grant(_), Ok(OpResult::Granted(granted))) => {
                let waited = granted.granted_at.millis_since(granted.run_at).max(0);
                crate::metrics::started(Duration::from_millis(waited.unsigned_abs()));
                let waited = millis(granted.run_at, granted.granted_at);
                self.args.handle.view().record(|stats| stats.started(waited, granted.granted_at));
                self.step(|core, now, out| core.granted(granted, now, out));
            }
            (OpKey::Grant(job), Ok(OpResult::Expired)) => self.grant_expired(job),
            (OpKey::Grant(job), Ok(_)) => self.step(|core, _now, out| core.not_ready(job, out)),
            (OpKey::Grant(job), Err(_)) => self.step(|core, _now, out| core.grant_failed(job, out)),
            (OpKey::End(job), outcome) => self.ended(job, tag, outcome),
            (OpKey::Interfere(job), Ok(OpResult::Canceled(done))) => {
                if matches!(done, Canceled::Requested | Canceled::AlreadyRequested)
                    && let Some(facts) = self.args.sessions.runs().get(job)
                {
                    facts.request_cancel(self.args.clock.now());
                }
                self.step(|core, now, out| core.canceled(job, &done, now, out));
            }
            (OpKey::Log(job), _) => self.step(|core, _now, out| core.logged(job, out)),
            (OpKey::Interfere(job), Ok(OpResult::Changed(done))) => {
                self.step(|core, now, out| {
                    core.changed(job, done, now, out);
                    core.dispatch_now(out);
                });
            }
            (OpKey::Interfere(job), Ok(OpResult::Retried(done))) => {
                self.step(|core, now, out| {
                    core.retried(job, done, now, out);
                    core.dispatch_now(out);
                });
            }
            (OpKey::Interfere(job), _) => {
                self.step(|core, _now, out| core.interference_failed(job, out));
            }
            (OpKey::Park(gate, jobs), Ok(OpResult::Parked(count))) => {
                self.step(|core, _now, out| core.parked(&gate, &jobs, count, out));
            }
            (OpKey::Park(_, jobs), _) => self.step(|core, _now, out| core.park_failed(&jobs, out)),
            (OpKey::Unpark(gate), Ok(OpResult::Unparked(entries))) => {
                self.step(|core, now, out| core.unparked(&gate, entries, now, out));
            }
            (OpKey::Unpark(gate), _) => self.step(|core, _now, _out| core.unpark_failed(&gate)),
            (OpKey::Settings(tag, action), outcome) => self.configured(tag, action, outcome),
        }
    }

    fn submitted(&mut self, outcome: Outcome) {
        self.submits_in_journal = self.submits_in_journal.saturating_sub(1);
        let Ok(OpResult::Submitted(made)) = outcome else { return };
        let view = self.args.handle.clone();
        self.step(|core, now, out| {
            for job in made {
                match job {
                    Submitted::Made { entry, .. } => {
                        crate::metrics::submitted(1);
                        view.view().record(|stats| stats.count(Counted::Submitted, now.store));
                        core.made(entry, now, out);
                    }
                    Submitted::Duplicate(_) => crate::metrics::duplicate(),
                }
            }
            core.dispatch_now(out);
        });
    }

    fn ended(&mut self, job: JobId, tag: Option<u64>, outcome: Outcome) {
        match outcome {
            Ok(OpResult::Ended(ended)) => {
                if let Some(lease) = self.core.leases().get(job) {
                    let ran = ended.at.millis_since(lease.granted_at).max(0);
                    let ran = Duration::from_millis(ran.unsigned_abs());
                    crate::metrics::finished(ended.state, ran);
                    self.args.handle.view().executed(ran);
                    let (ran, what) = (millis(lease.granted_at, ended.at), self.core.ending(job));
                    self.args.handle.view().record(|stats| stats.ended(what, ran, ended.at));
                    self.args.sessions.runs().end(job, lease.fence, Some((ended.state, ended.at)));
                }
                self.step(|core, now, out| core.ended(job, ended, now, out));
            }
            Ok(_) => self.step(|core, _now, out| core.end_stale(job, out)),
            Err(AskError::Unavailable { .. } | AskError::Overloaded { .. }) => {
                self.step(|core, _now, _out| core.end_failed(job, tag));
            }
            // Refused: the reporter has been told, and reports what can be written.
            Err(_) => self.step(|core, _now, out| core.interference_failed(job, out)),
        }
    }
}

/// Milliseconds from one time to a later one.
fn millis(from: Timestamp, to: Timestamp) -> f64 {
    to.0.saturating_sub(from.0).max(0) as f64 / 1_000.0
}
