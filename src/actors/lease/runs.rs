//! The active jobs of a node by id, for whoever reads one: no actor is asked.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use dashmap::DashMap;

use super::state::LeaseFacts;
use crate::domain::{Control, Fence, JobId, JobState, Timestamp};

/// How many controls of ended jobs are remembered with all their receipts: what people look at after they acted.
const ENDED_MAX: usize = 1_000;

/// The active jobs of this node, and the controls of those that ended last.
#[derive(Debug, Default)]
pub struct Runs {
    running: DashMap<JobId, Arc<LeaseFacts>>,
    ended: Mutex<VecDeque<(JobId, Control)>>,
}

impl Runs {
    /// The facts of a lease: those that are there, or new ones. A former lease's are replaced.
    pub fn begin(&self, job: JobId, fence: Fence, new: impl FnOnce() -> LeaseFacts) -> Arc<LeaseFacts> {
        if let Some(known) = self.get(job).filter(|known| known.fence == fence) {
            return known;
        }
        let facts = Arc::new(new());
        self.running.insert(job, facts.clone());
        facts
    }

    /// An active job.
    #[must_use]
    pub fn get(&self, job: JobId) -> Option<Arc<LeaseFacts>> {
        self.running.get(&job).map(|entry| entry.value().clone())
    }

    /// A lease has ended; `left` is the state it left and when, if that is known.
    pub fn end(&self, job: JobId, fence: Fence, left: Option<(JobState, Timestamp)>) {
        let Some((_, facts)) = self.running.remove_if(&job, |_, facts| facts.fence == fence) else { return };
        let Some(mut control) = facts.cancel() else { return };
        if let Some((JobState::Canceled, at)) = left {
            control.effective_at = Some(at);
        }
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.len() >= ENDED_MAX {
            ended.pop_front();
        }
        ended.push_back((job, control));
    }

    /// What memory knows of the newest control of a job: one that runs, or that ended lately.
    #[must_use]
    pub fn control(&self, job: JobId) -> Option<Control> {
        if let Some(control) = self.get(job).and_then(|facts| facts.cancel()) {
            return Some(control);
        }
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.iter().rev().find(|(ended, _)| *ended == job).map(|(_, control)| control.clone())
    }

    /// Forgets what is not to be kept.
    pub fn retain(&self, keep: impl Fn(&LeaseFacts) -> bool) {
        self.running.retain(|_, facts| keep(facts));
    }

    /// Looks at every active job.
    pub fn each(&self, mut look: impl FnMut(&LeaseFacts)) {
        self.running.iter().for_each(|entry| look(entry.value()));
    }
}
