//! What a test of a store is made of: jobs, operations, and looks at what is stored.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use ganger::{
    domain::{
        BootId, DependencyPolicy, EventKind, Fence, IdempotencyKey, JobId, JobOptions, JobState, JobView,
        NewJob, RawJson, SessionId, ShardEpoch, ShardId, TimelineRow, Timestamp, WorkerId,
    },
    store::{
        Op, OpResult, Store,
        ops::{
            AttemptError, CancelOp, Canceled, EndKind, EndOp, Ended, GrantOp, Granted, InboxOp, InboxTaken,
            Retried, RetryOp, SubmitOp, Submitted,
        },
        read::{Inspection, JobCursor, JobFilter, LeaseRow, QueueRow, ReadyKey},
    },
};

/// A store under test, owned by one boot.
#[derive(Clone)]
pub(crate) struct Kit {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) boot: BootId,
    pub(crate) owned: Arc<Vec<ShardEpoch>>,
    grants: Arc<AtomicU32>,
}

/// A job for `queue`, with nothing special about it.
pub(crate) fn job(queue: &str) -> NewJob {
    NewJob {
        id: JobId::new(),
        kind: "mail.send".into(),
        queue: queue.into(),
        tenant: "default".into(),
        payload: RawJson::trusted(r#"{"to":"a@example.org"}"#),
        priority: 5,
        run_at: None,
        max_attempts: 5,
        timeout_seconds: 300,
        schema_version: 1,
        idempotency: None,
        workflow_id: None,
        dependencies: Vec::new(),
        dependency_policy: DependencyPolicy::Block,
        unique: None,
        options: JobOptions::default(),
    }
}

/// A job that waits for `parents`.
pub(crate) fn child(queue: &str, parents: &[JobId]) -> NewJob {
    NewJob { dependencies: parents.to_vec(), ..job(queue) }
}

/// A job that runs whatever became of `parents`.
pub(crate) fn tolerant_child(queue: &str, parents: &[JobId]) -> NewJob {
    NewJob { dependency_policy: DependencyPolicy::AllowFailed, ..child(queue, parents) }
}

/// A job with an idempotency key that holds for `window_seconds`; `print` stands for its content.
pub(crate) fn keyed(queue: &str, key: &str, window_seconds: u32, print: u8) -> NewJob {
    let idempotency = IdempotencyKey { key: key.into(), window_seconds, fingerprint: [print; 32] };
    NewJob { idempotency: Some(idempotency), ..job(queue) }
}

/// An hour, in milliseconds.
pub(crate) const HOUR_MS: i64 = 3_600_000;

/// The answer to the cancel of a job that nothing depends on.
pub(crate) fn canceled(from: JobState) -> Canceled {
    Canceled::Done { from, wakes: Vec::new() }
}

pub(crate) fn error(text: &str) -> AttemptError {
    AttemptError { error_type: "test".into(), message: text.into(), stack_trace: None }
}

pub(crate) fn completed() -> EndKind {
    EndKind::Completed { result: Some(RawJson::trusted(r#"{"ok":true}"#)) }
}

pub(crate) fn failed() -> EndKind {
    EndKind::Failed { error: error("gave up") }
}

pub(crate) fn retry_after(delay_ms: i64) -> EndKind {
    EndKind::Retry { delay_ms, error: error("try again") }
}

impl Kit {
    /// Brings the schema up and takes every shard.
    pub(crate) async fn new(store: Arc<dyn Store>) -> Self {
        store.migrate(true).await.expect("migrates");
        let boot = BootId::new();
        let owned = store.acquire_all(boot, "127.0.0.1:1", false).await.expect("acquires");
        Self { store, boot, owned: Arc::new(owned), grants: Arc::default() }
    }

    /// Takes every shard again, as a next start would.
    pub(crate) async fn again(&self, restored: bool) -> Self {
        let boot = BootId::new();
        let owned = self.store.acquire_all(boot, "127.0.0.1:1", restored).await.expect("acquires");
        Self { boot, owned: Arc::new(owned), ..self.clone() }
    }

    /// The ownership of a queue's shard.
    pub(crate) fn owner(&self, queue: &str) -> ShardEpoch {
        self.owner_of(ShardId::of_queue(queue))
    }

    pub(crate) fn owner_of(&self, shard: ShardId) -> ShardEpoch {
        *self.owned.iter().find(|owned| owned.shard == shard).expect("every shard is owned")
    }

    pub(crate) async fn now(&self) -> Timestamp {
        self.store.now().await.expect("tells the time")
    }

    /// Lets time pass on the store's clock.
    pub(crate) async fn pass(&self, millis: i64) {
        self.reach(self.now().await.plus_millis(millis)).await;
    }

    /// Lets time pass on the store's clock, until `until`.
    pub(crate) async fn reach(&self, until: Timestamp) {
        while self.now().await < until {
            tokio::task::yield_now().await;
        }
    }

    /// Commits operations as one batch.
    pub(crate) async fn commit(&self, ops: &[Op]) -> Vec<OpResult> {
        let results = self.store.commit(0, ops).await.expect("commits");
        assert_eq!(results.len(), ops.len(), "one result for each operation");
        results
    }

    pub(crate) async fn one(&self, op: Op) -> OpResult {
        self.commit(&[op]).await.remove(0)
    }

    /// As its owner submits it.
    pub(crate) fn submit_op(&self, job: &NewJob) -> Op {
        Op::Submit(SubmitOp { owner: Some(self.owner(&job.queue)), jobs: vec![job.clone()] })
    }

    /// As anybody submits them.
    pub(crate) fn birth_op(&self, jobs: &[NewJob]) -> Op {
        Op::Submit(SubmitOp { owner: None, jobs: jobs.to_vec() })
    }

    pub(crate) async fn submit(&self, job: &NewJob) -> Submitted {
        match self.one(self.submit_op(job)).await {
            OpResult::Submitted(mut submitted) => submitted.remove(0),
            other => panic!("not submitted: {other:?}"),
        }
    }

    /// Submits a job that must be new.
    pub(crate) async fn make(&self, job: &NewJob) -> JobId {
        match self.submit(job).await {
            Submitted::Made { entry, .. } => {
                assert_eq!(entry.job, job.id);
                job.id
            }
            Submitted::Duplicate(first) => panic!("taken for a repeat of {first}"),
        }
    }

    /// A new job in `queue`.
    pub(crate) async fn made(&self, queue: &str) -> JobId {
        self.make(&job(queue)).await
    }

    pub(crate) fn grant_op(&self, queue: &str, job: JobId) -> Op {
        let owner = self.owner(queue);
        let counter = self.grants.fetch_add(1, Ordering::Relaxed);
        Op::Grant(GrantOp {
            owner,
            job,
            fence_floor: Fence::floor(owner.epoch, counter),
            worker: WorkerId("worker-1".into()),
            session: SessionId::new(),
            boot: self.boot,
            ttl_ms: 30_000,
        })
    }

    /// Grants a job that must be ready.
    pub(crate) async fn grant(&self, queue: &str, job: JobId) -> Granted {
        match self.one(self.grant_op(queue, job)).await {
            OpResult::Granted(granted) => *granted,
            other => panic!("not granted: {other:?}"),
        }
    }

    pub(crate) fn end_op(&self, queue: &str, job: JobId, fence: Fence, kind: EndKind) -> Op {
        Op::End(EndOp { owner: self.owner(queue), job, fence, kind })
    }

    /// Ends a lease that must be held.
    pub(crate) async fn end(&self, queue: &str, job: JobId, fence: Fence, kind: EndKind) -> Ended {
        match self.one(self.end_op(queue, job, fence, kind)).await {
            OpResult::Ended(ended) => ended,
            other => panic!("not ended: {other:?}"),
        }
    }

    /// Grants a ready job and ends it.
    pub(crate) async fn run(&self, queue: &str, job: JobId, kind: EndKind) -> Ended {
        let granted = self.grant(queue, job).await;
        self.end(queue, job, granted.fence, kind).await
    }

    pub(crate) fn cancel_op(&self, queue: &str, job: JobId) -> Op {
        Op::Cancel(CancelOp {
            owner: self.owner(queue),
            job,
            reason: "asked".into(),
            unstarted_only: false,
            by: None,
        })
    }

    pub(crate) async fn cancel(&self, queue: &str, job: JobId) -> Canceled {
        match self.one(self.cancel_op(queue, job)).await {
            OpResult::Canceled(canceled) => canceled,
            other => panic!("no cancel: {other:?}"),
        }
    }

    pub(crate) fn retry_op(&self, queue: &str, job: JobId) -> Op {
        Op::Retry(RetryOp { owner: self.owner(queue), job, by: None })
    }

    pub(crate) async fn retry(&self, queue: &str, job: JobId) -> Retried {
        match self.one(self.retry_op(queue, job)).await {
            OpResult::Retried(retried) => retried,
            other => panic!("no retry: {other:?}"),
        }
    }

    pub(crate) fn inbox_op(&self, queue: &str) -> Op {
        Op::Inbox(InboxOp { owner: self.owner(queue), limit: 1_000 })
    }

    /// Takes the whole inbox of a queue's shard.
    pub(crate) async fn inbox(&self, queue: &str) -> InboxTaken {
        match self.one(self.inbox_op(queue)).await {
            OpResult::Inbox(taken) => taken,
            other => panic!("no inbox: {other:?}"),
        }
    }

    pub(crate) async fn view(&self, job: JobId) -> JobView {
        self.store.job(job).await.expect("reads").expect("is there")
    }

    pub(crate) async fn state(&self, job: JobId) -> JobState {
        self.view(job).await.state
    }

    pub(crate) async fn events(&self, job: JobId) -> Vec<TimelineRow> {
        self.store.events(job, 0, 1_000).await.expect("reads").expect("is there")
    }

    /// The timeline as `kind state` lines, after it was found dense.
    pub(crate) async fn timeline(&self, job: JobId) -> Vec<String> {
        let rows = self.events(job).await;
        for (index, row) in rows.iter().enumerate() {
            assert_eq!(row.seq, index as i64 + 1, "seq is dense: {rows:#?}");
            assert_eq!(row.job_id, job);
            assert!(!row.message.is_empty());
        }
        for pair in rows.windows(2) {
            assert!(pair[0].occurred_at <= pair[1].occurred_at, "time does not go back: {rows:#?}");
        }
        rows.iter().map(|row| format!("{} {}", row.kind.name(), row.state)).collect()
    }

    /// The attempts as `number status` lines, by growing fence.
    pub(crate) async fn attempts(&self, job: JobId) -> Vec<String> {
        let rows = self.store.attempts(job).await.expect("reads").expect("is there");
        for pair in rows.windows(2) {
            assert!(pair[0].fence < pair[1].fence, "fences grow: {rows:#?}");
        }
        for row in &rows {
            assert_eq!(row.id, format!("{job}:{}", row.fence));
            assert_eq!(row.finished_at.is_none(), row.status.name() == "started");
        }
        rows.iter().map(|row| format!("{} {}", row.attempt, row.status.name())).collect()
    }

    pub(crate) async fn inspect(&self, job: JobId) -> Inspection {
        self.store.inspect(job).await.expect("reads").expect("is there")
    }

    /// The ready jobs of a queue now, over all priorities, in dispatch order.
    pub(crate) async fn ready(&self, queue: &str) -> Vec<JobId> {
        let now = self.now().await;
        let mut jobs = Vec::new();
        for priority in (0..=9).rev() {
            let page = self.ready_page(queue, priority, None, now, 1_000).await;
            jobs.extend(page.into_iter().map(|key| key.job));
        }
        jobs
    }

    pub(crate) async fn ready_page(
        &self,
        queue: &str,
        priority: i16,
        after: Option<ReadyKey>,
        now: Timestamp,
        limit: i64,
    ) -> Vec<ReadyKey> {
        let shard = ShardId::of_queue(queue);
        let rows = self.store.ready(shard, queue, priority, after, now, limit).await.expect("reads");
        rows.into_iter().map(|row| row.key).collect()
    }

    pub(crate) async fn queue(&self, queue: &str) -> QueueRow {
        let rows = self.store.queues(ShardId::of_queue(queue)).await.expect("reads");
        rows.into_iter().find(|row| row.name == queue).expect("the queue is known")
    }

    pub(crate) async fn leases(&self, queue: &str) -> Vec<LeaseRow> {
        self.store.leases(ShardId::of_queue(queue), queue).await.expect("reads")
    }

    /// A page of jobs, however many must be looked at.
    pub(crate) async fn jobs(
        &self,
        filter: &JobFilter,
        cursor: Option<JobCursor>,
        limit: i64,
    ) -> Vec<JobView> {
        self.store.search(filter, cursor, limit, i64::from(u32::MAX)).await.expect("reads").found
    }

    /// Every job, oldest first, by pages.
    pub(crate) async fn all_jobs(&self) -> Vec<JobView> {
        let mut jobs: Vec<JobView> = Vec::new();
        loop {
            let cursor = jobs.last().map(|job| JobCursor(job.id));
            let page = self.jobs(&JobFilter::default(), cursor, 100).await;
            if page.is_empty() {
                jobs.reverse();
                return jobs;
            }
            jobs.extend(page);
        }
    }

    /// Everything that can be read of the store, for a look before and after. Times that only tell how
    /// long something has been going on are left out.
    pub(crate) async fn dump(&self) -> String {
        let mut parts = Vec::new();
        for job in self.all_jobs().await {
            let mut inspection = self.inspect(job.id).await;
            inspection.job.execution_ms = 0;
            parts.push(format!("{inspection:#?}"));
        }
        let queues = self.store.all_queues().await.expect("reads");
        for queue in &queues {
            let shard = queue.shard.expect("a queue with jobs has a shard");
            parts.push(format!("{:#?}", self.store.leases(shard, &queue.name).await.expect("reads")));
        }
        parts.push(format!("{queues:#?}"));
        parts.push(format!("{:?}", self.store.inbox_shards().await.expect("reads")));
        parts.join("\n")
    }

    /// What must hold whatever happened: counters equal a recount, timelines are legal lives.
    pub(crate) async fn check(&self) {
        let jobs = self.all_jobs().await;
        let mut counted: BTreeMap<(ShardId, String), [i64; 9]> = BTreeMap::new();
        for job in &jobs {
            let (shard, queue) = self.store.locate(job.id).await.expect("reads").expect("is there");
            assert_eq!(queue, job.queue);
            counted.entry((shard, queue)).or_default()[job.state.code() as usize] += 1;
            self.check_life(job).await;
        }
        let now = self.now().await;
        for row in self.store.all_queues().await.expect("reads") {
            let shard = row.shard.expect("a queue with jobs has a shard");
            let due = self.store.due_counts(shard, &row.name, now).await.expect("reads");
            let mut shown = row.counts;
            for state in [JobState::Scheduled, JobState::Retrying, JobState::Throttled] {
                let index = state.code() as usize;
                shown[index] -= due[index];
                shown[JobState::Queued.code() as usize] += due[index];
            }
            let recount = counted.remove(&(shard, row.name.clone())).unwrap_or_default();
            assert_eq!(shown, recount, "counters of {} equal a recount", row.name);
        }
        assert!(counted.is_empty(), "every queue with jobs is known: {counted:?}");
    }

    async fn check_life(&self, job: &JobView) {
        let lines = self.timeline(job.id).await;
        let rows = self.events(job.id).await;
        assert!(
            matches!(rows[0].kind, EventKind::Enqueued | EventKind::Scheduled | EventKind::Blocked),
            "{lines:#?}"
        );
        let mut state = rows[0].state;
        for row in &rows[1..] {
            assert!(super::matrix::is_legal(state, row.state), "{state} → {}: {lines:#?}", row.state);
            state = row.state;
        }
        assert_eq!(state, job.state, "the timeline leads to the state: {lines:#?}");
        assert_eq!(job.finished_at.is_some(), job.state.is_terminal());
        assert_eq!(job.lease_token.is_some(), job.state == JobState::Active);
        self.attempts(job.id).await;
    }
}
