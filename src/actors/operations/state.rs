//! One operation, step by step.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    handle::OperationsHandle,
    messages::{BulkAction, Order, Selection},
};
use crate::{
    actors::{
        platform::{AskError, Platform, bulk::Touched},
        queue::core::Interference,
    },
    domain::{JobId, Timestamp},
    store::{
        StoreError,
        operations::{OperationRow, OperationState, Tally},
        read::{JobCursor, JobFilter},
        search::{SCAN_STEP, Searched},
    },
};

/// Operations that run at once; the others wait their turn. Each keeps a queue's worth of changes in flight.
pub const RUNNING_MAX: usize = 4;
/// The most jobs that are changed while the caller waits: some seconds' worth.
pub const SYNC_MAX: usize = 10_000;
/// Jobs of a step, between two saves: what a restart repeats, and what an abort waits for.
const STEP: usize = 128;
/// Jobs of a step that nothing is saved behind: few enough that the filter is looked at again and again.
pub(in crate::actors) const SYNC_STEP: usize = 1_000;
/// Before a step is tried again that the store or a queue could not do.
const PAUSE: Duration = Duration::from_millis(500);

/// What a step did.
#[derive(Debug, Default)]
pub(in crate::actors) struct Step {
    pub(in crate::actors) tally: Tally,
    /// Everything down to this job was dealt with; `None` when there was none left.
    pub(in crate::actors) cursor: Option<JobId>,
    /// Jobs that the node could not change for a passing reason: not counted yet.
    pub(in crate::actors) again: Vec<JobId>,
    /// Why jobs were left as they are, other than by their state.
    pub(in crate::actors) trouble: Option<String>,
}

impl Step {
    /// Takes in what came of those that were tried again.
    fn add(&mut self, other: Self) {
        self.tally.matched += other.tally.matched;
        self.tally.changed += other.tally.changed;
        self.tally.skipped += other.tally.skipped;
        self.again = other.again;
        self.trouble = other.trouble.or(self.trouble.take());
    }

    /// Counts what could not be changed as left as it is.
    pub(in crate::actors) fn give_up(&mut self) {
        let left = i64::try_from(self.again.len()).unwrap_or(i64::MAX);
        self.tally.matched += left;
        self.tally.skipped += left;
        self.again.clear();
    }
}

/// Deals with up to `most` further jobs of `order` behind `cursor`, newest first.
pub(in crate::actors) async fn step(
    platform: &Platform,
    order: &Order,
    cursor: Option<JobId>,
    most: usize,
) -> Result<Step, StoreError> {
    let next = next(platform, &order.selection, cursor, most).await?;
    // What was found last has its own step behind it, which says that it was the last.
    let cursor = next.reached.map(|JobCursor(id)| id).or(next.found.last().copied());
    Ok(Step { cursor, ..deal(platform, order, next.found).await })
}

async fn deal(platform: &Platform, order: &Order, jobs: Vec<JobId>) -> Step {
    let mut step = Step::default();
    for (job, touched) in platform.over_jobs(jobs, |_| interference(order)).await {
        if let Touched::Failed(error) = &touched {
            tracing::warn!(job.id = %job, %error, "a bulk operation could not change a job");
            step.trouble = Some(trouble(error).to_owned());
            if !matches!(error, AskError::Quarantined { .. } | AskError::Refused(_)) {
                step.again.push(job);
                continue;
            }
        }
        step.tally.matched += i64::from(!matches!(touched, Touched::Unknown));
        match touched {
            Touched::Changed(_) => step.tally.changed += 1,
            Touched::Skipped | Touched::Unknown | Touched::Failed(_) => step.tally.skipped += 1,
        }
    }
    step
}

/// What callers are told: never a text of the store.
fn trouble(error: &AskError) -> &'static str {
    match error {
        AskError::Overloaded { .. } => "the node was overloaded: some jobs were left as they are",
        AskError::Unavailable { .. } => "a part of the node was not ready: some jobs were left as they are",
        AskError::Quarantined { .. } => "a queue is set aside: its jobs were left as they are",
        AskError::Refused(_) => "the store refused some changes",
        AskError::TimedOut => "some changes were not answered in time; they may have been made",
    }
}

async fn next(
    platform: &Platform,
    selection: &Selection,
    cursor: Option<JobId>,
    most: usize,
) -> Result<Searched<JobId>, StoreError> {
    match selection {
        Selection::Filter(filter) => {
            let limit = i64::try_from(most).unwrap_or(1);
            platform.store().search_ids(filter, cursor.map(JobCursor), limit, SCAN_STEP).await
        }
        Selection::Jobs(jobs) => {
            let mut left: Vec<JobId> =
                jobs.iter().copied().filter(|job| cursor.is_none_or(|cursor| *job < cursor)).collect();
            left.sort_unstable_by(|a, b| b.cmp(a));
            left.dedup();
            left.truncate(most);
            Ok(Searched { found: left, reached: None })
        }
    }
}

fn interference(order: &Order) -> Interference {
    let by = order.by.clone();
    match order.action {
        BulkAction::Cancel => {
            let reason = by.reason.unwrap_or_else(|| "canceled by a bulk operation".to_owned());
            // The operation's own row tells of all its jobs.
            Interference::Cancel { reason, unstarted_only: false, by: None }
        }
        BulkAction::Retry => Interference::Retry { by: None },
        BulkAction::Delete => Interference::Forget { dead_letter_only: false, by },
        BulkAction::Update => {
            Interference::Update { patch: Box::new(order.patch.clone().unwrap_or_default()), by }
        }
    }
}

/// What existed when the operation began, and nothing that came later.
pub(in crate::actors) fn bounded(mut order: Order, began: Timestamp) -> Order {
    if let Selection::Filter(JobFilter { created_before, .. }) = &mut order.selection {
        // What was made in the microsecond of the beginning was there.
        let bound = Timestamp(began.0.saturating_add(1));
        *created_before = Some(created_before.map_or(bound, |before| before.min(bound)));
    }
    order
}

/// Runs an operation from where it is to its end, its abort or the node's.
pub(super) async fn run(platform: Platform, handle: OperationsHandle, row: OperationRow) {
    let (stopped, _running) = handle.running(row.id);
    let Ok(order) = serde_json::from_str::<Order>(&row.request) else {
        finish(&platform, row.id, OperationState::Failed, Some("written by another version of the node"))
            .await;
        return;
    };
    let order = bounded(order, row.started_at);
    let first = JobId(Uuid::from_u128(row.bound.0.as_u128().saturating_add(1)));
    let is_by_filter = matches!(order.selection, Selection::Filter(_));
    let mut cursor = row.cursor.or_else(|| is_by_filter.then_some(first));
    let (mut tally, mut trouble) = (row.tally, None);
    while !stopped.is_cancelled() {
        let mut step = match step(&platform, &order, cursor, STEP).await {
            Ok(step) => step,
            Err(error) => {
                tracing::warn!(operation.id = %row.id, %error, "a bulk operation waits for the store");
                pause(&stopped).await;
                continue;
            }
        };
        while !step.again.is_empty() && !stopped.is_cancelled() {
            pause(&stopped).await;
            let again = std::mem::take(&mut step.again);
            step.trouble = None;
            step.add(deal(&platform, &order, again).await);
        }
        step.give_up();
        trouble = step.trouble.or(trouble);
        let Some(last) = step.cursor else {
            finish(&platform, row.id, OperationState::Completed, trouble.as_deref()).await;
            return;
        };
        cursor = Some(last);
        tally.matched += step.tally.matched;
        tally.changed += step.tally.changed;
        tally.skipped += step.tally.skipped;
        if !save(&platform, row.id, last, tally).await {
            return;
        }
    }
}

/// Keeps the progress, however long the store takes; whether the operation is still under way.
async fn save(platform: &Platform, id: Uuid, cursor: JobId, tally: Tally) -> bool {
    loop {
        match platform.store().save_operation(id, cursor, tally).await {
            Ok(is_running) => return is_running,
            Err(error) => tracing::warn!(operation.id = %id, %error, "progress not saved"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Ends an operation, however long the store takes.
async fn finish(platform: &Platform, id: Uuid, state: OperationState, reason: Option<&str>) {
    while let Err(error) = platform.store().finish_operation(id, state, reason).await {
        tracing::warn!(operation.id = %id, %error, "the end of a bulk operation was not saved");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn pause(stopped: &CancellationToken) {
    // Woken or not: the loop looks for itself.
    let _woken = tokio::time::timeout(PAUSE, stopped.cancelled()).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ops::{JobPatch, Requester};

    fn order(selection: Selection) -> Order {
        let by = Requester { actor: "admin".into(), request_id: "r".into(), reason: None };
        let patch = Some(JobPatch {
            payload: Some(crate::domain::RawJson::trusted(r#"{"n": 12345678901234567890}"#)),
            ..JobPatch::default()
        });
        Order { action: BulkAction::Update, selection, patch, by }
    }

    #[test]
    fn an_order_is_read_as_it_was_stored() {
        let filter = JobFilter { queue: Some("q".into()), ..JobFilter::default() };
        for selection in [Selection::Filter(filter), Selection::Jobs(vec![JobId::new(), JobId::new()])] {
            let order = order(selection);
            let text = serde_json::to_string(&order).expect("is JSON");
            assert_eq!(serde_json::from_str::<Order>(&text).expect("is read"), order);
        }
    }

    #[test]
    fn what_came_later_is_not_its_business() {
        let bound = |before: Option<i64>| {
            let filter = JobFilter { created_before: before.map(Timestamp), ..JobFilter::default() };
            match bounded(order(Selection::Filter(filter)), Timestamp(10)).selection {
                Selection::Filter(filter) => filter.created_before,
                Selection::Jobs(_) => None,
            }
        };
        assert_eq!(bound(None), Some(Timestamp(11)));
        assert_eq!(bound(Some(5)), Some(Timestamp(5)));
        assert_eq!(bound(Some(50)), Some(Timestamp(11)));
    }
}
