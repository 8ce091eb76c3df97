//! Dead letters: lists and groups.

use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::{
    Postgres,
    postgres::{PgArguments, PgRow},
    query::Query,
};
use uuid::Uuid;

use super::{
    super::{PostgresStore, error::store_error, rows::Columns},
    Snapshot, done, parts, snapshot,
};
use crate::{
    domain::{AttemptRow, JobId, JobView, Timestamp},
    store::{
        StoreError,
        assemble::JobParts,
        dead_letters::{
            DeadLetters, GROUP_NAMES_MAX, GroupCursor, LETTER_ATTEMPTS_MAX, LetterCursor, LetterFilter,
            LetterGroup, LetterKey, LetterRow,
        },
        read::DeadLetter,
    },
};

/// What a filter asks of a letter `d`.
macro_rules! fits {
    () => {
        "($1::text is null or d.queue = $1) and ($2::text is null or d.error_type = $2)
  and ($3::text is null or d.kind = $3) and ($4::text is null or d.tenant = $4)
  and ($5::text is null or d.fingerprint = $5) and ($6::timestamptz is null or d.failed_at >= $6)
  and ($7::timestamptz is null or d.failed_at < $7)"
    };
}

const LIST: &str = concat!(
    "select d.job_id, d.failed_at, d.queue, d.replay_count, d.last_replayed_at, d.fingerprint
from dead_letter d
where (d.failed_at, d.job_id) < ($8, $9) and ",
    fits!(),
    "
order by d.failed_at desc, d.job_id desc
limit $10"
);

const KEYS: &str = concat!(
    "select d.job_id, d.failed_at, d.queue, d.kind, octet_length(j.payload::text)::bigint
from (
    select d.job_id, d.failed_at, d.queue, d.kind
    from dead_letter d
    where (d.failed_at, d.job_id) < ($8, $9) and ",
    fits!(),
    "
    order by d.failed_at desc, d.job_id desc
    limit $10
) d
join job j on j.id = any(array[d.job_id])
order by d.failed_at desc, d.job_id desc"
);

const KEYS_OF: &str = "select d.job_id, d.failed_at, d.queue, d.kind, octet_length(j.payload::text)::bigint
from dead_letter d
join job j on j.id = any(array[d.job_id])
where d.job_id = any($1)
order by d.failed_at desc, d.job_id desc";

/// One pass over the letters, which are small rows: there is no table of groups, whose rows the lanes would
/// wait for one another at. The newest letter of each group of the page lends its text.
const GROUPS: &str = concat!(
    "with part as (
    select d.fingerprint, d.kind, d.queue, count(*) as n, min(d.failed_at) as first, max(d.failed_at) as last,
           max(d.error_type) as error_type
    from dead_letter d
    where d.failed_at <= $8 and ",
    fits!(),
    "
    group by d.fingerprint, d.kind, d.queue
), grouped as (
    select fingerprint, max(error_type) as error_type, sum(n)::bigint as n, min(first) as first, max(last) as last,
           (array_agg(distinct kind order by kind))[1:$12] as kinds,
           (array_agg(distinct queue order by queue))[1:$12] as queues
    from part
    group by fingerprint
), page as (
    select * from grouped g
    where $9::timestamptz is null or (g.last, g.fingerprint) < ($9, $10)
    order by g.last desc, g.fingerprint desc
    limit $11
)
select p.fingerprint, p.error_type, coalesce(o.error_message, ''), p.n, p.first, p.last, p.kinds, p.queues, s.job_id
from page p
cross join lateral (
    select d.job_id from dead_letter d
    where d.fingerprint = p.fingerprint and d.failed_at = p.last and ",
    fits!(),
    "
    order by d.job_id desc
    limit 1
) s
left join outcome o on o.job_id = any(array[s.job_id])
order by p.last desc, p.fingerprint desc"
);

const ATTEMPTS: &str =
    "select w.id, a.fence, a.started_at, a.finished_at, a.attempt, a.status, a.worker, a.error_type,
       a.error_message, a.stack_trace
from unnest($1::uuid[]) as w (id)
cross join lateral (select * from attempt a where a.job_id = w.id order by a.fence desc limit $2) a
order by w.id, a.fence";

pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("dead letters list", LIST),
    ("dead letters keys", KEYS),
    ("dead letters keys of", KEYS_OF),
    ("dead letters groups", GROUPS),
    ("dead letters attempts", ATTEMPTS),
];

type Asked<'q> = Query<'q, Postgres, PgArguments>;

/// A statement with the arguments of [`fits`].
fn asked<'q>(sql: &'static str, filter: &'q LetterFilter) -> Asked<'q> {
    sqlx::query(sql)
        .bind(filter.queue.as_deref())
        .bind(filter.error_type.as_deref())
        .bind(filter.kind.as_deref())
        .bind(filter.tenant.as_deref())
        .bind(filter.fingerprint.as_deref())
        .bind(filter.failed_after.map(Timestamp::to_datetime))
        .bind(filter.failed_before.map(Timestamp::to_datetime))
}

fn page(query: Asked<'_>, cursor: LetterCursor, limit: i64) -> Asked<'_> {
    query.bind(cursor.failed_at.to_datetime()).bind(cursor.job.0).bind(limit)
}

fn key(row: &PgRow) -> Result<LetterKey, StoreError> {
    let mut columns = Columns::of(row);
    let (job, failed_at) = (columns.job()?, columns.time()?);
    let place = LetterCursor { failed_at, job };
    Ok(LetterKey { place, queue: columns.next()?, kind: columns.next()?, payload_bytes: columns.next()? })
}

/// A letter from its row; its error is the outcome's.
pub(super) fn letter(row: &PgRow, parts: &JobParts) -> Result<Option<DeadLetter>, StoreError> {
    let mut columns = Columns::of(row);
    let (job_id, failed_at) = (columns.job()?, columns.time()?);
    let Some(outcome) = &parts.outcome else { return Ok(None) };
    Ok(Some(DeadLetter {
        job_id,
        queue: columns.next()?,
        worker_id: outcome.worker.clone().unwrap_or_default(),
        error_type: outcome.error_type.clone().unwrap_or_default(),
        error_message: outcome.error_message.clone().unwrap_or_default(),
        stack_trace: outcome.stack_trace.clone(),
        failed_at,
        last_attempt: outcome.attempt,
        replay_count: columns.next()?,
        last_replayed_at: columns.time_or_none()?,
        fingerprint: columns.next()?,
    }))
}

/// The newest attempts of jobs, but for those that their outcomes pack.
async fn attempts(
    snapshot: &mut Snapshot,
    jobs: &[Uuid],
) -> Result<HashMap<JobId, Vec<AttemptRow>>, StoreError> {
    let rows = sqlx::query(ATTEMPTS)
        .bind(jobs)
        .bind(LETTER_ATTEMPTS_MAX - 1)
        .fetch_all(snapshot)
        .await
        .map_err(store_error)?;
    let mut attempts: HashMap<JobId, Vec<AttemptRow>> = HashMap::new();
    for row in &rows {
        let mut columns = Columns::of(row);
        let job = columns.job()?;
        attempts.entry(job).or_default().push(parts::attempt(job, &mut columns)?);
    }
    Ok(attempts)
}

#[async_trait]
impl DeadLetters for PostgresStore {
    async fn dead_letters(
        &self,
        filter: &LetterFilter,
        cursor: LetterCursor,
        limit: i64,
    ) -> Result<Vec<LetterRow>, StoreError> {
        let mut snapshot = snapshot(self).await?;
        let rows =
            page(asked(LIST, filter), cursor, limit).fetch_all(&mut *snapshot).await.map_err(store_error)?;
        let ids = rows.iter().map(|row| Columns::of(row).next()).collect::<Result<Vec<Uuid>, _>>()?;
        let mut jobs: HashMap<JobId, (Timestamp, JobParts)> = HashMap::with_capacity(ids.len());
        for (now, parts) in parts::load(&mut snapshot, &ids).await? {
            jobs.insert(parts.job.id, (now, parts));
        }
        let mut attempts = attempts(&mut snapshot, &ids).await?;
        done(snapshot).await?;
        let mut letters = Vec::with_capacity(rows.len());
        for (row, id) in rows.iter().zip(ids) {
            let Some((now, parts)) = jobs.remove(&JobId(id)) else { continue };
            let Some(letter) = letter(row, &parts)? else { continue };
            let written = attempts.remove(&JobId(id)).unwrap_or_default();
            letters.push(LetterRow { letter, job: parts.view(now), attempts: parts.attempts(written) });
        }
        Ok(letters)
    }

    async fn dead_letter_keys(
        &self,
        filter: &LetterFilter,
        cursor: LetterCursor,
        limit: i64,
    ) -> Result<Vec<LetterKey>, StoreError> {
        let query = page(asked(KEYS, filter), cursor, limit);
        query.fetch_all(&self.readers).await.map_err(store_error)?.iter().map(key).collect()
    }

    async fn dead_letter_keys_of(&self, jobs: &[JobId]) -> Result<Vec<LetterKey>, StoreError> {
        let ids: Vec<Uuid> = jobs.iter().map(|job| job.0).collect();
        let query = sqlx::query(KEYS_OF).bind(ids);
        query.fetch_all(&self.readers).await.map_err(store_error)?.iter().map(key).collect()
    }

    async fn dead_letter_groups(
        &self,
        filter: &LetterFilter,
        cursor: &GroupCursor,
        limit: i64,
    ) -> Result<Vec<LetterGroup>, StoreError> {
        let rows = asked(GROUPS, filter)
            .bind(cursor.as_of.to_datetime())
            .bind(cursor.after.as_ref().map(|(last, _)| last.to_datetime()))
            .bind(cursor.after.as_ref().map(|(_, fingerprint)| fingerprint.as_str()))
            .bind(limit)
            .bind(i32::try_from(GROUP_NAMES_MAX).unwrap_or(i32::MAX))
            .fetch_all(&self.readers)
            .await
            .map_err(store_error)?;
        rows.iter()
            .map(|row| {
                let mut columns = Columns::of(row);
                Ok(LetterGroup {
                    fingerprint: columns.next()?,
                    error_type: columns.next()?,
                    message: columns.next()?,
                    count: columns.next()?,
                    first_seen: columns.time()?,
                    last_seen: columns.time()?,
                    types: columns.next()?,
                    queues: columns.next()?,
                    sample_job_id: columns.job()?,
                })
            })
            .collect()
    }

    async fn jobs_by_id(&self, ids: &[JobId]) -> Result<Vec<JobView>, StoreError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let mut connection = self.readers.acquire().await.map_err(store_error)?;
        let found = parts::load(&mut connection, &ids).await?;
        Ok(found.into_iter().map(|(now, parts)| parts.view(now)).collect())
    }
}
