//! Whether queues take births: those that drain take none, those with a bound no more than fit.

use std::collections::{BTreeMap, BTreeSet};

use super::{batch::Batch, rows::Cols};
use crate::{
    domain::QueueConfig,
    store::{StoreError, ops::SubmitOp, queues::Admission},
};

/// With how many wait. Nobody else writes meanwhile: it stays true until the births are written.
const ROWS: &str = "
    select q.name, q.draining, q.config,
           (select coalesce(sum(c.queued + c.scheduled + c.retrying + c.blocked + c.throttled), 0)
            from counter c where c.shard = q.shard and c.queue = q.name)
    from queue q where q.name in (select value from jsonb_each(?1))";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[("rows", ROWS)];

/// What the queues of a batch's births say.
pub(super) async fn read(
    batch: &mut Batch<'_>,
    ops: &[(usize, &SubmitOp)],
) -> Result<BTreeMap<String, Admission>, StoreError> {
    let births = ops.iter().filter(|(_, op)| op.owner.is_none());
    let names: BTreeSet<&str> = births.flat_map(|(_, op)| &op.jobs).map(|job| job.queue.as_str()).collect();
    let mut found = BTreeMap::new();
    if names.is_empty() {
        return Ok(found);
    }
    let names = serde_json::to_string(&names).unwrap_or_default();
    for row in &batch.read(ROWS, names).await? {
        let mut cols = Cols::of(row);
        let (name, draining) = (cols.get()?, cols.get()?);
        let config = QueueConfig::from_stored(cols.get::<Option<String>>()?.as_deref());
        let waiting = cols.get()?;
        found.insert(name, Admission { draining, depth: config.max_depth.map(|max| (max, waiting)) });
    }
    Ok(found)
}
