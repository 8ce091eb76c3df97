//! Retention.

use super::PostgresStore;
use crate::{
    domain::{JobState, ShardEpoch, Timestamp},
    store::StoreError,
};

pub(super) const STATEMENTS: &[(&str, &str)] = &[];

pub(super) async fn remove_finished(
    _store: &PostgresStore,
    _owners: &[ShardEpoch],
    _before: Timestamp,
    _states: &[JobState],
    _queue: Option<&str>,
    _limit: i64,
) -> Result<i64, StoreError> {
    Ok(0)
}
