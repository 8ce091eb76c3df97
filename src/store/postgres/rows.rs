//! Between rows and domain types.

use chrono::{DateTime, Utc};
use sqlx::{Row, postgres::PgRow};

use super::error::store_error;
use crate::{
    domain::{
        AttemptStatus, BootId, DependencyPolicy, EventKind, Fence, JobId, JobState, SessionId, ShardId,
        Timestamp,
    },
    store::StoreError,
};

/// Reads a row's columns one after another, so that a statement's `select` list and its reader are the
/// same list in the same order.
pub(super) struct Columns<'r> {
    row: &'r PgRow,
    at: usize,
}

impl<'r> Columns<'r> {
    pub(super) fn of(row: &'r PgRow) -> Self {
        Self { row, at: 0 }
    }

    /// The next column.
    pub(super) fn next<T>(&mut self) -> Result<T, StoreError>
    where
        T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        let at = self.at;
        self.at += 1;
        self.row.try_get(at).map_err(store_error)
    }

    /// `count` columns that are not needed.
    pub(super) fn skip(&mut self, count: usize) {
        self.at += count;
    }

    /// Whether the next column is null; it stays the next.
    pub(super) fn is_null(&self) -> Result<bool, StoreError> {
        use sqlx::ValueRef;
        Ok(self.row.try_get_raw(self.at).map_err(store_error)?.is_null())
    }

    pub(super) fn job(&mut self) -> Result<JobId, StoreError> {
        self.next().map(JobId)
    }

    pub(super) fn shard(&mut self) -> Result<ShardId, StoreError> {
        self.next().map(ShardId)
    }

    pub(super) fn fence(&mut self) -> Result<Fence, StoreError> {
        self.next().map(Fence)
    }

    pub(super) fn session(&mut self) -> Result<SessionId, StoreError> {
        self.next().map(SessionId)
    }

    pub(super) fn boot(&mut self) -> Result<BootId, StoreError> {
        self.next().map(BootId)
    }

    pub(super) fn time(&mut self) -> Result<Timestamp, StoreError> {
        self.next::<DateTime<Utc>>().map(Timestamp::from)
    }

    pub(super) fn time_or_none(&mut self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.next::<Option<DateTime<Utc>>>()?.map(Timestamp::from))
    }

    /// A `json` column, read as the text it is.
    pub(super) fn json(&mut self) -> Result<String, StoreError> {
        self.next()
    }

    pub(super) fn state(&mut self) -> Result<JobState, StoreError> {
        let code = self.next()?;
        JobState::from_code(code).ok_or_else(|| unknown_code("state", code))
    }

    pub(super) fn event_kind(&mut self) -> Result<EventKind, StoreError> {
        let code = self.next()?;
        EventKind::from_code(code).ok_or_else(|| unknown_code("event kind", code))
    }

    pub(super) fn attempt_status(&mut self) -> Result<Option<AttemptStatus>, StoreError> {
        let code: Option<i16> = self.next()?;
        code.map(|code| AttemptStatus::from_code(code).ok_or_else(|| unknown_code("attempt status", code)))
            .transpose()
    }

    pub(super) fn policy(&mut self) -> Result<Option<DependencyPolicy>, StoreError> {
        let code: Option<i16> = self.next()?;
        code.map(|code| {
            DependencyPolicy::from_code(code).ok_or_else(|| unknown_code("dependency policy", code))
        })
        .transpose()
    }
}

/// A number that a newer version wrote.
fn unknown_code(what: &str, code: i16) -> StoreError {
    StoreError::Refused(format!("unknown {what} {code} in the store: was it written by a newer version?"))
}

/// Text as PostgreSQL can hold it: without NUL characters.
pub(super) fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A column of times.
pub(super) fn times(values: impl IntoIterator<Item = Timestamp>) -> Vec<DateTime<Utc>> {
    values.into_iter().map(Timestamp::to_datetime).collect()
}
