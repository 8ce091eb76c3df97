//! The job that a path names.

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};

use crate::{domain::JobId, http::problem::ApiError};

/// The `{id}` of a path. What cannot be an id names no job: 404, not 400.
#[derive(Debug, Clone, Copy)]
pub struct JobPath(pub JobId);

/// Reads an id in its one written form; `Uuid` alone would take braces and bare digits too, and a job
/// must have one address.
pub(crate) fn parse(text: &str) -> Option<JobId> {
    (text.len() == 36).then(|| text.parse().ok()).flatten()
}

impl<S: Send + Sync> FromRequestParts<S> for JobPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let params =
            RawPathParams::from_request_parts(parts, state).await.map_err(|_| ApiError::no_such_job())?;
        let id = params.iter().find(|(name, _)| *name == "id").and_then(|(_, value)| parse(value));
        id.map(Self).ok_or_else(ApiError::no_such_job)
    }
}
