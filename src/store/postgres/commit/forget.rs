//! Terminal jobs that are forgotten.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::{
    super::{error::store_error, reads, remove},
    batch::{Batch, Placed, Results},
    keys,
};
use crate::{
    domain::JobId,
    store::{
        StoreError,
        assemble::JobParts,
        ops::{ForgetOp, OpResult},
        patch::{Forgotten, forget},
    },
};

/// Jobs that an unfinished one depends on.
const NEEDED: &str = "select distinct d.parent
from dependency d
join job_live l on l.id = d.child
where d.parent = any($1)";

pub(super) const STATEMENTS: &[(&str, &str)] = &[("forget needed", NEEDED)];

pub(super) async fn run(
    batch: &mut Batch<'_>,
    ops: &Placed<'_, ForgetOp>,
    results: &mut Results,
) -> Result<(), StoreError> {
    if ops.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = ops.iter().map(|(_, op)| op.job.0).collect();
    // Retention may be removing the same jobs: whoever comes second finds nothing, and counts nothing.
    keys::finished(batch, ids.iter()).await?;
    let read = reads::parts::load(batch.connection, &ids).await?;
    let found: HashMap<JobId, JobParts> = read.into_iter().map(|(_, parts)| (parts.job.id, parts)).collect();
    let needed: Vec<Uuid> =
        sqlx::query_scalar(NEEDED).bind(&ids).fetch_all(&mut *batch.connection).await.map_err(store_error)?;
    let needed: HashSet<Uuid> = needed.into_iter().collect();
    let mut gone: Vec<Uuid> = Vec::new();
    for (place, op) in ops {
        let answer = match forget(found.get(&op.job), needed.contains(&op.job.0), op, batch.now) {
            Ok(Forgotten { shard, queue, state, audit, answer }) => {
                gone.push(op.job.0);
                batch.effects.count(shard, &queue, state, -1);
                batch.effects.audit(audit);
                answer
            }
            Err(answer) => answer,
        };
        results.set(*place, OpResult::Changed(answer));
    }
    remove::all_of(batch.connection, &gone).await
}
