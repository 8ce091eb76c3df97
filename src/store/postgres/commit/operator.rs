//! Cancels and retries, asked by operators.

pub(super) const STATEMENTS: &[(&str, &str)] = &[];

use super::batch::{Batch, Placed, Results};
use crate::store::{StoreError, ops::{CancelOp, RetryOp}};

pub(super) async fn run(
    _batch: &mut Batch<'_>,
    _cancels: &Placed<'_, CancelOp>,
    _retries: &Placed<'_, RetryOp>,
    _results: &mut Results,
) -> Result<(), StoreError> {
    Ok(())
}
