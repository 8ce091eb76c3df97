//! The in-process worker: a session that lends its slots to queues and runs what they lease to it.
//!
//! Owns its slots, its running handlers and what they have not yet reported. Does not own leases: rows do,
//! and a report counts when it is committed. Tells queues (credit, report, renewal); asks nobody. If it
//! ends, its handlers end with it, and the next incarnation says so to every queue, which gives the jobs
//! back uncharged. Restart policy: permanent.

/// What operators want of a worker.
pub mod control;
/// What a session decides.
pub mod core;
/// What a session is told.
pub mod messages;
/// The sessions of this node.
pub mod registry;

mod actor;
pub mod handle;
mod notes;
mod run;
mod telling;

pub use actor::{WorkerActor, WorkerArgs};
pub use control::{Steer, WorkerControl, WorkerStatus};
pub use registry::{Sessions, WorkerFacts};
