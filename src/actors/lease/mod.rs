//! One actor for each active job: what an operator sees of it, and the way to its worker.
//!
//! Owns the hand-over of its job and the controls sent to its worker. Does not own the lease: that is a
//! row, and its time runs in the queue's lease table, which outlives this actor and starts it again. It
//! asks nobody and writes nothing. A lost message costs a control, which the next one repeats. Restart
//! policy: by the queue, twice; the third failure makes the job poison.

/// The face of a lease's actor.
pub mod handle;
/// What a lease's actor is told.
pub mod messages;

/// The active jobs of a node.
pub mod runs;
/// What is known of a lease beyond its row.
pub mod state;

mod actor;

pub use actor::LeaseActor;
pub use handle::{LeaseArgs, spawn_lease};
pub use messages::LeaseMessage;
pub use runs::Runs;
pub use state::{Attempt, LeaseFacts, Lively};
