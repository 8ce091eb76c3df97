//! How what running handlers say gets to the store, and to those who follow a job.

use super::{
    actor::{REPORT_AGAIN, Running, WorkerState, tell_queue},
    notes::AttemptNotes,
};
use crate::{
    actors::{
        console::DetailEvent,
        journal::{Outcome, Reply},
        platform::AskError,
        queue::{
            core::{Report, Said},
            handle::QueueHandle,
            messages::QueueOp,
        },
    },
    domain::{Control, Fence, JobId},
    store::OpResult,
};

impl WorkerState {
    /// Renews every lease: this process lives, and so do its handlers.
    pub(super) fn renew(&self) {
        let mut by_queue: Vec<(&QueueHandle, Vec<(JobId, Fence)>)> = Vec::new();
        for (job, running) in &self.running {
            match by_queue.iter_mut().find(|(queue, _)| **queue == running.queue) {
                Some((_, jobs)) => jobs.push((*job, running.fence)),
                None => by_queue.push((&running.queue, vec![(*job, running.fence)])),
            }
        }
        for (queue, jobs) in by_queue {
            tell_queue(queue, QueueOp::Renew { jobs, door: self.args.door.clone() });
        }
    }

    /// A handler has ended: what it said is written first, since lines are written under its lease.
    pub(super) fn end(&mut self, job: JobId, report: Report) {
        let Some(running) = self.running.get_mut(&job) else { return };
        running.notes.close();
        running.ended = Some(report);
        self.settle(job);
    }

    /// Reports the end of a job whose last lines are written.
    pub(super) fn settle(&mut self, job: JobId) {
        self.tell_notes(job);
        let Some(running) = self.running.get_mut(&job) else { return };
        if running.notes.is_written()
            && let Some(report) = running.ended.take()
        {
            self.report(job, report);
        }
    }

    /// Once a tick: what each job has said since. So a job's lines are written, and its progress told, at most so
    /// often.
    pub(super) fn tell_all_notes(&mut self) {
        let jobs: Vec<JobId> = self.running.keys().copied().collect();
        for job in jobs {
            if let Some(running) = self.running.get(&job) {
                running.notes.unsent_after(REPORT_AGAIN);
                self.settle(job);
            }
        }
    }

    /// Brings a job's lines to its queue, unless some are on their way, and tells the rest.
    pub(super) fn tell_notes(&self, job: JobId) {
        let Some(running) = self.running.get(&job) else { return };
        if let Some((first, lines)) = running.notes.take() {
            let (door, fence) = (self.args.door.clone(), running.fence);
            let through = first.saturating_add(i32::try_from(lines.len()).unwrap_or(i32::MAX)) - 1;
            let said = Box::new(Said { job, fence, first, lines });
            let log = QueueOp::Log { said, reply: Reply::Log { door, job, fence, through } };
            if running.queue.try_tell(log).is_err() {
                running.notes.unsent();
            }
        }
        if let Some(progress) = running.notes.take_progress() {
            let mut event = DetailEvent::new("job.progress", job, self.args.clock.now());
            event.progress = Some(progress);
            self.args.hub.tell_details(job, || vec![event]);
        }
        if let Some(control) = running.notes.take_acknowledged() {
            self.tell_control("job.cancel_acknowledged", &running.notes, control);
        }
    }

    /// Lines were written, or were not.
    pub(super) fn logged(&mut self, job: JobId, fence: Fence, through: i32, outcome: &Outcome) {
        let Some(running) = self.running.get(&job).filter(|running| running.fence == fence) else { return };
        match outcome {
            Ok(OpResult::Logged(newest)) => {
                let rows = running.notes.kept(through, *newest);
                self.args.hub.tell_details(job, || {
                    let told = rows.into_iter().map(|row| {
                        let mut event = DetailEvent::new("job.log", job, row.at);
                        event.log = Some(Box::new(row));
                        event
                    });
                    told.collect()
                });
            }
            Err(
                AskError::Unavailable { .. }
                | AskError::Overloaded { .. }
                | AskError::TimedOut
                | AskError::Quarantined { .. },
            ) => {
                // Brought again by the next tick.
                running.notes.unsent();
                return;
            }
            // The lease is gone, or the store cannot hold them: neither changes by bringing them again.
            Ok(_) | Err(AskError::Refused(_)) => running.notes.abandon(),
        }
        if running.ended.is_some() {
            self.settle(job);
        }
    }

    /// A cancel has come to its attempt.
    pub(super) fn tell_delivered(&self, running: &Running) {
        if let Some(control) = running.notes.facts().deliver_cancel(self.args.clock.now()) {
            self.tell_control("job.cancel_delivered", &running.notes, control);
        }
    }

    fn tell_control(&self, kind: &'static str, notes: &AttemptNotes, control: Control) {
        let job = notes.facts().job;
        let mut event = DetailEvent::new(kind, job, self.args.clock.now());
        event.control = Some(control);
        self.args.hub.tell_details(job, || vec![event]);
    }
}
