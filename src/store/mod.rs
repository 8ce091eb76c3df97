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
/// How a store fails, by what the caller can do.
pub mod error;
/// Bulk operations, as they are kept.
pub mod operations;
/// What is written: the journal's operations and their results.
pub mod ops;
/// What a change of a waiting job comes to.
mod patch;
/// PostgreSQL: the engine of a cluster.
pub mod postgres;
/// What is read.
pub mod read;
/// The embedded engine.
pub mod sqlite;

pub use contract::{Settled, Store};
pub use error::{CommitError, StoreError, UnknownCommit};
pub use ops::{Op, OpResult};
