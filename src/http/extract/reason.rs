//! Why something was done, in a person's words.

use crate::http::{limits::REASON_BYTES_MAX, problem::ApiError};

/// The `reason` of a body, for the audit log, as it was given.
///
/// # Errors
/// It is longer than [`REASON_BYTES_MAX`], or has a NUL, which PostgreSQL does not keep.
pub(in crate::http) fn reason(reason: Option<String>) -> Result<Option<String>, ApiError> {
    if reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX || reason.contains('\0')) {
        let detail = format!("at most {REASON_BYTES_MAX} bytes, without NUL");
        return Err(ApiError::invalid_field("/reason", detail));
    }
    Ok(reason)
}
