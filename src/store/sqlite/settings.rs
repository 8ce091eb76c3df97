//! Settings of queues.

use super::batch::Batch;
use crate::store::{
    StoreError,
    ops::{OpResult, SettingsOp},
};

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[];

pub(super) async fn run(
    _batch: &mut Batch<'_>,
    ops: &[(usize, &SettingsOp)],
    results: &mut [Option<OpResult>],
) -> Result<(), StoreError> {
    for (index, _) in ops {
        results[*index] = Some(OpResult::Refused("not available yet".into()));
    }
    Ok(())
}
