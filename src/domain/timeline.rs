//! A job's timeline and attempts, as they are read back.

use serde::{Deserialize, Serialize};

use super::{clock::Timestamp, fence::Fence, ids::JobId, json::RawJson, state::JobState};

macro_rules! coded {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $code:literal $text:tt),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// All of them, in the order of their codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The number that stands for it in the store; never reused.
            #[must_use]
            pub fn code(self) -> i16 {
                match self { $(Self::$variant => $code),+ }
            }

            /// The one with this number; `None` for a number no version has written.
            #[must_use]
            pub fn from_code(code: i16) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)+ _ => None }
            }

            /// Its name, as in JSON.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

coded!(
    /// What a row of the timeline tells.
    EventKind {
        /// Made, or ready (again) to run.
        Enqueued = 0 "job.enqueued",
        /// Made, and waits for jobs it depends on.
        Blocked = 1 "job.blocked",
        /// The last dependency was met.
        Unblocked = 2 "job.unblocked",
        /// Waits for its time.
        Scheduled = 3 "job.scheduled",
        /// Put aside by a limit.
        Throttled = 4 "job.throttled",
        /// A worker was given the lease.
        Started = 5 "job.started",
        /// Done.
        Completed = 6 "job.completed",
        /// An attempt failed; another follows.
        Retrying = 7 "job.retrying",
        /// Dead-lettered.
        Failed = 8 "job.failed",
        /// A lease ended without a word from its worker.
        Recovered = 9 "job.recovered",
        /// A cancel was asked of a running job.
        CancelRequested = 10 "job.cancel_requested",
        /// Canceled.
        Canceled = 11 "job.canceled",
        /// Run again by an operator.
        Retried = 12 "job.retried",
        /// Run again from the dead letters.
        Replayed = 13 "job.replayed",
        /// Its definition was changed.
        Updated = 14 "job.updated",
        /// A submission with its key was answered with this job.
        DuplicateSuppressed = 15 "job.duplicate_suppressed",
    }
);

coded!(
    /// How an attempt ended, or that it has not.
    AttemptStatus {
        /// Running.
        Started = 0 "started",
        /// Succeeded.
        Completed = 1 "completed",
        /// Failed, and tried again.
        Retrying = 2 "retrying",
        /// Failed for good.
        Failed = 3 "failed",
        /// Its lease ended without a word.
        LeaseExpired = 4 "lease_expired",
        /// Given back, not counted.
        Released = 5 "released",
        /// Canceled.
        Canceled = 6 "canceled",
    }
);

/// A row of a job's timeline; `seq` is dense from 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TimelineRow {
    /// The job.
    pub job_id: JobId,
    /// Its place in the job's timeline, from 1, without gaps.
    pub seq: i64,
    /// What happened.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// The same for people.
    pub message: String,
    /// When, on the store's clock.
    #[schema(value_type = String, format = DateTime)]
    pub occurred_at: Timestamp,
    /// The state after it.
    pub state: JobState,
    /// The attempt it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i32>,
    /// The fence of that attempt's lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// The worker of that attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
    /// More, by kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<RawJson>,
}

/// An attempt of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptRow {
    /// `{jobId}:{fence}`: a job's attempts differ by their fence, not by their number (a retry
    /// starts the numbers anew, a release uses none up).
    pub id: String,
    /// The job.
    pub job_id: JobId,
    /// Its number, from 1.
    pub attempt: i32,
    /// The fence of its lease.
    pub fence: Fence,
    /// Who ran it.
    pub worker_id: String,
    /// How it ended, or that it has not.
    pub status: AttemptStatus,
    /// The error's type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_type: Option<String>,
    /// The error's text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Where it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack_trace: Option<String>,
    /// Whether its lease ended without a word.
    pub lease_expired: bool,
    /// When it was leased.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
}

impl AttemptRow {
    /// The id of the attempt of `job` under `fence`.
    #[must_use]
    pub fn id_of(job: JobId, fence: Fence) -> String {
        format!("{job}:{fence}")
    }
}
