//! A node's HTTP layer in process, for tests of what needs no actors. **One place** makes the platform:
//! [`Stage::platform`].

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, Response, StatusCode},
};
use serde_json::Value;
use tower::ServiceExt;

use super::{AuthConfig, DemoWorkflow, Digest, HttpLimits, HttpParts, HttpState};
use crate::{
    actors::{
        console::hub,
        journal::JournalHandle,
        operations::handle::OperationsHandle,
        platform::{Platform, PlatformParts},
        queue::handle::Queues,
        runtime::{Directory, door},
        shard::{QueueParts, ShardWaker, Shards},
        worker::Sessions,
    },
    domain::{
        AttemptRow, BootId, Clock, Epoch, FieldError, JobId, JobState, JobView, NewJob, RetryPolicy,
        ShardEpoch, ShardId, SubmitDefaults, TimelineRow, Timestamp,
    },
    store::{
        JobLogs, Op, OpResult, Settled, Store, StoreError,
        dead_letters::{
            DeadLetters, GroupCursor, LetterCursor, LetterFilter, LetterGroup, LetterKey, LetterRow,
        },
        error::{CommitError, UnknownCommit},
        logs::{LogFilter, LogRow},
        queues::QueueReads,
        read::{
            FinishedFilter, FinishedRow, Graph, Inspection, JobFilter, LeaseRow, QueueRow, ReadyKey, ReadyRow,
        },
        reconcile::{Healed, Reconcile},
        search::JobSearch,
    },
};

/// The key of the tests' node.
pub(super) const KEY: &str = "test-admin-key";

/// A node under test.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) store: Arc<Shelf>,
    pub(super) state: HttpState,
    app: Router,
}

/// An answer, with its body read.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(super) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Stage {
    pub(super) fn new() -> Self {
        Self::with(HttpLimits::default(), None, false)
    }

    pub(super) fn with(limits: HttpLimits, dashboard_origin: Option<&str>, development: bool) -> Self {
        let store = Arc::new(Shelf::default());
        let state = HttpState::new(HttpParts {
            platform: Self::platform(store.clone()),
            auth: AuthConfig {
                admin_token: Digest::of(KEY),
                dashboard_origin: dashboard_origin.map(str::to_owned),
                development,
            },
            limits,
            defaults: SubmitDefaults::default(),
            checked_types: &["email.send"],
            check_payload: super::PayloadCheck::new(|_, payload| match payload.get("recipient") {
                Some(_) => Vec::new(),
                None => vec![("/recipient".into(), "is needed".into())],
            }),
            demo: Arc::new(NoDemo),
        });
        Self { store, app: super::app(state.clone()), state }
    }

    /// A platform whose actors do not run: what asks them is told so.
    fn platform(store: Arc<Shelf>) -> Platform {
        let (clock, boot, directory) = (Arc::<Clock>::default(), BootId::new(), Directory::new());
        let (sessions, queues) = (Arc::<Sessions>::default(), Arc::<Queues>::default());
        let (hub, waker) = (hub(boot).0, ShardWaker::default());
        let journal = JournalHandle::new(vec![door(1).0]);
        let parts = QueueParts {
            store: store.clone(),
            journal: journal.clone(),
            clock: clock.clone(),
            boot,
            sessions: sessions.clone(),
            hub: hub.clone(),
            waker: waker.clone(),
            retry: RetryPolicy::exponential(Duration::from_secs(5), Duration::from_secs(900)),
            lease_ttl_ms: 30_000,
        };
        let shards = Shards::new(parts, directory.clone(), Arc::new([]), queues, waker);
        Platform::new(PlatformParts {
            node: "test".to_owned(),
            clock,
            store,
            journal,
            boot,
            shards,
            sessions,
            hub,
            directory,
            health: Arc::default(),
            operations: OperationsHandle::default(),
        })
    }

    /// Sends a request as it is.
    pub(super) async fn raw(&self, request: Request<Body>) -> Response<Body> {
        self.app.clone().oneshot(request).await.expect("a router always answers")
    }

    /// Sends a request and reads the answer.
    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.raw(request).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a whole body");
        Answer { status, headers, text: String::from_utf8_lossy(&bytes).into_owned() }
    }

    /// Sends a request and reads the answer's head alone, for those that may be streams; the code of a
    /// problem is not known then.
    pub(super) async fn status(&self, request: Request<Body>) -> (u16, HeaderMap) {
        let response = self.raw(request).await;
        (response.status().as_u16(), response.headers().clone())
    }

    /// Sends a request with the key.
    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut all = vec![("authorization", "Bearer test-admin-key")];
        all.extend_from_slice(headers);
        self.send(request(method, path, &all, body.to_vec())).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"").await
    }

    pub(super) async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, &[("content-type", "application/json")], body.as_bytes()).await
    }
}

/// A request.
pub(super) fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into()).expect("a request")
}

/// A status that hides nothing of the node.
pub(super) fn is_refusal(status: u16) -> bool {
    StatusCode::from_u16(status).is_ok_and(|status| status.is_client_error())
}

/// A job in some state.
pub(super) fn job(state: JobState, payload: &str) -> JobView {
    let id = JobId::new();
    let view = serde_json::json!({
        "id": id, "type": "noop", "queue": "default", "tenantId": "default", "payload": null, "priority": 5,
        "attempts": 0, "maxAttempts": 5, "state": state, "schemaVersion": 1, "timeoutSeconds": 300,
        "cancelRequested": false, "createdAt": Timestamp(0), "updatedAt": Timestamp(0), "runAt": Timestamp(0),
        "executionMs": 0, "leaseToken": "17.1.x",
    });
    let mut view: JobView = serde_json::from_str(&view.to_string()).expect("a job");
    view.payload = crate::domain::RawJson::trusted(payload);
    view
}

#[derive(Debug)]
struct NoDemo;

impl DemoWorkflow for NoDemo {
    fn jobs(&self, _tenant: &str, _source: Option<&str>) -> Result<Vec<NewJob>, Vec<FieldError>> {
        Err(vec![FieldError::new("/source", "no demo here")])
    }
}

/// A store that has jobs to read and takes none.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    jobs: Mutex<Vec<JobView>>,
    lines: Mutex<Vec<LogRow>>,
}

impl Shelf {
    pub(super) fn put(&self, job: JobView) {
        self.jobs.lock().expect("not poisoned").push(job);
    }

    pub(super) fn newest_first(&self) -> Vec<JobView> {
        self.jobs.lock().expect("not poisoned").iter().rev().cloned().collect()
    }

    pub(super) fn say(&self, line: LogRow) {
        self.lines.lock().expect("not poisoned").push(line);
    }
}

type Read<T> = Result<T, StoreError>;

fn refused<T>() -> Read<T> {
    Err(StoreError::Refused("the tests' store only reads".into()))
}

#[async_trait]
impl DeadLetters for Shelf {
    async fn dead_letters(&self, _: &LetterFilter, _: LetterCursor, _: i64) -> Read<Vec<LetterRow>> {
        Ok(Vec::new())
    }
    async fn dead_letter_keys(&self, _: &LetterFilter, _: LetterCursor, _: i64) -> Read<Vec<LetterKey>> {
        Ok(Vec::new())
    }
    async fn dead_letter_keys_of(&self, _: &[JobId]) -> Read<Vec<LetterKey>> {
        Ok(Vec::new())
    }
    async fn dead_letter_groups(&self, _: &LetterFilter, _: &GroupCursor, _: i64) -> Read<Vec<LetterGroup>> {
        Ok(Vec::new())
    }
    async fn jobs_by_id(&self, ids: &[JobId]) -> Read<Vec<JobView>> {
        Ok(self
            .jobs
            .lock()
            .expect("not poisoned")
            .iter()
            .filter(|job| ids.contains(&job.id))
            .cloned()
            .collect())
    }
}

#[async_trait]
impl QueueReads for Shelf {
    async fn set_aside(&self, _: ShardId, _: &str, _: Option<JobId>, _: i64) -> Read<Vec<JobId>> {
        Ok(Vec::new())
    }
    async fn oldest_gated(&self, _: ShardId, _: &str) -> Read<Option<Timestamp>> {
        Ok(None)
    }
}

#[async_trait]
impl JobLogs for Shelf {
    async fn logs(&self, id: JobId, _: LogFilter, after: i64, limit: i64) -> Read<Option<Vec<LogRow>>> {
        let lines = self.lines.lock().expect("not poisoned").clone();
        let lines = lines.into_iter().filter(|line| line.job_id == id && line.seq > after);
        let lines = lines.take(usize::try_from(limit).expect("positive")).collect();
        Ok(self.job(id).await?.map(|_| lines))
    }
    async fn newest_log(&self, id: JobId) -> Read<i64> {
        let lines = self.lines.lock().expect("not poisoned");
        Ok(lines.iter().filter(|line| line.job_id == id).map(|line| line.seq).max().unwrap_or(0))
    }
}

#[async_trait]
impl Store for Shelf {
    fn engine(&self) -> &'static str {
        "shelf"
    }
    fn lanes(&self) -> u16 {
        1
    }
    async fn migrate(&self, _apply: bool) -> Read<()> {
        Ok(())
    }
    async fn ping(&self) -> Read<()> {
        Ok(())
    }
    async fn now(&self) -> Read<Timestamp> {
        Ok(Timestamp(0))
    }
    async fn acquire_all(&self, _: BootId, _: &str, _: bool) -> Read<Vec<ShardEpoch>> {
        refused()
    }
    async fn raise_epoch(&self, _: ShardId, _: Epoch, _: BootId) -> Read<Option<Epoch>> {
        refused()
    }
    async fn heartbeat(&self, _: BootId) -> Read<()> {
        Ok(())
    }
    async fn maintain(&self) -> Read<()> {
        Ok(())
    }
    async fn commit(&self, _: u16, _: &[Op]) -> Result<Vec<OpResult>, CommitError> {
        Err(CommitError::Failed(StoreError::Refused("the tests' store only reads".into())))
    }
    async fn settle(&self, _: &UnknownCommit) -> Read<Settled> {
        refused()
    }
    async fn queues(&self, _: ShardId) -> Read<Vec<QueueRow>> {
        Ok(Vec::new())
    }
    async fn all_queues(&self) -> Read<Vec<QueueRow>> {
        Ok(Vec::new())
    }
    async fn ready(
        &self,
        _: ShardId,
        _: &str,
        _: i16,
        _: Option<ReadyKey>,
        _: Timestamp,
        _: i64,
    ) -> Read<Vec<ReadyRow>> {
        Ok(Vec::new())
    }
    async fn deferred(
        &self,
        _: ShardId,
        _: &str,
        _: i16,
        _: Timestamp,
        _: Timestamp,
        _: i64,
    ) -> Read<Vec<ReadyRow>> {
        Ok(Vec::new())
    }
    async fn due_counts(&self, _: ShardId, _: &str, _: Timestamp) -> Read<[i64; 9]> {
        Ok([0; 9])
    }
    async fn leases(&self, _: ShardId, _: &str) -> Read<Vec<LeaseRow>> {
        Ok(Vec::new())
    }
    async fn gates(&self, _: ShardId, _: &str) -> Read<Vec<(String, i64)>> {
        Ok(Vec::new())
    }
    async fn inbox_shards(&self) -> Read<Vec<ShardId>> {
        Ok(Vec::new())
    }
    async fn job(&self, id: JobId) -> Read<Option<JobView>> {
        Ok(self.jobs.lock().expect("not poisoned").iter().find(|job| job.id == id).cloned())
    }
    async fn events(&self, id: JobId, _: i64, _: i64) -> Read<Option<Vec<TimelineRow>>> {
        Ok(self.job(id).await?.map(|_| Vec::new()))
    }
    async fn attempts(&self, id: JobId) -> Read<Option<Vec<AttemptRow>>> {
        Ok(self.job(id).await?.map(|_| Vec::new()))
    }
    async fn graph(&self, id: JobId) -> Read<Option<Graph>> {
        let graph = |_| Graph { root_job_id: id, nodes: Vec::new(), truncated: false };
        Ok(self.job(id).await?.map(graph))
    }
    async fn inspect(&self, _: JobId) -> Read<Option<Inspection>> {
        // The engines' own text: it must not get out.
        Err(StoreError::Refused("relation \"secret\" does not exist".into()))
    }
    async fn locate(&self, _: JobId) -> Read<Option<(ShardId, String)>> {
        Ok(None)
    }
    async fn finished(&self, _: &FinishedFilter, _: Option<JobId>, _: i64) -> Read<Vec<FinishedRow>> {
        Ok(Vec::new())
    }
    async fn remove_finished(
        &self,
        _: &[ShardEpoch],
        _: Timestamp,
        _: &[JobState],
        _: Option<&str>,
        _: Option<&str>,
        _: i64,
    ) -> Read<i64> {
        Ok(0)
    }
    async fn close(&self) {}
}

#[async_trait]
impl crate::store::submissions::SubmissionReads for Shelf {
    async fn submitted(
        &self,
        _: &[JobId],
    ) -> Read<Vec<(JobView, Option<crate::store::read::IdempotencyRecord>)>> {
        Ok(Vec::new())
    }
    async fn expired(
        &self,
        _: Option<(Timestamp, JobId)>,
        _: i64,
    ) -> Read<Vec<crate::store::submissions::ExpiredRow>> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Reconcile for Shelf {
    async fn reconcile_live(&self, _: ShardEpoch, _: &str) -> Read<Vec<Healed>> {
        Ok(Vec::new())
    }
    async fn reconcile_ended(&self, _: &[ShardEpoch]) -> Read<Vec<Healed>> {
        Ok(Vec::new())
    }
    async fn newest_waiting(&self, state: JobState, limit: i64) -> Read<Vec<JobView>> {
        Ok(self
            .search(&JobFilter { states: vec![state], ..JobFilter::default() }, None, limit, i64::MAX)
            .await?
            .found)
    }
}
