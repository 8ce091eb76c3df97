//! What clients did (the history) held against what the platform says happened (the dump).
//!
//! A test records every operation as it is invoked and as it ends, heals all faults, lets the platform drain, takes
//! a `Dump` and asks `check` for violations. The checks are pure, so each is itself tested with a broken history.

mod check;
mod dump;
mod record;
mod relation;
mod timeline;

use std::fmt;

use serde_json::Value;

pub use check::{assert_sound, check};
pub use dump::{Dump, JobDump};
pub use record::{Operation, Outcome, Recorder, load};
pub use relation::orphans;

/// One broken promise, with the rows that show it.
#[derive(Debug, Clone)]
pub struct Violation {
    /// `S1` … `K1`, as in the table over `check`.
    pub check: &'static str,
    /// The job's id, or the submission's key where there is no job.
    pub job: String,
    pub detail: String,
    pub rows: Vec<Value>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} job {}: {}", self.check, self.job, self.detail)?;
        self.rows.iter().try_for_each(|row| writeln!(f, "    {row}"))
    }
}
