//! The lanes through which everything is written: natural batching, no timer.
//!
//! A lane takes whatever waits at its door into one transaction while the next batch gathers. It owns no
//! fact: an op waits at the door, which outlives the actor, or in the batch under way, whose task answers
//! it whatever becomes of the actor. An op that is dropped unanswered says so to its queue, which loads
//! anew. Restart policy: permanent, one for one; a restart loses nothing and delays the next batch.

/// The face of the journal.
pub mod handle;
/// What is written and where its answer goes.
pub mod messages;

mod actor;
mod core;

pub use actor::{LaneActor, LaneArgs};
pub(crate) use core::ask_error;
pub use handle::JournalHandle;
pub use messages::{Applied, Entry, OpKey, Outcome, QueueTicket, Reply};
