//! Jobs past their `expiresAt`, as the actor hears of them.

use super::actor::QueueState;
use crate::domain::JobId;

impl QueueState {
    /// Upkeep found these.
    pub(super) fn take_expired(&mut self, jobs: &[JobId]) {
        self.args.handle.took_expired();
        self.step(|core, _now, out| core.expire(jobs, out));
    }

    /// A grant found this one.
    pub(super) fn grant_expired(&mut self, job: JobId) {
        self.step(|core, _now, out| core.grant_expired(job, out));
    }
}
