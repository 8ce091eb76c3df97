//! Reads about submissions.

use std::collections::HashMap;

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    SqliteStore,
    error::store_error,
    parts,
    readers::snapshot,
    rows::{Cols, ids},
    writer::now,
};
use crate::{
    domain::{JobId, JobView, Timestamp},
    store::{
        StoreError,
        read::IdempotencyRecord,
        submissions::{ExpiredRow, SubmissionReads},
    },
};

const KEYS: &str = "
    select i.key, i.tenant, i.job_id, i.expires_at
    from jsonb_each(?1) e
    join job on job.id = unhex(e.value)
    join idempotency i on i.tenant = job.tenant and i.key = job.idempotency_key
    where i.job_id = job.id";

const EXPIRED: &str = "
    select shard, queue, id, expires_at from job_live indexed by job_live_expires
    where expires_at is not null and expires_at <= ?1 and fence = 0 and (expires_at, id) > (?2, ?3)
      and not exists (select 1 from lease where lease.job_id = job_live.id)
    order by expires_at, id limit ?4";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[("keys of jobs", KEYS), ("expired", EXPIRED)];

#[async_trait]
impl SubmissionReads for SqliteStore {
    async fn submitted(
        &self,
        jobs: &[JobId],
    ) -> Result<Vec<(JobView, Option<IdempotencyRecord>)>, StoreError> {
        let (named, now) = (ids(jobs.iter().copied()), now());
        let mut tx = snapshot(&self.readers).await?;
        let stored = parts::load(&mut tx, named.clone()).await?;
        let mut keys = HashMap::new();
        for row in &sqlx::query(KEYS).bind(named).fetch_all(&mut *tx).await.map_err(store_error)? {
            let mut cols = Cols::of(row);
            let (key, tenant_id, job_id) = (cols.get()?, cols.get()?, cols.job()?);
            let expires_at = cols.time()?;
            keys.insert(job_id, IdempotencyRecord { key, tenant_id, job_id, expires_at });
        }
        let shown = stored.iter().map(|stored| stored.parts.view(now));
        Ok(shown.map(|job| (keys.remove(&job.id), job)).map(|(key, job)| (job, key)).collect())
    }

    async fn expired(
        &self,
        after: Option<(Timestamp, JobId)>,
        limit: i64,
    ) -> Result<Vec<ExpiredRow>, StoreError> {
        let (at, id) = after.unwrap_or((Timestamp(i64::MIN), JobId(Uuid::nil())));
        let query = sqlx::query(EXPIRED).bind(now().0).bind(at.0).bind(id.0).bind(limit);
        let rows = query.fetch_all(&self.readers).await.map_err(store_error)?;
        let read = |row| {
            let mut cols = Cols::of(row);
            let (shard, queue) = (cols.shard()?, cols.get()?);
            Ok(ExpiredRow { shard, queue, job: cols.job()?, expires_at: cols.time()? })
        };
        rows.iter().map(read).collect()
    }
}
