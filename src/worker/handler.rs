//! What a job type's code looks like: the [`Handler`] trait, what it is given and what it answers.

use std::fmt;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{JobContext, JobError};

/// Runs the jobs of one type.
///
/// A job runs at least once: a handler may see the same job again after a crash, so its effects should be
/// idempotent by [`job_id`](super::Assignment::job_id). It runs in a task of its own that is aborted when the
/// attempt times out or is canceled; code that blocks a thread cannot be aborted and belongs in
/// `tokio::task::spawn_blocking`, watching [`JobContext::cancelled`].
///
/// ```
/// use async_trait::async_trait;
/// use ganger::worker::{Handler, JobContext, JobError, JobOutput, Registry};
///
/// #[derive(serde::Deserialize)]
/// struct Greeting { name: String }
///
/// struct Greet;
///
/// #[async_trait]
/// impl Handler for Greet {
///     async fn run(&self, ctx: JobContext) -> Result<JobOutput, JobError> {
///         let greeting: Greeting = ctx.payload()?;
///         JobOutput::of(&format!("hello, {}", greeting.name))
///     }
/// }
///
/// let mut registry = Registry::new();
/// registry.register("greet", Greet);
/// registry.handle_fn("shout", |_ctx, greeting: Greeting| async move {
///     Ok(greeting.name.to_uppercase())
/// });
/// assert_eq!(registry.types(), ["greet", "shout"]);
/// ```
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Runs one attempt of one job.
    async fn run(&self, ctx: JobContext) -> Result<JobOutput, JobError>;
}

/// What a job's attempt produced: JSON, kept as the text it was written as.
#[derive(Clone)]
pub struct JobOutput(Box<RawValue>);

impl JobOutput {
    /// Serialises `value`; a value that JSON cannot hold (a map with keys that are no strings) is a fatal error.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, JobError> {
        serde_json::value::to_raw_value(value)
            .map(Self)
            .map_err(|error| JobError::fatal("invalid_result", format!("result is not JSON: {error}")))
    }

    /// The output of a job that has nothing to say: `null`.
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned())
    }

    /// The JSON text.
    pub fn get(&self) -> &str {
        self.0.get()
    }

    /// Gives up the raw value.
    pub fn into_raw(self) -> Box<RawValue> {
        self.0
    }
}

impl From<Box<RawValue>> for JobOutput {
    fn from(raw: Box<RawValue>) -> Self {
        Self(raw)
    }
}

impl fmt::Debug for JobOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Results are users' data: logs get their size alone.
        write!(f, "JobOutput({} bytes)", self.0.get().len())
    }
}
