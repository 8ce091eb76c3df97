//! What a job is and what may happen to it. Plain data and decisions: no IO, no clock of its own.

/// Where time comes from.
pub mod clock;
/// Controls of a running job, and their receipts.
pub mod control;
/// Leases, fences and epochs.
pub mod fence;
/// Which errors have the same cause.
pub mod fingerprint;
/// Identifiers.
pub mod ids;
/// The job: its definition, options and view.
pub mod job;
/// JSON kept byte for byte.
pub mod json;
/// Names of queues, types, tenants, tags and keys.
pub mod name;
/// A change of a waiting job and its checks.
pub mod patch;
/// Settings of queues.
pub mod queue;
/// Retry policies.
pub mod retry;
/// The nine states and the moves between them.
pub mod state;
/// A submission and its checks.
pub mod submit;
/// The timeline and the attempts of a job.
pub mod timeline;
/// Jobs of which there is to be one at a time.
pub mod unique;

pub use clock::{Clock, Timestamp};
pub use control::{Control, ControlKind};
pub use fence::{Epoch, Fence, LeaseToken, ShardEpoch, ShardId};
pub use fingerprint::fingerprint;
pub use ids::{BootId, JobId, SessionId, WorkerId, WorkflowId};
pub use job::{DependencyPolicy, IdempotencyKey, JobOptions, JobView, NewJob, WaitingFor};
pub use json::RawJson;
pub use patch::{JobPatch, PatchRequest};
pub use queue::{QueueChange, QueueConfig, QueuePatch};
pub use retry::RetryPolicy;
pub use state::{IllegalTransition, JobEvent, JobState};
pub use submit::{FieldError, SubmitDefaults, SubmitRequest};
pub use timeline::{AttemptRow, AttemptStatus, EventKind, TimelineRow};
pub use unique::{OnConflict, UniqueKey, UniqueRequest};
