//! Log lines of attempts.

use async_trait::async_trait;
use sqlx::SqlitePool;

use super::{
    SqliteStore,
    batch::Batch,
    error::store_error,
    rows::{Cols, Rows},
};
use crate::{
    domain::{Fence, JobId, RawJson},
    store::{
        JobLogs, StoreError,
        logs::{LogFilter, LogRow},
        ops::{LogLevel, LogOp, OpResult},
    },
};

/// The leases that lines are written under, each with the job's newest line.
const HELD: &str = "
    select w.value ->> 0, lease.attempt, coalesce(n.seq, 0),
           case when n.fence = lease.fence then n.line else 0 end
    from jsonb_each(?1) w
    cross join lease on lease.job_id = unhex(w.value ->> 1) and lease.fence = w.value ->> 2
                    and lease.shard = w.value ->> 3
    left join job_log n on n.job_id = lease.job_id
                       and n.seq = (select max(m.seq) from job_log m where m.job_id = lease.job_id)";

const LINES: &str = "
    insert into job_log (job_id, seq, at, fence, attempt, line, level, message, fields)
    select unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
           value ->> 7, value ->> 8
    from jsonb_each(?1)";

const READ: &str = "
    select seq, at, attempt, fence, level, message, fields from job_log
    where job_id = ?1 and seq > ?2 and (?3 is null or attempt = ?3) and level >= ?4
    order by seq limit ?5";

const NEWEST: &str = "select coalesce(max(seq), 0) from job_log where job_id = ?1";

const KNOWN: &str = "select exists (select 1 from job where id = ?1)";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("log held", HELD),
    ("log lines", LINES),
    ("log read", READ),
    ("log newest", NEWEST),
    ("log known", KNOWN),
];

pub(super) async fn run(
    batch: &mut Batch<'_>,
    ops: &[(usize, &LogOp)],
    results: &mut [Option<OpResult>],
) -> Result<(), StoreError> {
    if ops.is_empty() {
        return Ok(());
    }
    let mut wanted = Rows::default();
    for (index, (place, op)) in ops.iter().enumerate() {
        wanted
            .row()
            .int(i64::try_from(index).unwrap_or(i64::MAX))
            .id(op.job)
            .int(op.fence.0)
            .int(op.owner.shard.0);
        results[*place] = Some(OpResult::Stale { recorded: None });
    }
    let mut lines = Rows::default();
    for row in batch.read(HELD, wanted.finish()).await? {
        let mut cols = Cols::of(&row);
        let (index, attempt): (usize, i32) = (cols.int()?, cols.int()?);
        let (mut seq, known): (i64, i32) = (cols.get()?, cols.int()?);
        let Some((place, op)) = ops.get(index) else { continue };
        for (number, line) in (op.first..).zip(&op.lines).filter(|(number, _)| *number > known) {
            seq += 1;
            lines
                .row()
                .id(op.job)
                .int(seq)
                .int(line.at.unwrap_or(batch.now).0)
                .int(op.fence.0)
                .int(attempt)
                .int(number)
                .int(line.level.code())
                // What the other engine cannot hold.
                .text(&line.message.replace('\0', "\u{fffd}"))
                .opt_text(line.fields.as_ref().map(RawJson::text));
        }
        results[*place] = Some(OpResult::Logged(seq));
    }
    batch.write(LINES, lines).await
}

#[async_trait]
impl JobLogs for SqliteStore {
    async fn logs(
        &self,
        job: JobId,
        filter: LogFilter,
        after: i64,
        limit: i64,
    ) -> Result<Option<Vec<LogRow>>, StoreError> {
        let rows = read(&self.readers, job, filter, after, limit).await?;
        if rows.is_empty() {
            let known: bool =
                sqlx::query_scalar(KNOWN).bind(job.0).fetch_one(&self.readers).await.map_err(store_error)?;
            return Ok(known.then_some(rows));
        }
        Ok(Some(rows))
    }

    async fn newest_log(&self, job: JobId) -> Result<i64, StoreError> {
        let newest = sqlx::query_scalar(NEWEST).bind(job.0).fetch_one(&self.readers);
        newest.await.map_err(store_error)
    }
}

async fn read(
    readers: &SqlitePool,
    job: JobId,
    filter: LogFilter,
    after: i64,
    limit: i64,
) -> Result<Vec<LogRow>, StoreError> {
    let rows = sqlx::query(READ)
        .bind(job.0)
        .bind(after)
        .bind(filter.attempt)
        .bind(filter.level.map_or(0, LogLevel::code))
        .bind(limit)
        .fetch_all(readers)
        .await
        .map_err(store_error)?;
    rows.iter()
        .map(|row| {
            let mut cols = Cols::of(row);
            Ok(LogRow {
                job_id: job,
                seq: cols.get()?,
                at: cols.time()?,
                attempt: cols.int()?,
                fence: Fence(cols.get()?),
                level: cols.code(LogLevel::from_code)?,
                message: cols.get()?,
                fields: cols.get::<Option<String>>()?.map(RawJson::trusted),
            })
        })
        .collect()
}
