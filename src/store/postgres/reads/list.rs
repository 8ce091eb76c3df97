//! Lists of jobs.

use super::super::PostgresStore;
use crate::{
    domain::{JobId, JobView},
    store::{
        StoreError,
        read::{FinishedFilter, FinishedRow, JobCursor, JobFilter},
    },
};

pub(super) const STATEMENTS: &[(&str, &str)] = &[];

pub(in super::super) async fn jobs(
    _store: &PostgresStore,
    _filter: &JobFilter,
    _cursor: Option<JobCursor>,
    _limit: i64,
) -> Result<Vec<JobView>, StoreError> {
    Ok(Vec::new())
}

pub(in super::super) async fn finished(
    _store: &PostgresStore,
    _filter: &FinishedFilter,
    _after: Option<JobId>,
    _limit: i64,
) -> Result<Vec<FinishedRow>, StoreError> {
    Ok(Vec::new())
}
