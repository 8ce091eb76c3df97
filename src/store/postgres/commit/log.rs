//! Log lines of attempts.

use super::batch::{Batch, Placed, Results};
use crate::store::{
    StoreError,
    ops::{LogOp, OpResult},
};

pub(super) const STATEMENTS: &[(&str, &str)] = &[];

pub(super) async fn run(
    _batch: &mut Batch<'_>,
    ops: &Placed<'_, LogOp>,
    results: &mut Results,
) -> Result<(), StoreError> {
    for (place, _) in ops {
        results.set(*place, OpResult::Refused("not available yet".into()));
    }
    Ok(())
}
