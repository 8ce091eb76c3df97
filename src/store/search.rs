//! Lists of jobs, read in steps that are bounded by what they look at, not by what they find.
//!
//! A filter may fit one job of millions. A step looks at so many rows, newest first, and says how far it came; who
//! searches goes on from there for as long as it likes.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    error::StoreError,
    read::{JobCursor, JobFilter},
};
use crate::domain::{JobId, JobState, JobView, Timestamp};

/// How far the time within an id may be from the time that its job was made: ids are made by the node, on its clock.
const ID_SLACK: Duration = Duration::from_mins(1);

/// Rows of a step that nobody waits for: a tenth of a second's worth.
pub const SCAN_STEP: i64 = 10_000;

/// What a step of a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Searched<T> {
    /// What matches, newest first.
    pub found: Vec<T>,
    /// Everything from the cursor to here was looked at; `None` when there is nothing left behind it.
    pub reached: Option<JobCursor>,
}

/// Searches for jobs.
#[async_trait]
pub trait JobSearch: Send + Sync {
    /// Jobs that match, newest first: at most `limit`, of the next `scan` jobs behind `cursor` that the states and the
    /// workflow of the filter leave. The time it takes grows with `scan` and with the jobs found, not with the store.
    async fn search(
        &self,
        filter: &JobFilter,
        cursor: Option<JobCursor>,
        limit: i64,
        scan: i64,
    ) -> Result<Searched<JobView>, StoreError>;

    /// The same, without reading the jobs.
    async fn search_ids(
        &self,
        filter: &JobFilter,
        cursor: Option<JobCursor>,
        limit: i64,
        scan: i64,
    ) -> Result<Searched<JobId>, StoreError>;
}

/// Where a search looks: the rows that hold all that can match, and few beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    All,
    /// What has not finished.
    Live,
    /// What runs.
    Leased,
    /// What has finished.
    Ended,
    /// What failed for good.
    Failed,
    Canceled,
    Unhappy,
    Workflow,
}

impl Base {
    pub(super) fn of(filter: &JobFilter) -> Self {
        let states = &filter.states;
        let only = |of: fn(JobState) -> bool| !states.is_empty() && states.iter().copied().all(of);
        if filter.workflow.is_some() {
            Self::Workflow
        } else if only(|state| state == JobState::Active) {
            Self::Leased
        } else if only(|state| state == JobState::Failed) {
            Self::Failed
        } else if only(|state| state == JobState::Canceled) {
            Self::Canceled
        } else if only(|state| matches!(state, JobState::Failed | JobState::Canceled)) {
            Self::Unhappy
        } else if only(JobState::is_terminal) {
            Self::Ended
        } else if only(|state| !state.is_terminal()) {
            Self::Live
        } else {
            Self::All
        }
    }
}

/// The ids that a search may find: at or over `from`, and below `below`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: Uuid,
    pub(super) below: Uuid,
}

impl Span {
    /// What is behind `cursor` and, by the time within the ids, may have been made when the filter says.
    pub(super) fn of(filter: &JobFilter, cursor: Option<JobCursor>) -> Self {
        let slack = i64::try_from(ID_SLACK.as_micros()).unwrap_or(0);
        let shifted = |at: Timestamp, by: i64| first_id_of(Timestamp(at.0.saturating_add(by)));
        let from = filter.created_after.map_or(Uuid::nil(), |at| shifted(at, -slack));
        let below = filter.created_before.map_or(Uuid::max(), |at| shifted(at, slack));
        Self { from, below: cursor.map_or(below, |JobCursor(id)| id.0.min(below)) }
    }
}

/// The least UUID of the millisecond after `at`'s, or of its own when it begins with it.
fn first_id_of(at: Timestamp) -> Uuid {
    const MILLIS_MAX: u64 = (1 << 48) - 1;
    let millis = u64::try_from(at.0.max(0)).unwrap_or(0).div_ceil(1_000).min(MILLIS_MAX);
    Uuid::from_u128(u128::from(millis) << 80)
}

/// What a step found, given where it ended by `bound` (the last row it looks at, if there are more) and by its limit.
pub(super) fn searched(found: Vec<JobId>, bound: Option<Uuid>, limit: i64) -> Searched<JobId> {
    let is_full = i64::try_from(found.len()).unwrap_or(i64::MAX) >= limit;
    let last = found.last().copied().filter(|_| is_full);
    Searched { found, reached: last.or(bound.map(JobId)).map(JobCursor) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_looks_where_few_other_jobs_are() {
        use JobState::{Active, Canceled, Completed, Failed, Queued, Retrying};
        let of =
            |states: &[JobState]| Base::of(&JobFilter { states: states.to_vec(), ..JobFilter::default() });
        assert_eq!(of(&[]), Base::All);
        assert_eq!(of(&[Queued, Active]), Base::Live);
        assert_eq!(of(&[Retrying]), Base::Live);
        assert_eq!(of(&[Active]), Base::Leased);
        assert_eq!(of(&[Failed]), Base::Failed);
        assert_eq!(of(&[Canceled, Failed]), Base::Unhappy);
        assert_eq!(of(&[Completed, Failed]), Base::Ended);
        assert_eq!(of(&[Queued, Failed]), Base::All);
        let filter = JobFilter { workflow: Some(Uuid::nil()), states: vec![Failed], ..JobFilter::default() };
        assert_eq!(Base::of(&filter), Base::Workflow);
    }

    #[test]
    fn times_bound_the_ids_with_some_slack() {
        let made = JobId::new();
        let (seconds, nanos) = made.0.get_timestamp().expect("a time").to_unix();
        let at = Timestamp(i64::try_from(seconds * 1_000_000 + u64::from(nanos / 1_000)).expect("fits"));
        let holds = |after: Option<i64>, before: Option<i64>| {
            let filter = JobFilter {
                created_after: after.map(|by| Timestamp(at.0 + by * 1_000_000)),
                created_before: before.map(|by| Timestamp(at.0 + by * 1_000_000)),
                ..JobFilter::default()
            };
            let span = Span::of(&filter, None);
            span.from <= made.0 && made.0 < span.below
        };
        assert!(holds(None, None) && holds(Some(59), None) && holds(None, Some(-59)));
        assert!(!holds(Some(61), None) && !holds(None, Some(-61)));
        let (early, late) = (Timestamp(i64::MIN), Timestamp(i64::MAX));
        let all =
            JobFilter { created_after: Some(early), created_before: Some(late), ..JobFilter::default() };
        assert_eq!(Span::of(&all, None).from, Uuid::nil());
        assert!(made.0 < Span::of(&all, None).below);
        assert_eq!(Span::of(&all, Some(JobCursor(made))).below, made.0);
    }

    #[test]
    fn a_step_says_how_far_it_came() {
        let (a, b) = (JobId::new(), JobId::new());
        let reached = |found: &[JobId], bound, limit| searched(found.to_vec(), bound, limit).reached;
        assert_eq!(reached(&[b], None, 2), None, "the end");
        assert_eq!(reached(&[b], Some(a.0), 2), Some(JobCursor(a)), "all that it may look at");
        assert_eq!(reached(&[b], Some(a.0), 1), Some(JobCursor(b)), "all that it may find");
        assert_eq!(reached(&[b], None, 1), Some(JobCursor(b)), "there may be more");
    }
}
