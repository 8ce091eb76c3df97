//! Log lines of attempts.

use super::batch::Batch;
use crate::store::{
    StoreError,
    ops::{LogOp, OpResult},
};

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[];

pub(super) async fn run(
    _batch: &mut Batch<'_>,
    ops: &[(usize, &LogOp)],
    results: &mut [Option<OpResult>],
) -> Result<(), StoreError> {
    for (index, _) in ops {
        results[*index] = Some(OpResult::Refused("not available yet".into()));
    }
    Ok(())
}
