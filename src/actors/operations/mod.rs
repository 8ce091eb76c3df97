//! Bulk operations: one change over all jobs that match, in the background.
//!
//! ```text
//! POST /jobs/bulk ─▶ operation row ─▶ wake ─▶ a runner: read ids ─▶ change each ─▶ save cursor and counts ─┐
//!                                               ▲                                                         │
//!                                               └─────────────────────── next step ◀──────────────────────┘
//! ```
//! The row is the operation: the actor only runs what is not finished, at most `RUNNING_MAX` at once. It goes from
//! the newest job to the oldest, once, and looks at nothing that was made after it began. A step that was under way
//! when the node ended is done again: changes are what they are by the job's state, so a job is not changed twice, but
//! it may be counted as skipped. Does not own the jobs: every change goes through the job's queue.
//! A lost wake-up delays an operation by a second. Restart policy: permanent; runners begin again at their cursor.

/// The face of the operations.
pub mod handle;
/// What is asked, and what the actor is told.
pub mod messages;

mod actor;
mod state;

pub use actor::{OperationsActor, OperationsArgs};
pub use state::{RUNNING_MAX, SYNC_MAX};
pub(in crate::actors) use state::{SYNC_STEP, bounded, step};
