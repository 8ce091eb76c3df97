//! What memory knows of the jobs that run here.

use super::Platform;
use crate::{
    actors::lease::Runs,
    domain::{JobId, JobState, JobView, WaitingFor},
};

impl Platform {
    /// The active jobs of this node.
    #[must_use]
    pub fn runs(&self) -> &Runs {
        self.0.sessions.runs()
    }

    /// The supervision path of the actor of an active job's lease.
    #[must_use]
    pub fn lease_path(&self, job: JobId) -> Option<String> {
        self.0.directory.path_of(self.runs().get(job)?.actor()?)
    }

    /// Adds to a job that was read what only memory knows: how a running one is doing, and that no worker takes a
    /// waiting one. Asks no actor.
    pub fn overlay(&self, job: &mut JobView) {
        if job.state == JobState::Active
            && let Some(facts) = self.runs().get(job.id).filter(|facts| Some(facts.fence) == job.fence)
        {
            let lively = facts.lively();
            job.last_heartbeat_at = Some(lively.heartbeat_at);
            job.lease_expires_at = Some(lively.expires_at);
            job.progress = lively.progress;
        }
        if job.state == JobState::Queued && job.waiting_for == Some(WaitingFor::Turn) && !self.has_worker(job)
        {
            job.waiting_for = Some(WaitingFor::Worker);
        }
    }

    /// Whether some worker takes jobs of this queue and type.
    fn has_worker(&self, job: &JobView) -> bool {
        let serving = self.0.sessions.serving(&job.queue);
        serving.iter().any(|(_, facts)| facts.handles(&job.kind) && !facts.is_cordoned())
    }
}
