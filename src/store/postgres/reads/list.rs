//! Reports of finished jobs.

use super::super::{PostgresStore, error::store_error, rows::Columns};
use crate::{
    domain::{JobId, JobState, Timestamp},
    store::{
        StoreError,
        read::{FinishedFilter, FinishedRow},
    },
};

const FINISHED: &str =
    "select o.job_id, o.kind, o.queue, o.tenant, o.state, o.attempt, j.created_at, o.started_at,
       o.finished_at, o.error_message
from outcome o
join job j on j.id = o.job_id
where ($1::uuid is null or o.job_id > $1)
  and ($2::text is null or o.tenant = $2)
  and ($3::text is null or o.queue = $3)
  and ($4::text is null or o.kind = $4)
  and ($5::smallint is null or o.state = $5)
  and ($6::timestamptz is null or o.finished_at >= $6)
  and ($7::timestamptz is null or o.finished_at < $7)
order by o.job_id
limit $8";

pub(super) const STATEMENTS: &[(&str, &str)] = &[("list finished", FINISHED)];

/// Finished jobs in the order they were made.
pub(in super::super) async fn finished(
    store: &PostgresStore,
    filter: &FinishedFilter,
    after: Option<JobId>,
    limit: i64,
) -> Result<Vec<FinishedRow>, StoreError> {
    let rows = sqlx::query(FINISHED)
        .bind(after.map(|after| after.0))
        .bind(filter.tenant.as_deref())
        .bind(filter.queue.as_deref())
        .bind(filter.kind.as_deref())
        .bind(filter.state.map(JobState::code))
        .bind(filter.since.map(Timestamp::to_datetime))
        .bind(filter.until.map(Timestamp::to_datetime))
        .bind(limit)
        .fetch_all(&store.readers)
        .await
        .map_err(store_error)?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            Ok(FinishedRow {
                job: columns.job()?,
                kind: columns.next()?,
                queue: columns.next()?,
                tenant: columns.next()?,
                state: columns.state()?,
                attempts: columns.next()?,
                created_at: columns.time()?,
                started_at: columns.time_or_none()?,
                finished_at: columns.time()?,
                last_error: columns.next()?,
            })
        })
        .collect()
}
