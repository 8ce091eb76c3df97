//! Changes of waiting jobs.

use super::batch::{Batch, Placed, Results};
use crate::store::{
    StoreError,
    ops::{OpResult, UpdateOp},
};

pub(super) const STATEMENTS: &[(&str, &str)] = &[];

pub(super) async fn run(
    _batch: &mut Batch<'_>,
    ops: &Placed<'_, UpdateOp>,
    results: &mut Results,
) -> Result<(), StoreError> {
    for (place, _) in ops {
        results.set(*place, OpResult::Refused("not available yet".into()));
    }
    Ok(())
}
