//! The actors of a queue's leases, and what is known of them.

use std::sync::Arc;

use super::{
    actor::{LEASE_SUPERVISORS, QueueState},
    core::Now,
    leases::Lease,
};
use crate::{
    actors::{
        console::DetailEvent,
        lease::{Attempt, LeaseArgs, LeaseFacts, LeaseMessage, spawn_lease},
        runtime::Door,
        worker::messages::SessionOp,
    },
    domain::{Fence, JobId, SessionId, Timestamp},
    store::ops::Granted,
};

impl QueueState {
    pub(super) fn start_lease(&mut self, granted: Box<Granted>, session: SessionId) {
        let (job, fence) = (granted.job, granted.fence);
        let Some(facts) = self.facts_of(job) else { return };
        let Some(door) = self.args.sessions.get(session).map(|facts| facts.door.clone()) else { return };
        let args = LeaseArgs { facts, door, hand_over: Some(granted), failures: (0, None) };
        self.spawn_lease(job, fence, args);
    }

    pub(super) fn restart_lease(&mut self, job: JobId, fence: Fence, session: SessionId) {
        if self.leases.get(&job).is_some_and(|(held, _)| *held == fence) {
            return;
        }
        let Some(failures) = self.core.leases().get(job).map(|lease| lease.actor_failures) else { return };
        let Some(door) = self.args.sessions.get(session).map(|facts| facts.door.clone()) else { return };
        let Some(facts) = self.facts_of(job) else { return };
        let failures = (failures, self.lease_failure.take());
        let args = LeaseArgs { facts, door, hand_over: None, failures };
        self.spawn_lease(job, fence, args);
        // The one before may have ended before it handed the job over.
        self.reconcile_jobs(session, vec![(job, fence)]);
    }

    /// What is known of an active job's lease; kept over its actor's restarts and this queue's.
    pub(super) fn facts_of(&self, job: JobId) -> Option<Arc<LeaseFacts>> {
        let (now, lease) = (self.now(), self.core.leases().get(job)?);
        let facts = self.args.sessions.runs().begin(job, lease.fence, || {
            let attempt = Attempt {
                job,
                kind: lease.kind.clone(),
                queue: self.args.handle.name().clone(),
                attempt: lease.attempt,
                fence: lease.fence,
                worker: lease.worker.clone(),
                session: lease.session,
                granted_at: lease.granted_at,
            };
            LeaseFacts::new(attempt, shown_expiry(lease, now))
        });
        if lease.cancel_requested {
            facts.request_cancel(now.store);
        }
        Some(facts)
    }

    pub(super) fn renew(&mut self, jobs: &[(JobId, Fence)], door: &Door<SessionOp>) {
        let now = self.now();
        let lost = self.core.renew(jobs, now);
        let runs = self.args.sessions.runs();
        for (job, fence) in jobs {
            let (Some(lease), Some(facts)) = (self.core.leases().get(*job), runs.get(*job)) else { continue };
            if lease.fence == *fence && facts.fence == *fence {
                facts.renewed(now.store, shown_expiry(lease, now));
                let told = || vec![DetailEvent::new("job.heartbeat", *job, now.store)];
                self.args.hub.tell_details(*job, told);
            }
        }
        if !lost.is_empty() {
            // Unheard, the session learns it with its next renewal.
            drop(door.try_send(SessionOp::Lost(lost)));
        }
    }

    pub(super) fn spawn_lease(&mut self, job: JobId, fence: Fence, args: LeaseArgs) {
        let index = usize::from(job.0.as_bytes()[15]) % LEASE_SUPERVISORS;
        let Some(supervisor) = self.lease_supervisor(index) else {
            tracing::warn!(job.id = %job, "no lease supervisor: the lease runs without an actor");
            self.hand_over_directly(args);
            return;
        };
        match spawn_lease(&self.directory, &supervisor, args) {
            Ok(actor) => {
                self.args.handle.lease_actors().insert(actor.get_id(), (job, fence));
                self.leases.insert(job, (fence, actor));
            }
            Err(error) => {
                // The lease holds all the same: its session is asked whether it has the job.
                tracing::warn!(job.id = %job, %error, "the actor of a lease was not started");
                if let Some(session) = self.core.leases().get(job).map(|lease| lease.session) {
                    self.reconcile_jobs(session, vec![(job, fence)]);
                }
            }
        }
    }

    /// A job is never kept from its worker because its actor could not be started.
    pub(super) fn hand_over_directly(&self, args: LeaseArgs) {
        if let Some(granted) = args.hand_over {
            let assign = SessionOp::Assign { session: args.facts.session, granted };
            drop(args.door.try_send(assign));
        }
    }

    pub(super) fn stop_lease(&mut self, job: JobId, fence: Fence) {
        self.args.sessions.runs().end(job, fence, None);
        if self.leases.get(&job).is_some_and(|(held, _)| *held == fence)
            && let Some((_, actor)) = self.leases.remove(&job)
        {
            // Out of the map first: an end that is asked for is no failure.
            self.args.handle.lease_actors().remove(&actor.get_id());
            actor.stop(None);
        }
    }

    pub(super) fn lease_supervisor(&mut self, index: usize) -> Option<ractor::ActorCell> {
        let known = self.lease_supervisors[index].as_ref();
        if let Some(cell) = known.filter(|cell| cell.get_status() == ractor::ActorStatus::Running) {
            return Some(cell.clone());
        }
        let family = self.directory.supervisor_of(&self.supervisor)?;
        let cell = family.supervisor(&format!("leases-{index}"))?.cell();
        self.lease_supervisors[index].clone_from(&cell);
        cell
    }

    /// Takes over the lease actors of an earlier incarnation of this queue.
    pub(super) fn adopt_lease_actors(&mut self) {
        for index in 0..LEASE_SUPERVISORS {
            let Some(family) = self.directory.supervisor_of(&self.supervisor) else { return };
            let Some(supervisor) = family.supervisor(&format!("leases-{index}")) else { continue };
            for child in supervisor.children() {
                let Some(cell) = child.cell else { continue };
                if let Some(held) = self.args.handle.lease_actors().get(&cell.get_id()) {
                    self.leases.insert(held.0, (held.1, cell.into()));
                }
            }
        }
    }

    /// Starts the actors of leases that have had none for a whole tick: they ended with their supervisor, or could
    /// not be started while it was down. Of one that ended alone the queue hears sooner, and why.
    pub(super) fn revive_lease_actors(&mut self) {
        let runs = |job: &JobId| self.leases.get(job).is_some_and(|(_, actor)| !has_ended(actor));
        let leases = self.core.leases().iter().map(|(job, lease)| (job, lease.fence));
        let bare: Vec<_> = leases.filter(|(job, _)| !runs(job)).collect();
        for (job, fence) in &bare {
            if !self.bare_leases.contains(job) {
                continue;
            }
            if let Some((_, actor)) = self.leases.remove(job) {
                self.args.handle.lease_actors().remove(&actor.get_id());
            }
            self.step(|core, _now, out| core.restart_actor(*job, *fence, out));
        }
        self.bare_leases = bare.into_iter().map(|(job, _)| job).collect();
    }

    /// Stops lease actors whose lease is no more.
    pub(super) fn stop_strays(&mut self) {
        let strays: Vec<(JobId, Fence)> = self
            .leases
            .iter()
            .map(|(job, (fence, _))| (*job, *fence))
            .filter(|(job, fence)| self.core.leases().get(*job).is_none_or(|lease| lease.fence != *fence))
            .collect();
        for (job, fence) in strays {
            self.stop_lease(job, fence);
        }
        let name = self.args.handle.name();
        let is_held = |facts: &LeaseFacts| {
            self.core.leases().get(facts.job).is_some_and(|lease| lease.fence == facts.fence)
        };
        self.args.sessions.runs().retain(|facts| facts.queue != *name || is_held(facts));
    }

    /// Asks a session which of the leases it is believed to have it has.
    pub(super) fn reconcile(&self, session: SessionId) {
        let jobs = self.core.held_by(session);
        if !jobs.is_empty() {
            self.reconcile_jobs(session, jobs);
        }
    }

    pub(super) fn reconcile_jobs(&self, session: SessionId, jobs: Vec<(JobId, Fence)>) {
        if let Some(facts) = self.args.sessions.get(session) {
            let ask = SessionOp::Reconcile { queue: self.args.handle.clone(), jobs };
            if facts.door.try_send(ask).is_err() {
                tracing::warn!("a session could not be asked for its leases; their time will tell");
            }
        }
    }
}

/// When a lease ends unless it is renewed, on the store's clock.
fn shown_expiry(lease: &Lease, now: Now) -> Timestamp {
    let left = lease.expires_ms.saturating_sub(now.mono_ms);
    now.store.plus_millis(i64::try_from(left).unwrap_or(i64::MAX))
}

pub(super) fn has_ended(actor: &ractor::ActorRef<LeaseMessage>) -> bool {
    actor.get_status() >= ractor::ActorStatus::Stopping
}
