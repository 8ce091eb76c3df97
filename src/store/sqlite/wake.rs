//! Tells the shards of dependents that a job has ended, or that a failed one runs again.

use std::collections::HashMap;

use super::{
    batch::Batch,
    rows::{Cols, Rows, ids},
};
use crate::{
    domain::{JobId, ShardId},
    store::{
        OpResult, StoreError,
        ops::{Canceled, Changed, Retried},
    },
};

/// Read after the ended jobs' live rows went: an edge that was inserted before is seen, one inserted
/// after sees the outcome.
const WAITING_SHARDS: &str = "
    select distinct d.parent, d.child_shard
    from jsonb_each(?1) e
    join dependency d on d.parent = unhex(e.value)
    where d.met = 0
    order by d.parent, d.child_shard";

const FINISHED: &str = "
    insert into inbox (shard, kind, job_id, outcome_state, at)
    select value ->> 0, 1, unhex(value ->> 1), (select state from outcome where job_id = unhex(value ->> 1)),
           value ->> 2
    from jsonb_each(?1)";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] =
    &[("waiting shards", WAITING_SHARDS), ("inbox finished", FINISHED)];

/// The jobs that a batch ended or revived, with the operation that did.
#[derive(Default)]
pub(super) struct Told(HashMap<JobId, usize>);

impl Told {
    pub(super) fn push(&mut self, index: usize, job: JobId) {
        self.0.insert(job, index);
    }
}

/// One inbox row for each (parent, shard with a job that waits for it).
pub(super) async fn run(
    batch: &mut Batch<'_>,
    told: Told,
    results: &mut [Option<OpResult>],
) -> Result<(), StoreError> {
    if told.0.is_empty() {
        return Ok(());
    }
    let mut inbox = Rows::default();
    for row in &batch.read(WAITING_SHARDS, ids(told.0.keys().copied())).await? {
        let mut cols = Cols::of(row);
        let (parent, shard): (JobId, ShardId) = (cols.job()?, cols.shard()?);
        inbox.row().int(shard.0).id(parent).int(batch.now.0);
        match told.0.get(&parent).and_then(|index| results[*index].as_mut()) {
            Some(OpResult::Ended(ended)) => ended.wakes.push(shard),
            Some(OpResult::Changed(Changed::Done(done))) => done.wakes.push(shard),
            Some(
                OpResult::Canceled(Canceled::Done { wakes, .. })
                | OpResult::Retried(Retried::Done { wakes, .. }),
            ) => wakes.push(shard),
            _ => (),
        }
    }
    batch.write(FINISHED, inbox).await
}
