//! What waits in a queue out of its order.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::super::{PostgresStore, bounded, error::store_error};
use crate::{
    domain::{JobId, ShardId, Timestamp},
    store::{StoreError, queues::QueueReads},
};

const SET_ASIDE: &str = "select id from job_live
where shard = $1 and queue = $2 and (state = 3 or gate is not null) and id > $3
order by id limit $4";

const OLDEST_GATED: &str =
    "select min(run_at) from job_live where shard = $1 and queue = $2 and gate is not null";

pub(super) const STATEMENTS: &[(&str, &str)] =
    &[("queues set aside", SET_ASIDE), ("queues oldest gated", OLDEST_GATED)];

#[async_trait]
impl QueueReads for PostgresStore {
    async fn set_aside(
        &self,
        shard: ShardId,
        queue: &str,
        after: Option<JobId>,
        limit: i64,
    ) -> Result<Vec<JobId>, StoreError> {
        bounded(async {
            let after = after.map_or(Uuid::nil(), |job| job.0);
            let query = sqlx::query_scalar(SET_ASIDE).bind(shard.0).bind(queue).bind(after).bind(limit);
            let ids: Vec<Uuid> = query.fetch_all(&self.readers).await.map_err(store_error)?;
            Ok(ids.into_iter().map(JobId).collect())
        })
        .await
    }

    async fn oldest_gated(&self, shard: ShardId, queue: &str) -> Result<Option<Timestamp>, StoreError> {
        bounded(async {
            let query = sqlx::query_scalar(OLDEST_GATED).bind(shard.0).bind(queue);
            let oldest: Option<DateTime<Utc>> = query.fetch_one(&self.readers).await.map_err(store_error)?;
            Ok(oldest.map(Timestamp::from))
        })
        .await
    }
}
