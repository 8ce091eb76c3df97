//! One change over many jobs: the same way as a change of one, many at a time.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use uuid::Uuid;

use super::{ASK_DEADLINE, AskError, Interference, Platform, is_not_found};
use crate::{
    actors::operations::{
        SYNC_MAX, SYNC_STEP, bounded,
        messages::{Order, Selection},
        step,
    },
    domain::{JobId, RawJson},
    store::{
        Op, OpResult, StoreError,
        operations::{NewOperation, OperationState, Tally},
        ops::{AuditOp, Canceled, Changed, Requester, Retried},
        read::JobFilter,
        search::SCAN_STEP,
    },
};

/// Changes under way at once: enough to fill the journal's batches, few enough to leave room for everyone else.
pub const IN_FLIGHT_MAX: usize = 64;
/// How often a change is tried again that a passing fault of the node kept from being made.
const TRIES_MAX: u32 = 5;
/// Before the first of them; each pause is twice the one before.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// The most jobs that are counted while the caller waits.
pub const COUNT_MAX: usize = 1_000_000;

/// What a change did to one of many jobs.
#[derive(Debug, Clone)]
pub enum Touched {
    /// It was made. The answer of the store says how.
    Changed(OpResult),
    /// Nothing was written: its state does not allow it, or it is so already.
    Skipped,
    /// There is no such job.
    Unknown,
    /// The node could not, after several tries.
    Failed(AskError),
}

impl Platform {
    /// Has the queue of each job do `what`, [`IN_FLIGHT_MAX`] at a time. The answers are in the order of
    /// `jobs`; the changes are not made in it. Must be bounded by the caller: a page, not a table.
    pub async fn over_jobs(
        &self,
        jobs: Vec<JobId>,
        what: impl Fn(JobId) -> Interference,
    ) -> Vec<(JobId, Touched)> {
        let change = |job: JobId| {
            let (platform, what) = (self.clone(), what(job));
            async move { (job, platform.touch(job, what).await) }
        };
        let changes: Vec<_> = jobs.into_iter().map(change).collect();
        drop(what);
        stream::iter(changes).buffered(IN_FLIGHT_MAX).collect().await
    }

    async fn touch(&self, job: JobId, what: Interference) -> Touched {
        let mut pause = PAUSE_MIN;
        for _ in 1..TRIES_MAX {
            match self.interfere(job, what.clone()).await {
                Ok(done) => return touched(done),
                Err(AskError::Overloaded { .. } | AskError::Unavailable { .. }) => {}
                Err(error) => return Touched::Failed(error),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.interfere(job, what).await.map_or_else(Touched::Failed, touched)
    }
}

/// Whether the store wrote anything.
fn touched(done: Option<OpResult>) -> Touched {
    match done {
        Some(
            done @ (OpResult::Canceled(Canceled::Done { .. } | Canceled::Requested)
            | OpResult::Retried(Retried::Done { .. })
            | OpResult::Changed(Changed::Done(_) | Changed::InPlace(_))),
        ) => Touched::Changed(done),
        Some(OpResult::FenceLost(_)) => Touched::Failed(AskError::Unavailable {
            reason: "this node no longer owns the queue".to_owned(),
            retry_after: Duration::from_secs(1),
        }),
        Some(done) if is_not_found(&done) => Touched::Unknown,
        None => Touched::Unknown,
        Some(_) => Touched::Skipped,
    }
}

/// A bulk operation that was done while its caller waited.
#[derive(Debug, Clone, Default)]
pub struct Bulk {
    /// How many.
    pub tally: Tally,
    /// What went wrong on the way.
    pub trouble: Option<String>,
}

/// Why a bulk operation was not done at once.
#[derive(Debug, thiserror::Error)]
pub enum BulkError {
    /// More jobs than this match.
    #[error("over {0} jobs match")]
    TooMany(usize),
    /// As many operations as may have not ended.
    #[error("too many operations have not ended")]
    Full,
    /// The store could not.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The node could not.
    #[error(transparent)]
    Ask(#[from] AskError),
}

impl Platform {
    /// How many jobs an order is about: those that match, and ids without a job as skipped. Changes nothing.
    ///
    /// # Errors
    /// [`BulkError::TooMany`] past [`COUNT_MAX`]; the store's.
    pub async fn count_bulk(&self, order: &Order) -> Result<Tally, BulkError> {
        match &order.selection {
            Selection::Filter(filter) => {
                let matched = self.count_matching(filter, COUNT_MAX).await?;
                Ok(Tally { matched: i64::try_from(matched).unwrap_or(i64::MAX), ..Tally::default() })
            }
            Selection::Jobs(jobs) => {
                let found = self.count_known(jobs).await?;
                let matched = i64::try_from(found).unwrap_or(i64::MAX);
                let skipped = i64::try_from(jobs.len() - found).unwrap_or(0);
                Ok(Tally { matched, changed: 0, skipped })
            }
        }
    }

    /// How many jobs match, in steps; more than `most` are too many.
    async fn count_matching(&self, filter: &JobFilter, most: usize) -> Result<usize, BulkError> {
        let (mut count, mut cursor) = (0, None);
        loop {
            let step = self.store().search_ids(filter, cursor, SCAN_STEP, SCAN_STEP).await?;
            count += step.found.len();
            if count > most {
                return Err(BulkError::TooMany(most));
            }
            if step.reached.is_none() {
                return Ok(count);
            }
            cursor = step.reached;
        }
    }

    async fn count_known(&self, jobs: &[JobId]) -> Result<usize, BulkError> {
        let locate = |job: &JobId| {
            let (store, job) = (self.store().clone(), *job);
            async move { store.locate(job).await }
        };
        let located: Vec<_> = jobs.iter().map(locate).collect();
        let located: Vec<_> = stream::iter(located).buffered(IN_FLIGHT_MAX).collect().await;
        let mut found = 0;
        for place in located {
            found += usize::from(place?.is_some());
        }
        Ok(found)
    }

    /// Does an order now, for as many jobs as may be waited for: those that exist when it begins, each once.
    ///
    /// # Errors
    /// [`BulkError::TooMany`] past [`SYNC_MAX`], before anything is changed; the store's and the node's.
    pub async fn bulk(&self, order: Order) -> Result<Bulk, BulkError> {
        let order = self.ready_for(order).await?;
        if let Selection::Filter(filter) = &order.selection {
            self.count_matching(filter, SYNC_MAX).await?;
        }
        let audit = Op::Audit(audit_of(&order, Uuid::now_v7()));
        self.0.journal.ask(self.0.journal.idlest(), audit, ASK_DEADLINE).await?;
        let (mut bulk, mut cursor) = (Bulk::default(), None);
        loop {
            let mut step = step(self, &order, cursor, SYNC_STEP).await?;
            step.give_up();
            bulk.tally.matched += step.tally.matched;
            bulk.tally.changed += step.tally.changed;
            bulk.tally.skipped += step.tally.skipped;
            bulk.trouble = step.trouble.or(bulk.trouble);
            cursor = step.cursor;
            if cursor.is_none() {
                return Ok(bulk);
            }
        }
    }

    /// Keeps an order, which is done in the background; its id.
    ///
    /// # Errors
    /// The store's and the node's.
    pub async fn begin_bulk(&self, order: Order) -> Result<Uuid, BulkError> {
        if let Some(patch) = &order.patch {
            self.makes_room_for(patch)?;
        }
        let id = Uuid::now_v7();
        let request = serde_json::to_string(&order).unwrap_or_default();
        let (action, actor) = (order.action.name(), order.by.actor.clone());
        let audit = audit_of(&order, id);
        let new = NewOperation { id, action, request, actor };
        if !self.store().begin_operation(&new, &audit).await? {
            return Err(BulkError::Full);
        }
        self.0.operations.wake();
        Ok(id)
    }

    /// Stops an operation, behind the step that is under way; `false` when it has ended already, or is none.
    ///
    /// # Errors
    /// The store's.
    pub async fn abort_operation(&self, id: Uuid, by: Requester) -> Result<bool, BulkError> {
        let reason = by.reason.clone().unwrap_or_else(|| format!("aborted by {}", by.actor));
        let ended = self.store().finish_operation(id, OperationState::Aborted, Some(&reason)).await?;
        self.0.operations.stop(id);
        if ended {
            let (object_type, object_id) = ("operation", id.to_string());
            let audit = AuditOp {
                action: "operation.aborted",
                object_type,
                object_id,
                by,
                before: None,
                after: None,
            };
            self.0.journal.ask(self.0.journal.idlest(), Op::Audit(audit), ASK_DEADLINE).await?;
        }
        Ok(ended)
    }

    async fn ready_for(&self, order: Order) -> Result<Order, BulkError> {
        if let Some(patch) = &order.patch {
            self.makes_room_for(patch)?;
        }
        let now = self.store().now().await?;
        Ok(bounded(order, now))
    }
}

/// A filter under the names that the API has for it, without what it does not say.
fn named_as_asked(filter: &JobFilter) -> serde_json::Value {
    let mut named = serde_json::json!({
        "state": (!filter.states.is_empty()).then_some(&filter.states),
        "queue": filter.queue,
        "worker": filter.worker,
        "tenantId": filter.tenant,
        "workflowId": filter.workflow,
        "type": filter.kind,
        "tag": filter.tag,
        "createdAfter": filter.created_after,
        "createdBefore": filter.created_before,
        "q": filter.text,
    });
    if let Some(named) = named.as_object_mut() {
        named.retain(|_, value| !value.is_null());
    }
    named
}

/// The row of the operation itself; ids are counted, not listed.
fn audit_of(order: &Order, id: Uuid) -> AuditOp {
    let selection = match &order.selection {
        Selection::Filter(filter) => serde_json::json!({ "filter": named_as_asked(filter) }),
        Selection::Jobs(jobs) => serde_json::json!({ "jobIds": jobs.len() }),
    };
    AuditOp {
        action: order.action.audited(),
        object_type: "operation",
        object_id: id.to_string(),
        by: order.by.clone(),
        before: None,
        after: Some(RawJson::trusted(selection.to_string())),
    }
}
