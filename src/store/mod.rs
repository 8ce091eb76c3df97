//! The durable truth: what every engine promises, and the engines.
//!
//! A commit here decides what happened; actor memory can be rebuilt from it at any moment. Both
//! engines run the same protocol (shard epochs, fences, one transaction per batch) and pass the same
//! conformance suite.

/// How stored rows become a job, its timeline and its attempts.
pub mod assemble;
/// The audit log, as it is read.
pub mod audit;
/// What an engine promises.
pub mod contract;
/// Dead letters: what is read of them.
pub mod dead_letters;
mod definition;
/// How a store fails, by what the caller can do.
pub mod error;
/// Log lines of jobs, as they are read.
pub mod logs;
/// Bulk operations, as they are kept.
pub mod operations;
/// What is written: the journal's operations and their results.
pub mod ops;
/// What a change of a waiting job comes to.
mod patch;
/// PostgreSQL: the engine of a cluster.
pub mod postgres;
/// What is read of queues, and how they admit births.
pub mod queues;
/// What is read.
pub mod read;
/// Counters against what they count.
pub mod reconcile;
/// Lists of jobs, in bounded steps.
pub mod search;
/// The embedded engine.
pub mod sqlite;
mod steered;
/// What is read about submissions.
pub mod submissions;

/// Passes a crash point for each operation of a batch that is written and not yet committed.
fn pass_in_transaction<'a>(ops: impl IntoIterator<Item = &'a Op>) -> Result<(), StoreError> {
    let told = ops.into_iter().try_for_each(|op| crate::crash_point::pass("in_transaction", op.name()));
    told.map_err(|injected| StoreError::Unavailable(injected.to_string()))
}

/// Passes a crash point for each operation of a batch that is committed and not yet answered. Its failure is an answer
/// that is lost: why.
fn pass_after_commit(ops: &[Op]) -> Result<(), String> {
    let told = ops.iter().try_for_each(|op| crate::crash_point::pass("after_commit", op.name()));
    told.map_err(|injected| injected.to_string())
}

pub use contract::{Settled, Store};
pub use error::{CommitError, StoreError, UnknownCommit};
pub use logs::JobLogs;
pub use ops::{Op, OpResult};
