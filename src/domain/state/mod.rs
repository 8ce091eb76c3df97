//! The nine states of a job and every move between them, as one transition function.
//!
//! The store's guards (`where state = …`) repeat these rules at the row; the conformance suite
//! compares the two.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Where a job is in its life.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// May run as soon as a worker takes it.
    Queued,
    /// Waits for its `runAt`.
    Scheduled,
    /// Waits for its backoff after a failed attempt.
    Retrying,
    /// Waits for jobs that it depends on.
    Blocked,
    /// Waits for a rate or concurrency limit.
    Throttled,
    /// A worker holds its lease.
    Active,
    /// Done.
    Completed,
    /// Out of attempts; in the dead letters.
    Failed,
    /// Ended on request.
    Canceled,
}

/// What can happen to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobEvent {
    /// Its time has come.
    Due,
    /// A worker was given a lease.
    Leased,
    /// The attempt succeeded.
    Succeeded,
    /// The attempt failed and another follows after a backoff.
    WillRetry,
    /// The lease ended without a word and attempts are left.
    LeaseLost,
    /// The attempt failed, or its lease was lost, and none is left.
    Exhausted,
    /// The worker gave the job back; no attempt is used up.
    Released,
    /// The worker gave the job back for later; no attempt is used up.
    Snoozed,
    /// Canceled by an operator, a deadline or its worker's acknowledgement.
    Canceled,
    /// The last dependency was met and its time has come.
    DependenciesMet,
    /// The last dependency was met before its `runAt`.
    DependenciesMetEarly,
    /// A limit has no room.
    Throttled,
    /// Moved to a later `runAt`.
    Postponed,
    /// Run again now, by an operator.
    Retried,
    /// Run again from the dead letters.
    Replayed,
    /// Run again by a rerun of its workflow.
    Rerun,
}

/// A move that the life of a job does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {from} job cannot be moved by {event:?}")]
pub struct IllegalTransition {
    /// The state it is in.
    pub from: JobState,
    /// What was to happen.
    pub event: JobEvent,
}

impl JobState {
    /// All states, in the order of their codes.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Scheduled,
        Self::Retrying,
        Self::Blocked,
        Self::Throttled,
        Self::Active,
        Self::Completed,
        Self::Failed,
        Self::Canceled,
    ];

    /// The state after `event`.
    ///
    /// # Errors
    /// [`IllegalTransition`] when the life of a job has no such move.
    pub fn next(self, event: JobEvent) -> Result<Self, IllegalTransition> {
        use {JobEvent as E, JobState as S};
        match (self, event) {
            (S::Scheduled | S::Retrying | S::Throttled, E::Due | E::Retried) => Ok(S::Queued),
            (S::Queued, E::Leased) => Ok(S::Active),
            (S::Queued, E::Throttled) => Ok(S::Throttled),
            (S::Queued | S::Retrying | S::Throttled, E::Postponed) => Ok(S::Scheduled),
            (S::Active, E::Succeeded) => Ok(S::Completed),
            (S::Active, E::WillRetry | E::LeaseLost) => Ok(S::Retrying),
            (S::Active, E::Exhausted) => Ok(S::Failed),
            (S::Active, E::Released) => Ok(S::Queued),
            (S::Active, E::Snoozed) => Ok(S::Scheduled),
            (S::Blocked, E::DependenciesMet) => Ok(S::Queued),
            (S::Blocked, E::DependenciesMetEarly) => Ok(S::Scheduled),
            (S::Failed, E::Retried | E::Replayed) => Ok(S::Queued),
            (S::Completed, E::Rerun) => Ok(S::Queued),
            (
                S::Queued | S::Scheduled | S::Retrying | S::Blocked | S::Throttled | S::Active | S::Failed,
                E::Canceled,
            ) => Ok(S::Canceled),
            (from, event) => Err(IllegalTransition { from, event }),
        }
    }

    /// Whether the job's life has ended, but for a retry, replay or rerun.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Canceled)
    }

    /// Whether the job waits for a point in time (or a limit's) and is ready after it.
    #[must_use]
    pub fn is_deferred(self) -> bool {
        matches!(self, Self::Scheduled | Self::Retrying | Self::Throttled)
    }

    /// The number that stands for the state in the store; never reused.
    #[must_use]
    pub fn code(self) -> i16 {
        match self {
            Self::Queued => 0,
            Self::Scheduled => 1,
            Self::Retrying => 2,
            Self::Blocked => 3,
            Self::Throttled => 4,
            Self::Active => 5,
            Self::Completed => 6,
            Self::Failed => 7,
            Self::Canceled => 8,
        }
    }

    /// The state with this number; `None` for a number no version has written.
    #[must_use]
    pub fn from_code(code: i16) -> Option<Self> {
        usize::try_from(code).ok().and_then(|index| Self::ALL.get(index).copied())
    }

    /// The state's name, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Scheduled => "scheduled",
            Self::Retrying => "retrying",
            Self::Blocked => "blocked",
            Self::Throttled => "throttled",
            Self::Active => "active",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for JobState {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.name() == text).ok_or(())
    }
}

#[cfg(test)]
mod tests;
