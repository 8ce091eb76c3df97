//! The platform's history, as processors may read and tidy it.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    domain::{JobId, JobState, ShardEpoch, Timestamp},
    store::{
        Store,
        read::{FinishedFilter, FinishedRow},
    },
    worker::{FinishedJob, History, HistoryError, HistoryFilter, HistoryPage, RemovalScope},
};

/// Finished jobs of a store, under the epochs that this node owns its shards with.
#[derive(Debug)]
pub(super) struct StoreHistory {
    pub(super) store: Arc<dyn Store>,
    pub(super) owners: Arc<[ShardEpoch]>,
}

fn fault(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> HistoryError {
    HistoryError(error.into())
}

fn state(name: &str) -> Result<JobState, HistoryError> {
    let state: JobState = name.parse().map_err(|()| fault(format!("{name:?} is not a state")))?;
    if state.is_terminal() { Ok(state) } else { Err(fault(format!("{name} is not a state jobs end in"))) }
}

#[async_trait]
impl History for StoreHistory {
    async fn finished_jobs(
        &self,
        filter: &HistoryFilter,
        after: Option<String>,
        limit: u32,
    ) -> Result<HistoryPage, HistoryError> {
        let after: Option<JobId> = after.map(|id| id.parse()).transpose().map_err(fault)?;
        let filter = FinishedFilter {
            tenant: filter.tenant.clone(),
            queue: filter.queue.clone(),
            kind: filter.job_type.clone(),
            state: filter.state.as_deref().map(state).transpose()?,
            since: filter.since.map(Timestamp::from),
            until: filter.until.map(Timestamp::from),
        };
        let rows = self.store.finished(&filter, after, i64::from(limit)).await.map_err(fault)?;
        let is_full = rows.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
        let next = rows.last().filter(|_| is_full).map(|row| row.job.to_string());
        Ok(HistoryPage { rows: rows.into_iter().map(shown).collect(), next })
    }

    async fn remove_finished(&self, scope: &RemovalScope, limit: u32) -> Result<u64, HistoryError> {
        let states = scope.states.iter().map(|name| state(name)).collect::<Result<Vec<_>, _>>()?;
        let (before, queue) = (scope.older_than.into(), scope.queue.as_deref());
        let (owners, tenant, limit) = (&*self.owners, Some(scope.tenant.as_str()), i64::from(limit));
        let removed = self.store.remove_finished(owners, before, &states, queue, tenant, limit).await;
        Ok(removed.map_err(fault)?.unsigned_abs())
    }
}

fn shown(row: FinishedRow) -> FinishedJob {
    let ran = row.started_at.map(|at| row.finished_at.millis_since(at).max(0).unsigned_abs());
    FinishedJob {
        id: row.job.0,
        job_type: row.kind,
        queue: row.queue,
        tenant: row.tenant,
        state: row.state.name().to_owned(),
        attempts: u32::try_from(row.attempts).unwrap_or(0),
        created_at: row.created_at.to_datetime(),
        started_at: row.started_at.map(Timestamp::to_datetime),
        finished_at: row.finished_at.to_datetime(),
        execution_ms: ran,
        last_error: row.last_error,
    }
}
