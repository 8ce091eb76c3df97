//! What every actor of ours stands on: bounded doors, probes, the tree and its supervisors.
//!
//! ```text
//! sender ──try_send──> Door ──bell──> actor (in a Tracked wrapper, counted by its Probe)
//!                                       │ linked to
//! GET /supervision ──> Directory <── Supervisor ──starts, restarts, stops──> children; leaves come and go below it
//! ```
//! A place in the tree outlives the actor in it: doors, probes and handles stay valid while it is restarted.
//!
//! Rules: actors are unnamed in ractor; a `pre_start` is quick; an `Err` from a handler means that the actor's state
//! cannot be trusted any longer, and costs a restart. A panic is the same with a louder reason.

mod child;
mod directory;
mod door;
mod doorbell;
mod exit;
mod family;
mod gauge;
mod handle;
mod node;
mod path;
mod probe;
mod restarts;
mod shutdown;
mod spec;
mod supervisor;
mod sync;
mod tracked;

#[cfg(test)]
mod tests;

pub use directory::{Directory, OPERATOR_RESTART, OperatorError, Quarantined, ReserveError};
pub use door::{DRAIN_MAX, Door, DoorError, DoorReceiver, Drained, door};
pub use exit::{Exit, Panicked, exit_of};
pub use handle::{ChildInfo, SupervisorHandle};
pub use node::{NODES_MAX, PAGE_LIMIT_DEFAULT, Page, Status, SupervisionNode};
pub use probe::{LastRestart, Mailbox, Messages, Probe, Timing};
pub use restarts::{Backoff, Intensity};
pub use spec::{
    ChildSpec, GiveUp, GiveUpHook, LeafExitHook, QUARANTINE_BACKOFF, Restart, SHUTDOWN_DEADLINE,
    START_DEADLINE, ShutdownOrder, StartChild, StartContext, Strategy, SupervisorSpec,
};
pub use supervisor::SupervisorError;
pub use tracked::{LeafError, spawn_leaf};
