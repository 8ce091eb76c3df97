//! The face of a lease's actor.

use std::sync::Arc;

use ractor::{ActorCell, ActorRef};

use super::{actor::LeaseActor, messages::LeaseMessage, state::LeaseFacts};
use crate::{
    actors::{
        runtime::{Directory, Door, LeafError, Probe, spawn_leaf},
        worker::messages::SessionOp,
    },
    domain::{Fence, JobId, SessionId, Timestamp, WorkerId},
    store::ops::Granted,
};

/// What a lease's actor is started with.
#[derive(Debug)]
pub struct LeaseArgs {
    /// The job.
    pub job: JobId,
    /// What handles it.
    pub kind: String,
    /// The number of the attempt.
    pub attempt: i32,
    /// The lease's fence.
    pub fence: Fence,
    /// The worker.
    pub worker: WorkerId,
    /// The worker's session.
    pub session: SessionId,
    /// When the lease was given.
    pub granted_at: Timestamp,
    /// The session's door.
    pub door: Door<SessionOp>,
    /// The job to hand over; `None` when an earlier incarnation did.
    pub hand_over: Option<Box<Granted>>,
    /// How often an actor of this lease has ended unasked, and why the last one did.
    pub failures: (u32, Option<String>),
}

/// Starts the actor of a lease under a lease supervisor, without waiting for it.
///
/// # Errors
/// The supervisor is down, or an actor of this job is there already.
pub fn spawn_lease(
    directory: &Arc<Directory>,
    supervisor: &ActorCell,
    args: LeaseArgs,
) -> Result<ActorRef<LeaseMessage>, LeafError> {
    let probe = Probe::new("lease", args.job.to_string());
    let facts = Arc::new(LeaseFacts::new(&args));
    // A leaf has a new place, and with it a new probe, each time.
    let (failures, last_failure) = &args.failures;
    (0..*failures).for_each(|_| probe.note_restart());
    if let Some(reason) = last_failure {
        probe.note_end(reason);
    }
    let shown = facts.clone();
    probe.describe(move || shown.show());
    spawn_leaf(directory, supervisor, probe.clone(), LeaseActor, (args, facts, probe))
}
