//! Jobs whose time to start is over.

use super::*;

impl QueueCore {
    /// Cancels jobs that are past their `expiresAt`. One that is busy, or for which there is no room in the
    /// journal, is told again.
    pub fn expire(&mut self, jobs: &[JobId], out: &mut Vec<Effect>) {
        for job in jobs {
            if self.in_journal() >= IN_JOURNAL_MAX {
                return;
            }
            if !self.is_busy(*job) && self.leases.get(*job).is_none() {
                let reason = "expired".to_owned();
                let what = Interference::Cancel { reason, unstarted_only: true, by: None };
                self.interfere(*job, what, None, out);
            }
        }
    }

    /// A grant found its job past its `expiresAt`. It is canceled, and has no place among those that wait.
    pub fn grant_expired(&mut self, job: JobId, out: &mut Vec<Effect>) {
        if let Some(InJournal::Grant { session, .. }) = self.in_journal.remove(&job) {
            self.refund(session);
            self.expire(&[job], out);
            self.dispatch(out);
        }
    }
}
