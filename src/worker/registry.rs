//! Which handler runs which job type.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Handler, JobContext, JobError, JobOutput};

/// Handlers by job type; later registrations replace earlier ones.
#[derive(Clone, Default)]
pub struct Registry {
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone)]
struct Entry {
    handler: Arc<dyn Handler>,
    built_in: bool,
}

impl Registry {
    /// A registry without handlers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs jobs of type `job_type` with `handler`.
    pub fn register(&mut self, job_type: impl Into<String>, handler: impl Handler) -> &mut Self {
        self.insert(job_type.into(), Arc::new(handler), false)
    }

    /// Runs jobs of type `job_type` with an async function of the context and the typed payload.
    pub fn handle_fn<T, R, F, Fut>(&mut self, job_type: impl Into<String>, function: F) -> &mut Self
    where
        T: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        F: Fn(JobContext, T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, JobError>> + Send + 'static,
    {
        self.insert(job_type.into(), from_fn(function), false)
    }

    /// As [`handle_fn`](Self::handle_fn), for a type that also understands `durationMs` and `forceError`.
    pub(crate) fn built_in_fn<T, R, F, Fut>(&mut self, job_type: &str, function: F) -> &mut Self
    where
        T: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        F: Fn(JobContext, T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, JobError>> + Send + 'static,
    {
        self.insert(job_type.to_owned(), from_fn(function), true)
    }

    /// Takes all of `other`'s handlers; they win over those already here.
    pub fn extend(&mut self, other: Self) -> &mut Self {
        self.entries.extend(other.entries);
        self
    }

    /// The job types that can be run here, sorted.
    pub fn types(&self) -> Vec<String> {
        self.entries.keys().cloned().collect()
    }

    /// The handler of `job_type`.
    pub fn get(&self, job_type: &str) -> Option<Arc<dyn Handler>> {
        self.entries.get(job_type).map(|entry| entry.handler.clone())
    }

    /// Whether `job_type` is run by one of Ganger's own processors.
    pub fn is_built_in(&self, job_type: &str) -> bool {
        self.entries.get(job_type).is_some_and(|entry| entry.built_in)
    }

    fn insert(&mut self, job_type: String, handler: Arc<dyn Handler>, built_in: bool) -> &mut Self {
        self.entries.insert(job_type, Entry { handler, built_in });
        self
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.entries.keys()).finish()
    }
}

struct FnHandler<F, T> {
    function: F,
    // `fn` keeps the handler `Send` and `Sync` whatever the payload type is.
    payload: std::marker::PhantomData<fn() -> T>,
}

fn from_fn<T, R, F, Fut>(function: F) -> Arc<dyn Handler>
where
    T: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    F: Fn(JobContext, T) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, JobError>> + Send + 'static,
{
    Arc::new(FnHandler { function, payload: std::marker::PhantomData })
}

#[async_trait]
impl<T, R, F, Fut> Handler for FnHandler<F, T>
where
    T: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    F: Fn(JobContext, T) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, JobError>> + Send + 'static,
{
    async fn run(&self, ctx: JobContext) -> Result<JobOutput, JobError> {
        let payload = ctx.payload()?;
        JobOutput::of(&(self.function)(ctx, payload).await?)
    }
}
