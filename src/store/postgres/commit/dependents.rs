//! The word to dependents that a job has ended, or that a failed one runs again.

use std::collections::HashMap;

use uuid::Uuid;

use super::{
    super::{error::store_error, rows::Columns},
    batch::{Batch, Results},
};
use crate::{
    domain::{JobId, JobState, ShardId},
    store::{
        StoreError,
        ops::{Canceled, Changed, OpResult, Retried},
    },
};

/// Leaves one row for each shard with children whose edge to such a job is not met.
const FINISHED: &str = "insert into inbox (shard, kind, job_id, outcome_state, at)
select d.child_shard, 1, d.parent, d.state, $3
from (
    select distinct d.child_shard, d.parent, p.state
    from unnest($1::uuid[], $2::smallint[]) as p (id, state)
    join dependency d on d.parent = any(array[p.id])
    where not d.met
    order by d.child_shard, d.parent
) d
returning job_id, shard";

pub(super) const STATEMENTS: &[(&str, &str)] = &[("dependents finished", FINISHED)];

pub(super) async fn run(batch: &mut Batch<'_>, results: &mut Results) -> Result<(), StoreError> {
    if batch.effects.told.is_empty() {
        return Ok(());
    }
    let told = &batch.effects.told;
    let rows = sqlx::query(FINISHED)
        .bind(told.iter().map(|(job, _, _)| job.0).collect::<Vec<Uuid>>())
        .bind(told.iter().map(|(_, state, _)| state.map(JobState::code)).collect::<Vec<Option<i16>>>())
        .bind(batch.now.to_datetime())
        .fetch_all(&mut *batch.connection)
        .await
        .map_err(store_error)?;
    if rows.is_empty() {
        return Ok(());
    }
    let places: HashMap<JobId, usize> = told.iter().map(|(job, _, place)| (*job, *place)).collect();
    for row in &rows {
        let mut columns = Columns::of(row);
        let (job, shard): (JobId, ShardId) = (columns.job()?, columns.shard()?);
        match places.get(&job).and_then(|place| results.get_mut(*place)) {
            Some(OpResult::Ended(ended)) => ended.wakes.push(shard),
            Some(OpResult::Changed(Changed::Done(done))) => done.wakes.push(shard),
            Some(
                OpResult::Canceled(Canceled::Done { wakes, .. })
                | OpResult::Retried(Retried::Done { wakes, .. }),
            ) => wakes.push(shard),
            _ => {}
        }
    }
    Ok(())
}
