//! What a lease's actor holds.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::domain::{Fence, JobId, SessionId, Timestamp, WorkerId};

/// An active job as an operator sees it; shared with the probe.
#[derive(Debug)]
pub struct LeaseFacts {
    pub(super) job: JobId,
    pub(super) kind: String,
    pub(super) attempt: i32,
    pub(super) fence: Fence,
    pub(super) worker: WorkerId,
    pub(super) session: SessionId,
    pub(super) granted_at: Timestamp,
    cancel_delivered: AtomicBool,
}

impl LeaseFacts {
    pub(super) fn new(args: &super::LeaseArgs) -> Self {
        Self {
            job: args.job,
            kind: args.kind.clone(),
            attempt: args.attempt,
            fence: args.fence,
            worker: args.worker.clone(),
            session: args.session,
            granted_at: args.granted_at,
            cancel_delivered: AtomicBool::new(false),
        }
    }

    pub(super) fn note_cancel_delivered(&self) {
        self.cancel_delivered.store(true, Ordering::Relaxed);
    }

    pub(super) fn show(&self) -> Value {
        json!({
            "jobId": self.job, "type": self.kind, "attempt": self.attempt, "fence": self.fence,
            "workerId": self.worker, "sessionId": self.session, "startedAt": self.granted_at,
            "cancelDelivered": self.cancel_delivered.load(Ordering::Relaxed),
        })
    }
}
