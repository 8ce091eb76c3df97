//! One job.

use super::{
    super::{PostgresStore, error::store_error, rows::Columns},
    done, parts, snapshot,
};
use crate::{
    domain::{AttemptRow, JobId, JobView, ShardId, TimelineRow},
    store::StoreError,
};

const LOCATE: &str = "select coalesce(l.shard, o.shard), coalesce(l.queue, o.queue)
from job j
left join job_live l on l.id = j.id
left join outcome o on o.job_id = j.id
where j.id = $1";

pub(super) const STATEMENTS: &[(&str, &str)] = &[("job locate", LOCATE)];

/// A job as it is shown.
pub(in super::super) async fn view(store: &PostgresStore, id: JobId) -> Result<Option<JobView>, StoreError> {
    let mut connection = store.readers.acquire().await.map_err(store_error)?;
    let found = parts::load(&mut connection, &[id.0]).await?;
    Ok(found.into_iter().next().map(|(now, parts)| parts.view(now)))
}

/// Its timeline behind `after`.
pub(in super::super) async fn events(
    store: &PostgresStore,
    id: JobId,
    after: i64,
    limit: i64,
) -> Result<Option<Vec<TimelineRow>>, StoreError> {
    let mut snapshot = snapshot(store).await?;
    let found = parts::load(&mut snapshot, &[id.0]).await?.into_iter().next();
    let events = parts::events(&mut snapshot, id).await?;
    done(snapshot).await?;
    let limit = usize::try_from(limit).unwrap_or(0);
    Ok(found.map(|(now, parts)| {
        parts.timeline(events, now).into_iter().filter(|row| row.seq > after).take(limit).collect()
    }))
}

/// Its attempts.
pub(in super::super) async fn attempts(
    store: &PostgresStore,
    id: JobId,
) -> Result<Option<Vec<AttemptRow>>, StoreError> {
    let mut snapshot = snapshot(store).await?;
    let found = parts::load(&mut snapshot, &[id.0]).await?.into_iter().next();
    let attempts = parts::attempts(&mut snapshot, id).await?;
    done(snapshot).await?;
    Ok(found.map(|(_, parts)| parts.attempts(attempts)))
}

/// Its shard and queue.
pub(in super::super) async fn locate(
    store: &PostgresStore,
    id: JobId,
) -> Result<Option<(ShardId, String)>, StoreError> {
    let row = sqlx::query(LOCATE).bind(id.0).fetch_optional(&store.readers).await.map_err(store_error)?;
    row.map(|row| {
        let mut columns = Columns::of(&row);
        Ok((columns.shard()?, columns.next()?))
    })
    .transpose()
}
