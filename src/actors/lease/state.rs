//! What is known of a lease beyond its row: when its worker was heard, how far its job is, and the receipts of
//! its controls. Memory only; shared by its actor's probe, its queue, its session and whoever reads the job.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ractor::ActorId;
use serde_json::{Value, json};

use crate::domain::{Control, Fence, JobId, RawJson, SessionId, Timestamp, WorkerId};

/// An active job as an operator sees it.
#[derive(Debug)]
pub struct LeaseFacts {
    /// The job.
    pub job: JobId,
    /// What handles it.
    pub kind: String,
    /// Its queue.
    pub queue: Arc<str>,
    /// The number of the attempt.
    pub attempt: i32,
    /// The lease's fence.
    pub fence: Fence,
    /// The worker.
    pub worker: WorkerId,
    /// The worker's session.
    pub session: SessionId,
    /// When the lease was given, on the store's clock.
    pub granted_at: Timestamp,
    heard: Mutex<Heard>,
}

#[derive(Debug)]
struct Heard {
    heartbeat_at: Timestamp,
    expires_at: Timestamp,
    progress: Option<RawJson>,
    cancel: Option<Control>,
    actor: Option<ActorId>,
}

/// What is shown of a running job from memory.
#[derive(Debug, Clone)]
pub struct Lively {
    /// When its worker was last heard.
    pub heartbeat_at: Timestamp,
    /// When its lease ends unless it is renewed.
    pub expires_at: Timestamp,
    /// What its worker said last of how far it is.
    pub progress: Option<RawJson>,
}

/// Which attempt facts are of.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The job.
    pub job: JobId,
    /// What handles it.
    pub kind: String,
    /// Its queue.
    pub queue: Arc<str>,
    /// The number of the attempt.
    pub attempt: i32,
    /// The lease's fence.
    pub fence: Fence,
    /// The worker.
    pub worker: WorkerId,
    /// The worker's session.
    pub session: SessionId,
    /// When the lease was given, on the store's clock.
    pub granted_at: Timestamp,
}

impl LeaseFacts {
    /// Of a lease that ends at `expires_at` unless it is renewed.
    #[must_use]
    pub fn new(of: Attempt, expires_at: Timestamp) -> Self {
        let Attempt { job, kind, queue, attempt, fence, worker, session, granted_at } = of;
        let heard = Heard { heartbeat_at: granted_at, expires_at, progress: None, cancel: None, actor: None };
        let heard = Mutex::new(heard);
        Self { job, kind, queue, attempt, fence, worker, session, granted_at, heard }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is shown of it now.
    #[must_use]
    pub fn lively(&self) -> Lively {
        let heard = self.heard();
        Lively {
            heartbeat_at: heard.heartbeat_at,
            expires_at: heard.expires_at,
            progress: heard.progress.clone(),
        }
    }

    /// Its worker renewed it.
    pub fn renewed(&self, at: Timestamp, expires_at: Timestamp) {
        let mut heard = self.heard();
        (heard.heartbeat_at, heard.expires_at) = (at, expires_at);
    }

    /// Its worker said how far it is; newer replaces older.
    pub fn set_progress(&self, progress: RawJson) {
        self.heard().progress = Some(progress);
    }

    /// A cancel was asked, durably.
    pub fn request_cancel(&self, at: Timestamp) {
        self.heard().cancel.get_or_insert_with(|| Control::cancel(at));
    }

    /// Its session was told of a cancel; the control, when that is new.
    pub fn deliver_cancel(&self, at: Timestamp) -> Option<Control> {
        let mut heard = self.heard();
        let control = heard.cancel.get_or_insert_with(|| Control::cancel(at));
        control.deliver(at).then(|| control.clone())
    }

    /// Its handler obeys; the control, if there is one and this is new.
    pub fn acknowledge_cancel(&self, at: Timestamp) -> Option<Control> {
        let mut heard = self.heard();
        let control = heard.cancel.as_mut()?;
        control.acknowledge(at).then(|| control.clone())
    }

    /// The cancel that was asked, as far as it came.
    #[must_use]
    pub fn cancel(&self) -> Option<Control> {
        self.heard().cancel.clone()
    }

    pub(in crate::actors) fn seat(&self, actor: ActorId) {
        self.heard().actor = Some(actor);
    }

    /// Its actor.
    #[must_use]
    pub fn actor(&self) -> Option<ActorId> {
        self.heard().actor
    }

    pub(super) fn show(&self) -> Value {
        let heard = self.heard();
        let mut shown = json!({
            "jobId": self.job, "type": self.kind, "attempt": self.attempt, "fence": self.fence,
            "workerId": self.worker, "sessionId": self.session, "startedAt": self.granted_at,
            "lastHeartbeatAt": heard.heartbeat_at, "leaseExpiresAt": heard.expires_at,
        });
        if let Some(progress) = &heard.progress {
            shown["progress"] = json!(progress);
        }
        if let Some(control) = &heard.cancel {
            shown["controls"] = json!([control]);
        }
        shown
    }
}
