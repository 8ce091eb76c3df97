//! Log lines of a job.

use async_trait::async_trait;

use super::super::{PostgresStore, bounded, error::store_error, rows::Columns};
use crate::{
    domain::{JobId, RawJson},
    store::{
        JobLogs, StoreError,
        logs::{LogFilter, LogRow},
        ops::LogLevel,
    },
};

const READ: &str = "select seq, at, attempt, fence, level, message, fields::text from job_log
where job_id = $1 and seq > $2 and ($3::integer is null or attempt = $3) and level >= $4
order by seq limit $5";

const NEWEST: &str =
    "select coalesce((select seq from job_log where job_id = $1 order by seq desc limit 1), 0)";

const KNOWN: &str = "select exists (select from job where id = $1)";

pub(super) const STATEMENTS: &[(&str, &str)] =
    &[("logs read", READ), ("logs newest", NEWEST), ("logs known", KNOWN)];

#[async_trait]
impl JobLogs for PostgresStore {
    async fn logs(
        &self,
        job: JobId,
        filter: LogFilter,
        after: i64,
        limit: i64,
    ) -> Result<Option<Vec<LogRow>>, StoreError> {
        bounded(read(self, job, filter, after, limit)).await
    }

    async fn newest_log(&self, job: JobId) -> Result<i64, StoreError> {
        bounded(async {
            let newest = sqlx::query_scalar(NEWEST).bind(job.0).fetch_one(&self.readers);
            newest.await.map_err(store_error)
        })
        .await
    }
}

async fn read(
    store: &PostgresStore,
    job: JobId,
    filter: LogFilter,
    after: i64,
    limit: i64,
) -> Result<Option<Vec<LogRow>>, StoreError> {
    let rows = sqlx::query(READ)
        .bind(job.0)
        .bind(after)
        .bind(filter.attempt)
        .bind(filter.level.map_or(0, LogLevel::code))
        .bind(limit)
        .fetch_all(&store.readers)
        .await
        .map_err(store_error)?;
    if rows.is_empty() {
        let known = sqlx::query_scalar(KNOWN).bind(job.0).fetch_one(&store.readers);
        let known: bool = known.await.map_err(store_error)?;
        return Ok(known.then(Vec::new));
    }
    let rows = rows.iter().map(|row| {
        let mut columns = Columns::of(row);
        Ok(LogRow {
            job_id: job,
            seq: columns.next()?,
            at: columns.time()?,
            attempt: columns.next()?,
            fence: columns.fence()?,
            level: {
                let code: i16 = columns.next()?;
                LogLevel::from_code(code)
                    .ok_or_else(|| StoreError::Refused(format!("unknown log level {code} in the store")))?
            },
            message: columns.next()?,
            fields: columns.next::<Option<String>>()?.map(RawJson::trusted),
        })
    });
    rows.collect::<Result<Vec<_>, StoreError>>().map(Some)
}
