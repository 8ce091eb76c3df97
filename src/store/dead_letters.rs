//! What is read of dead letters.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{error::StoreError, read::DeadLetter};
use crate::domain::{AttemptRow, JobId, JobView, Timestamp};

/// The most attempts shown with each dead letter of a list: the newest tell what it is about, and an
/// inspection has the others.
pub const LETTER_ATTEMPTS_MAX: i64 = 10;

/// The most types and queues named with a group.
pub const GROUP_NAMES_MAX: usize = 20;

/// Which dead letters. All that are given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// The queue.
    pub queue: Option<String>,
    /// The error's type.
    pub error_type: Option<String>,
    /// The job's type.
    pub kind: Option<String>,
    /// The tenant.
    pub tenant: Option<String>,
    /// The group.
    pub fingerprint: Option<String>,
    /// Failed at or after.
    pub failed_after: Option<Timestamp>,
    /// Failed before.
    pub failed_before: Option<Timestamp>,
}

/// A place in the list of dead letters, newest first: what follows failed before it, or at the same time
/// and has a lower id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LetterCursor {
    /// When the last one shown failed.
    pub failed_at: Timestamp,
    /// Which it was.
    pub job: JobId,
}

impl LetterCursor {
    /// Before the newest that had failed at `at`, which is included.
    #[must_use]
    pub fn up_to(at: Timestamp) -> Self {
        Self { failed_at: at, job: JobId(uuid::Uuid::max()) }
    }

    /// Before all of them.
    #[must_use]
    pub fn newest() -> Self {
        /// The year 9999, which both engines can hold.
        const FAR: Timestamp = Timestamp(253_370_764_800_000_000);
        Self::up_to(FAR)
    }
}

/// A dead letter with its job.
#[derive(Debug, Clone, PartialEq)]
pub struct LetterRow {
    /// The letter.
    pub letter: DeadLetter,
    /// The job.
    pub job: JobView,
    /// Its newest attempts, oldest first, at most [`LETTER_ATTEMPTS_MAX`].
    pub attempts: Vec<AttemptRow>,
}

/// What has to be known of a dead letter to act on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterKey {
    /// Its place in the list.
    pub place: LetterCursor,
    /// Its queue.
    pub queue: String,
    /// What handles it.
    pub kind: String,
    /// How large its payload is.
    pub payload_bytes: i64,
}

/// Dead letters with the same cause.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LetterGroup {
    /// Hash of the error's type and folded text; empty for letters that were written before there were any,
    /// until upkeep has made theirs.
    pub fingerprint: String,
    /// The error's type.
    pub error_type: String,
    /// The error's text in the newest of them.
    pub message: String,
    /// How many.
    pub count: i64,
    /// When the oldest failed.
    #[schema(value_type = String, format = DateTime)]
    pub first_seen: Timestamp,
    /// When the newest failed.
    #[schema(value_type = String, format = DateTime)]
    pub last_seen: Timestamp,
    /// Types of their jobs, at most 20.
    pub types: Vec<String>,
    /// Their queues, at most 20.
    pub queues: Vec<String>,
    /// The newest of them.
    pub sample_job_id: JobId,
}

/// Where a page of groups begins, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupCursor {
    /// What failed later is not counted: pages are stable while dead letters are added.
    pub as_of: Timestamp,
    /// Groups whose newest letter failed before, or at the same time with a lower fingerprint. `None` for the
    /// first page.
    pub after: Option<(Timestamp, String)>,
}

/// Reads of dead letters.
#[async_trait]
pub trait DeadLetters {
    /// Dead letters with their jobs, newest first, behind `cursor`.
    async fn dead_letters(
        &self,
        filter: &LetterFilter,
        cursor: LetterCursor,
        limit: i64,
    ) -> Result<Vec<LetterRow>, StoreError>;

    /// The same dead letters, only to be acted on.
    async fn dead_letter_keys(
        &self,
        filter: &LetterFilter,
        cursor: LetterCursor,
        limit: i64,
    ) -> Result<Vec<LetterKey>, StoreError>;

    /// Those of these jobs that are dead letters, newest first.
    async fn dead_letter_keys_of(&self, jobs: &[JobId]) -> Result<Vec<LetterKey>, StoreError>;

    /// Groups, the one that was seen last first.
    async fn dead_letter_groups(
        &self,
        filter: &LetterFilter,
        cursor: &GroupCursor,
        limit: i64,
    ) -> Result<Vec<LetterGroup>, StoreError>;

    /// Jobs by their ids, in any order; unknown ones are left out.
    async fn jobs_by_id(&self, ids: &[JobId]) -> Result<Vec<JobView>, StoreError>;
}
