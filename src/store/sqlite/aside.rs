//! What waits in a queue out of its order.

use async_trait::async_trait;

use super::{SqliteStore, error::store_error, rows::Cols};
use crate::{
    domain::{JobId, ShardId, Timestamp},
    store::{StoreError, queues::QueueReads},
};

const SET_ASIDE: &str = "
    select id from job_live
    where shard = ?1 and queue = ?2 and (state = 3 or gate is not null) and id > ?3
    order by id limit ?4";

const OLDEST_GATED: &str =
    "select min(run_at) from job_live where shard = ?1 and queue = ?2 and gate is not null";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[("set aside", SET_ASIDE), ("oldest gated", OLDEST_GATED)];

#[async_trait]
impl QueueReads for SqliteStore {
    async fn set_aside(
        &self,
        shard: ShardId,
        queue: &str,
        after: Option<JobId>,
        limit: i64,
    ) -> Result<Vec<JobId>, StoreError> {
        let after = after.map_or_else(Vec::new, |job| job.0.as_bytes().to_vec());
        let query = sqlx::query(SET_ASIDE).bind(shard.0).bind(queue).bind(after).bind(limit);
        let rows = query.fetch_all(&self.readers).await.map_err(store_error)?;
        rows.iter().map(|row| Cols::of(row).job()).collect()
    }

    async fn oldest_gated(&self, shard: ShardId, queue: &str) -> Result<Option<Timestamp>, StoreError> {
        let query = sqlx::query(OLDEST_GATED).bind(shard.0).bind(queue);
        let row = query.fetch_one(&self.readers).await.map_err(store_error)?;
        Ok(Cols::of(&row).get::<Option<i64>>()?.map(Timestamp))
    }
}
