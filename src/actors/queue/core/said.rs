//! What running jobs say: written in turn with what else happens to them.

use super::*;

impl QueueCore {
    /// A worker brings lines of a job's log. An end that is reported behind them is written behind them.
    pub fn log(&mut self, said: Said, tag: Option<u64>, out: &mut Vec<Effect>) {
        let job = said.job;
        if !self.is_busy(job) {
            self.in_journal.insert(job, InJournal::Log);
            out.push(Effect::Write(Write::Log(said), tag));
            return;
        }
        // A session that has no answer brings the same lines again: the newest replace those before, so that an
        // outage piles nothing up.
        let waiting = self.waiting.entry(job).or_default();
        let same = waiting.iter_mut().find_map(|waiting| match waiting {
            Waiting::Log { said: known, tag } if known.fence == said.fence => Some((known, tag)),
            Waiting::Log { .. }
            | Waiting::Report { .. }
            | Waiting::Interfere { .. }
            | Waiting::SessionEnded { .. } => None,
        });
        match same {
            Some((known, before)) => {
                *known = said;
                out.extend(std::mem::replace(before, tag).map(Effect::Forget));
            }
            None => waiting.push_back(Waiting::Log { said, tag }),
        }
    }

    /// Lines were written, or were not; their session has been told.
    pub fn logged(&mut self, job: JobId, out: &mut Vec<Effect>) {
        self.in_journal.remove(&job);
        self.next_waiting(job, out);
    }
}
