//! What an error of the driver means to the caller.

use sqlx::error::DatabaseError;

use crate::store::StoreError;

/// A deadlock or a serialization failure: the transaction is undone and may be repeated at once.
const CONFLICT: [&str; 2] = ["40001", "40P01"];

/// Classes of codes by which a server says that it cannot serve now: connection, resources (disk,
/// memory, connections), intervention (shutdown, terminated), system (IO), and a lost table lock.
const UNAVAILABLE_CLASSES: [&str; 4] = ["08", "53", "57", "58"];

/// Codes of other classes that end with the state of the server, not with the statement: read-only
/// (a standby), idle in transaction too long, lock not available, invalid authorization.
const UNAVAILABLE: [&str; 5] = ["25006", "25P03", "55P03", "28P01", "28000"];

pub(super) fn store_error(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(database) => of_database(database.as_ref()),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::Encode(_) => {
            StoreError::Refused(error.to_string())
        }
        _ => StoreError::Unavailable(error.to_string()),
    }
}

fn of_database(error: &dyn DatabaseError) -> StoreError {
    let code = error.code().unwrap_or_default();
    let code = code.as_ref();
    let text = format!("{} ({code})", error.message());
    if CONFLICT.contains(&code) {
        StoreError::Conflict(text)
    } else if UNAVAILABLE.contains(&code) || UNAVAILABLE_CLASSES.iter().any(|class| code.starts_with(class)) {
        StoreError::Unavailable(text)
    } else {
        StoreError::Refused(text)
    }
}

/// Whether a COMMIT that was answered with `error` surely did not happen: the server judged it.
/// Anything else (a lost connection, a terminated backend) leaves it open.
pub(super) fn is_definite(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(DatabaseError::code)
        .is_some_and(|code| ["23", "25", "40"].iter().any(|class| code.starts_with(class)) && code != "25P03")
}
