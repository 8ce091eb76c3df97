//! Rows of the audit log that stand alone; the others are written by the change they belong to.

use super::batch::Batch;
use crate::store::ops::{AuditOp, OpResult};

pub(super) fn run(batch: &mut Batch<'_>, ops: &[(usize, &AuditOp)], results: &mut [Option<OpResult>]) {
    for (index, op) in ops {
        batch.audit(op);
        results[*index] = Some(OpResult::Audited);
    }
}
