//! How a store fails, by what the caller can do about it.

use std::{any::Any, fmt};

use super::ops::OpResult;

/// A store call that did not succeed. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Out of reach, starting, stopping, out of disk or connections: try again later.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// A deadlock or serialization failure (40P01, 40001, SQLITE_BUSY): repeat at once.
    #[error("store conflict: {0}")]
    Conflict(String),
    /// The statement or its data was refused; repeating it does not help. In a batch, the batch is
    /// bisected so that only the operation at fault fails.
    #[error("store refused a statement: {0}")]
    Refused(String),
}

impl StoreError {
    /// Whether the same call may succeed later without a change.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Conflict(_) => true,
            Self::Refused(_) => false,
        }
    }
}

/// A batch that did not answer success.
#[derive(Debug)]
pub enum CommitError {
    /// Nothing of the batch was written.
    Failed(StoreError),
    /// The connection was lost while the commit was on its way: it may have happened.
    /// [`Store::settle`](super::Store::settle) finds out.
    Unknown(UnknownCommit),
}

/// What is needed to learn whether a lost commit happened.
pub struct UnknownCommit {
    /// What each operation's result is if it did.
    pub results: Vec<OpResult>,
    /// The engine's witness of the transaction (a transaction id, a batch number).
    pub witness: Box<dyn Any + Send + Sync>,
    /// Why the answer was lost.
    pub cause: String,
}

impl fmt::Debug for UnknownCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnknownCommit").field("cause", &self.cause).finish_non_exhaustive()
    }
}
