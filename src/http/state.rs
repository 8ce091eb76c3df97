//! What every handler works with.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    access::{AuthConfig, Tickets},
    limits::{BATCHES_MAX, CHANGE_DEADLINE, HttpLimits, LINE_BATCHES_MAX, READ_DEADLINE},
    problem::{ApiError, RETRY_SOON},
};
use crate::{
    actors::platform::Platform,
    domain::{FieldError, NewJob, SubmitDefaults},
    store::StoreError,
};

type Faults = dyn Fn(&str, &Value) -> Vec<(String, String)> + Send + Sync;

/// Checks the payload of a built-in type; what it returns are pointers from the payload's root, with
/// what is wrong there.
#[derive(Clone)]
pub struct PayloadCheck(Arc<Faults>);

impl PayloadCheck {
    /// By this function of a type and a payload.
    pub fn new(check: impl Fn(&str, &Value) -> Vec<(String, String)> + Send + Sync + 'static) -> Self {
        Self(Arc::new(check))
    }

    pub(in crate::http) fn faults(&self, kind: &str, payload: &Value) -> Vec<(String, String)> {
        (self.0)(kind, payload)
    }
}

impl std::fmt::Debug for PayloadCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PayloadCheck")
    }
}

/// Builds the jobs of the demo workflow.
pub trait DemoWorkflow: std::fmt::Debug + Send + Sync + 'static {
    /// The jobs, the first of them the root; they may depend on one another (earlier in the list).
    ///
    /// # Errors
    /// The fields of the request at fault.
    fn jobs(&self, tenant: &str, source: Option<&str>) -> Result<Vec<NewJob>, Vec<FieldError>>;
}

/// What the HTTP layer is given by the composition root.
#[derive(Debug, Clone)]
pub struct HttpParts {
    /// The face of the actors.
    pub platform: Platform,
    /// Keys and origins.
    pub auth: AuthConfig,
    /// The bounds.
    pub limits: HttpLimits,
    /// What a submission that is silent means.
    pub defaults: SubmitDefaults,
    /// The types whose payloads are checked at submission. Others are never parsed.
    pub checked_types: &'static [&'static str],
    /// How.
    pub check_payload: PayloadCheck,
    /// The demo workflow.
    pub demo: Arc<dyn DemoWorkflow>,
}

/// What every handler works with. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HttpState {
    pub(in crate::http) platform: Platform,
    pub(in crate::http) auth: Arc<AuthConfig>,
    pub(in crate::http) defaults: SubmitDefaults,
    pub(in crate::http) checked_types: &'static [&'static str],
    pub(in crate::http) check_payload: PayloadCheck,
    pub(in crate::http) demo: Arc<dyn DemoWorkflow>,
    pub(in crate::http) tickets: Arc<Tickets>,
    pub(in crate::http) places: Arc<Places>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Room for what is served at once.
#[derive(Debug)]
pub(in crate::http) struct Places {
    pub(in crate::http) requests: Arc<Semaphore>,
    pub(in crate::http) waits: Arc<Semaphore>,
    pub(in crate::http) streams: Arc<Semaphore>,
    pub(in crate::http) batches: Arc<Semaphore>,
    pub(in crate::http) line_batches: Arc<Semaphore>,
}

impl HttpState {
    /// From its parts.
    #[must_use]
    pub fn new(parts: HttpParts) -> Self {
        let HttpLimits { requests_max, waits_max, streams_max } = parts.limits;
        let room = |places: usize| Arc::new(Semaphore::new(places));
        Self {
            platform: parts.platform,
            auth: Arc::new(parts.auth),
            defaults: parts.defaults,
            checked_types: parts.checked_types,
            check_payload: parts.check_payload,
            demo: parts.demo,
            tickets: Arc::default(),
            places: Arc::new(Places {
                requests: room(requests_max),
                waits: room(waits_max),
                streams: room(streams_max),
                batches: room(BATCHES_MAX),
                line_batches: room(LINE_BATCHES_MAX),
            }),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Ends streams and waits; what was begun goes on.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Canceled when streams and waits are to end.
    #[must_use]
    pub fn stopping(&self) -> &CancellationToken {
        &self.stop
    }

    /// Waits until every change and stream has ended, at most `deadline`; returns whether they have.
    /// Call after [`stop`](Self::stop), and after the listener was closed.
    pub async fn drained(&self, deadline: Duration) -> bool {
        self.tasks.close();
        tokio::time::timeout(deadline, self.tasks.wait()).await.is_ok()
    }

    /// The tasks whose ends a shutdown waits for.
    pub(in crate::http) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Runs a change in a task of its own and waits for it: a caller that goes away does not stop it
    /// half-way.
    pub(in crate::http) async fn change<T, F>(&self, work: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let task = self.tasks.spawn(work);
        match tokio::time::timeout(CHANGE_DEADLINE, task).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(panicked)) => Err(ApiError::internal(panicked)),
            Err(_) => Err(ApiError::unavailable(
                "timed_out",
                "no answer in time; the change goes on, so repeat a submission with its key",
                RETRY_SOON,
            )),
        }
    }

    /// Waits for a read of the store, within its deadline.
    pub(in crate::http) async fn read<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, ApiError> {
        match tokio::time::timeout(READ_DEADLINE, work).await {
            Ok(read) => Ok(read?),
            Err(_) => Err(ApiError::unavailable(
                "store_unavailable",
                "the store did not answer in time",
                RETRY_SOON,
            )),
        }
    }
}
