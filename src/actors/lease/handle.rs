//! The face of a lease's actor.

use std::sync::Arc;

use ractor::{ActorCell, ActorRef};

use super::{actor::LeaseActor, messages::LeaseMessage, state::LeaseFacts};
use crate::{
    actors::{
        runtime::{Directory, Door, LeafError, Probe, spawn_leaf},
        worker::messages::SessionOp,
    },
    store::ops::Granted,
};

/// What a lease's actor is started with.
#[derive(Debug)]
pub struct LeaseArgs {
    /// What is known of the lease.
    pub facts: Arc<LeaseFacts>,
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
    let probe = Probe::new("lease", args.facts.job.to_string());
    // A leaf has a new place, and with it a new probe, each time.
    let (failures, last_failure) = &args.failures;
    (0..*failures).for_each(|_| probe.note_restart());
    if let Some(reason) = last_failure {
        probe.note_end(reason);
    }
    let (facts, shown) = (args.facts.clone(), args.facts.clone());
    probe.describe(move || shown.show());
    let actor = spawn_leaf(directory, supervisor, probe.clone(), LeaseActor, (args, probe))?;
    facts.seat(actor.get_id());
    Ok(actor)
}
