//! Terminal jobs that are forgotten.

use std::collections::{HashMap, HashSet};

use super::{
    batch::Batch,
    parts::{self, Stored},
    remove,
    rows::{Cols, Rows, ids},
};
use crate::{
    domain::JobId,
    store::{
        StoreError,
        ops::{ForgetOp, OpResult},
        patch::{Forgotten, forget},
    },
};

/// Jobs that an unfinished one depends on.
const NEEDED: &str = "
    select distinct d.parent
    from jsonb_each(?1) e
    join dependency d on d.parent = unhex(e.value)
    join job_live l on l.id = d.child";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[("needed", NEEDED)];

pub(super) async fn run(
    batch: &mut Batch<'_>,
    ops: &[(usize, &ForgetOp)],
    results: &mut [Option<OpResult>],
) -> Result<(), StoreError> {
    if ops.is_empty() {
        return Ok(());
    }
    let named = ids(ops.iter().map(|(_, op)| op.job));
    let loaded = parts::load(batch.conn, named.clone()).await?;
    let jobs: HashMap<JobId, Stored> =
        loaded.into_iter().map(|stored| (stored.parts.job.id, stored)).collect();
    let needed = batch.read(NEEDED, named).await?;
    let needed: HashSet<JobId> =
        needed.iter().map(|row| Cols::of(row).job()).collect::<Result<_, StoreError>>()?;
    let mut gone = Rows::default();
    for (index, op) in ops {
        let found = jobs.get(&op.job).map(|stored| &stored.parts);
        let answer = match forget(found, needed.contains(&op.job), op, batch.now) {
            Ok(Forgotten { shard, queue, state, audit, answer }) => {
                gone.row().id(op.job);
                batch.count(shard, &queue, state, -1);
                batch.audit(&audit);
                answer
            }
            Err(answer) => answer,
        };
        results[*index] = Some(OpResult::Changed(answer));
    }
    remove::all_of(batch, gone).await
}
