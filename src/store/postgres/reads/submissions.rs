//! Reads about submissions.

use std::collections::HashMap;

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    super::{PostgresStore, bounded, error::store_error, rows::Columns},
    done, parts, snapshot,
};
use crate::{
    domain::{JobId, JobView, Timestamp},
    store::{
        StoreError,
        read::IdempotencyRecord,
        submissions::{ExpiredRow, SubmissionReads},
    },
};

const KEYS: &str = "select key, tenant, job_id, expires_at from idempotency where job_id = any($1)";

const EXPIRED: &str = "select l.shard, l.queue, l.id, l.expires_at
from job_live l
where l.expires_at <= now() and l.fence = 0
  and (l.expires_at, l.id) > (coalesce($1, '-infinity'::timestamptz), $2)
  and not exists (select from lease e where e.job_id = l.id)
order by l.expires_at, l.id
limit $3";

pub(super) const STATEMENTS: &[(&str, &str)] =
    &[("submissions keys", KEYS), ("submissions expired", EXPIRED)];

#[async_trait]
impl SubmissionReads for PostgresStore {
    async fn submitted(
        &self,
        jobs: &[JobId],
    ) -> Result<Vec<(JobView, Option<IdempotencyRecord>)>, StoreError> {
        bounded(submitted(self, jobs)).await
    }

    async fn expired(
        &self,
        after: Option<(Timestamp, JobId)>,
        limit: i64,
    ) -> Result<Vec<ExpiredRow>, StoreError> {
        bounded(expired(self, after, limit)).await
    }
}

async fn submitted(
    store: &PostgresStore,
    jobs: &[JobId],
) -> Result<Vec<(JobView, Option<IdempotencyRecord>)>, StoreError> {
    let jobs: Vec<Uuid> = jobs.iter().map(|job| job.0).collect();
    let mut snapshot = snapshot(store).await?;
    let found = parts::load(&mut snapshot, &jobs).await?;
    let rows = sqlx::query(KEYS).bind(&jobs).fetch_all(&mut *snapshot).await.map_err(store_error)?;
    done(snapshot).await?;
    let mut keys = HashMap::new();
    for row in &rows {
        let mut columns = Columns::of(row);
        let (key, tenant_id, job_id) = (columns.next()?, columns.next()?, columns.job()?);
        let expires_at = columns.time()?;
        keys.insert(job_id, IdempotencyRecord { key, tenant_id, job_id, expires_at });
    }
    let shown = found.into_iter().map(|(now, parts)| parts.view(now));
    Ok(shown.map(|job| (keys.remove(&job.id), job)).map(|(key, job)| (job, key)).collect())
}

async fn expired(
    store: &PostgresStore,
    after: Option<(Timestamp, JobId)>,
    limit: i64,
) -> Result<Vec<ExpiredRow>, StoreError> {
    let rows = sqlx::query(EXPIRED)
        .bind(after.map(|(at, _)| at.to_datetime()))
        .bind(after.map_or_else(Uuid::nil, |(_, job)| job.0))
        .bind(limit)
        .fetch_all(&store.readers)
        .await
        .map_err(store_error)?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            let (shard, queue) = (columns.shard()?, columns.next()?);
            Ok(ExpiredRow { shard, queue, job: columns.job()?, expires_at: columns.time()? })
        })
        .collect()
}
