//! What others left for a shard.

pub(super) const STATEMENTS: &[(&str, &str)] = &[];

use super::batch::{Batch, Placed, Results};
use crate::store::{StoreError, ops::InboxOp};

pub(super) async fn run(
    _batch: &mut Batch<'_>,
    _ops: &Placed<'_, InboxOp>,
    _results: &mut Results,
) -> Result<(), StoreError> {
    Ok(())
}
