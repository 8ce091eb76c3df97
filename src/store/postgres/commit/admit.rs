//! Whether queues take births: those that drain take none, those with a bound no more than fit.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{error::store_error, rows::Columns},
    batch::{Batch, Placed},
};
use crate::{
    domain::QueueConfig,
    store::{StoreError, ops::SubmitOp, queues::Admission},
};

/// Locked, so that births of other lanes into a queue with settings come one after the other, and a change of
/// settings behind them. Queues without settings have no row, and nothing waits for anything.
const ROWS: &str =
    "select name, draining, config from queue where name = any($1) order by name for no key update";

/// In a statement of its own, behind the lock: it sees what the births before it have made.
const WAITING: &str = "select queue, sum(queued + scheduled + retrying + blocked + throttled)::bigint
from counter where queue = any($1) group by queue";

pub(super) const STATEMENTS: &[(&str, &str)] = &[("admit rows", ROWS), ("admit waiting", WAITING)];

/// What the queues of a batch's births say.
pub(super) async fn read(
    batch: &mut Batch<'_>,
    ops: &Placed<'_, SubmitOp>,
) -> Result<BTreeMap<String, Admission>, StoreError> {
    let births = ops.iter().filter(|(_, op)| op.owner.is_none());
    let names: BTreeSet<&str> = births.flat_map(|(_, op)| &op.jobs).map(|job| job.queue.as_str()).collect();
    let mut found = BTreeMap::new();
    if names.is_empty() {
        return Ok(found);
    }
    let names: Vec<&str> = names.into_iter().collect();
    let rows = sqlx::query(ROWS).bind(names).fetch_all(&mut *batch.connection).await.map_err(store_error)?;
    let mut bounded = Vec::new();
    for row in &rows {
        let mut columns = Columns::of(row);
        let (name, draining): (String, bool) = (columns.next()?, columns.next()?);
        let config = QueueConfig::from_stored(columns.next::<Option<String>>()?.as_deref());
        if config.max_depth.is_some() {
            bounded.push(name.clone());
        }
        found.insert(name, Admission { draining, depth: config.max_depth.map(|max| (max, 0)) });
    }
    if bounded.is_empty() {
        return Ok(found);
    }
    let rows =
        sqlx::query(WAITING).bind(bounded).fetch_all(&mut *batch.connection).await.map_err(store_error)?;
    for row in &rows {
        let mut columns = Columns::of(row);
        let (name, waiting): (String, i64) = (columns.next()?, columns.next()?);
        if let Some(Admission { depth: Some((_, waits)), .. }) = found.get_mut(&name) {
            *waits = waiting;
        }
    }
    Ok(found)
}
