//! The actors of a queue's leases: started, adopted, revived and stopped.

use super::actor::{LEASE_SUPERVISORS, QueueState};
use crate::{
    actors::{
        lease::{LeaseArgs, LeaseMessage, spawn_lease},
        worker::messages::SessionOp,
    },
    domain::{Fence, JobId, SessionId},
    store::ops::Granted,
};

impl QueueState {
    pub(super) fn start_lease(&mut self, granted: Box<Granted>, session: SessionId) {
        let (job, fence) = (granted.job, granted.fence);
        let Some(lease) = self.core.leases().get(job) else { return };
        let Some(facts) = self.args.sessions.get(session) else { return };
        let args = LeaseArgs {
            job,
            kind: granted.kind.clone(),
            attempt: granted.attempt,
            fence,
            worker: lease.worker.clone(),
            session,
            granted_at: granted.granted_at,
            door: facts.door.clone(),
            hand_over: Some(granted),
            failures: (0, None),
        };
        self.spawn_lease(job, fence, args);
    }

    pub(super) fn restart_lease(&mut self, job: JobId, fence: Fence, session: SessionId) {
        if self.leases.get(&job).is_some_and(|(held, _)| *held == fence) {
            return;
        }
        let Some(lease) = self.core.leases().get(job) else { return };
        let Some(facts) = self.args.sessions.get(session) else { return };
        let args = LeaseArgs {
            job,
            kind: lease.kind.clone(),
            attempt: lease.attempt,
            fence,
            worker: lease.worker.clone(),
            session,
            granted_at: lease.granted_at,
            door: facts.door.clone(),
            hand_over: None,
            failures: (lease.actor_failures, self.lease_failure.take()),
        };
        self.spawn_lease(job, fence, args);
        // The one before may have ended before it handed the job over.
        self.reconcile_jobs(session, vec![(job, fence)]);
    }

    fn spawn_lease(&mut self, job: JobId, fence: Fence, args: LeaseArgs) {
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
    fn hand_over_directly(&self, args: LeaseArgs) {
        if let Some(granted) = args.hand_over {
            let assign = SessionOp::Assign { session: args.session, granted };
            drop(args.door.try_send(assign));
        }
    }

    pub(super) fn stop_lease(&mut self, job: JobId, fence: Fence) {
        if self.leases.get(&job).is_some_and(|(held, _)| *held == fence)
            && let Some((_, actor)) = self.leases.remove(&job)
        {
            // Out of the map first: an end that is asked for is no failure.
            self.args.handle.lease_actors().remove(&actor.get_id());
            actor.stop(None);
        }
    }

    fn lease_supervisor(&mut self, index: usize) -> Option<ractor::ActorCell> {
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
    }

    /// Asks a session which of the leases it is believed to have it has.
    pub(super) fn reconcile(&self, session: SessionId) {
        let jobs = self.core.held_by(session);
        if !jobs.is_empty() {
            self.reconcile_jobs(session, jobs);
        }
    }

    fn reconcile_jobs(&self, session: SessionId, jobs: Vec<(JobId, Fence)>) {
        if let Some(facts) = self.args.sessions.get(session) {
            let ask = SessionOp::Reconcile { queue: self.args.handle.clone(), jobs };
            if facts.door.try_send(ask).is_err() {
                tracing::warn!("a session could not be asked for its leases; their time will tell");
            }
        }
    }
}

/// Whether a lease's actor is no more.
pub(super) fn has_ended(actor: &ractor::ActorRef<LeaseMessage>) -> bool {
    actor.get_status() >= ractor::ActorStatus::Stopping
}
