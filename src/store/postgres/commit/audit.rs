//! Rows of the audit log.

use super::batch::{Batch, Placed, Results};
use crate::store::{
    StoreError,
    ops::{AuditOp, OpResult},
};

pub(super) const STATEMENTS: &[(&str, &str)] = &[];

pub(super) async fn run(
    _batch: &mut Batch<'_>,
    ops: &Placed<'_, AuditOp>,
    results: &mut Results,
) -> Result<(), StoreError> {
    for (place, _) in ops {
        results.set(*place, OpResult::Refused("not available yet".into()));
    }
    Ok(())
}
