//! What is read of a queue beside its ready order.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{
    StoreError,
    ops::{AuditOp, SettingsOp, SubmitRefusal},
    read::QueueRow,
};
use crate::domain::{JobId, NewJob, RawJson, ShardId, Timestamp};

/// Reads of what waits in a queue out of its order.
#[async_trait]
pub trait QueueReads {
    /// Jobs of a queue that are blocked or behind a gate, by id behind `after`.
    async fn set_aside(
        &self,
        shard: ShardId,
        queue: &str,
        after: Option<JobId>,
        limit: i64,
    ) -> Result<Vec<JobId>, StoreError>;

    /// Since when the first of a queue's gated jobs is ready.
    async fn oldest_gated(&self, shard: ShardId, queue: &str) -> Result<Option<Timestamp>, StoreError>;
}

/// The row of the audit log for a change of settings.
pub(in crate::store) fn audit(op: &SettingsOp, before: Option<&QueueRow>, after: &QueueRow) -> AuditOp {
    let shown = |row: &QueueRow| {
        let config = row.config.as_deref().unwrap_or("{}");
        let (paused, draining) = (row.paused, row.draining);
        RawJson::trusted(format!(r#"{{"paused":{paused},"draining":{draining},"config":{config}}}"#))
    };
    AuditOp {
        action: op.action,
        object_type: "queue",
        object_id: op.queue.clone(),
        by: op.by.clone(),
        before: before.map(shown),
        after: Some(shown(after)),
    }
}

/// How many more jobs a queue takes from births, as a transaction finds it and goes on.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct Admission {
    pub(in crate::store) draining: bool,
    /// The setting, and how many wait.
    pub(in crate::store) depth: Option<(i64, i64)>,
}

/// Admits the new jobs of one operation (with their places in it), all or none, and counts them as waiting.
pub(in crate::store) fn admit<'a>(
    queues: &mut BTreeMap<String, Admission>,
    jobs: impl Iterator<Item = (usize, &'a NewJob)>,
) -> Result<(), SubmitRefusal> {
    if queues.is_empty() {
        return Ok(());
    }
    let mut more: BTreeMap<&str, i64> = BTreeMap::new();
    for (index, job) in jobs {
        let Some(admission) = queues.get(&job.queue) else { continue };
        if admission.draining {
            return Err(SubmitRefusal::Draining { index, queue: job.queue.clone() });
        }
        let Some((max_depth, waiting)) = admission.depth else { continue };
        let more = more.entry(&job.queue).or_default();
        *more += 1;
        if waiting + *more > max_depth {
            return Err(SubmitRefusal::QueueFull { index, queue: job.queue.clone(), max_depth });
        }
    }
    for (queue, more) in more {
        if let Some(Admission { depth: Some((_, waiting)), .. }) = queues.get_mut(queue) {
            *waiting += more;
        }
    }
    Ok(())
}
