//! What SQLite's errors mean to a caller.

use crate::store::StoreError;

/// Sorts an error by what the caller can do about it.
pub(super) fn store_error(error: sqlx::Error) -> StoreError {
    let text = error.to_string();
    match error {
        sqlx::Error::Database(database) => match primary_code(database.code().as_deref()) {
            // BUSY, LOCKED.
            Some(5 | 6) => StoreError::Conflict(text),
            // PERM, NOMEM, READONLY, INTERRUPT, IOERR, CORRUPT, FULL, CANTOPEN, PROTOCOL, NOTADB: of the
            // disk or the process, never of one operation.
            Some(3 | 7..=11 | 13..=15 | 26) => StoreError::Unavailable(text),
            _ => StoreError::Refused(text),
        },
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => StoreError::Unavailable(text),
        _ => StoreError::Refused(text),
    }
}

/// Whether a `commit` that failed with `error` surely did not happen: no room was left for the page that completes
/// it in the log, and a log without that page ends before the transaction, also after a crash. A failure to flush says
/// nothing of the kind.
pub(super) fn is_definite(error: &sqlx::Error) -> bool {
    /// FULL.
    const NO_ROOM: i32 = 13;
    error
        .as_database_error()
        .is_some_and(|database| primary_code(database.code().as_deref()) == Some(NO_ROOM))
}

/// The low byte of an extended result code names its kind.
fn primary_code(code: Option<&str>) -> Option<i32> {
    code.and_then(|code| code.parse::<i32>().ok()).map(|code| code & 0xff)
}

/// A stored value that no version of this program has written.
pub(super) fn unreadable(what: &str) -> StoreError {
    StoreError::Refused(format!("a stored {what} that this version cannot read"))
}
