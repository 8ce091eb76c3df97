//! Dead letters: lists, groups, and fingerprints of those that were written before there were any.

use std::collections::HashMap;

use async_trait::async_trait;
use sqlx::{
    Sqlite, SqliteConnection,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::{
    SqliteStore,
    error::{store_error, unreadable},
    parts::{self, Stored},
    readers::snapshot,
    rows::{Cols, Rows, ids},
    writer::now,
};
use crate::{
    domain::{AttemptRow, JobId, JobView, fingerprint},
    store::{
        StoreError,
        dead_letters::{
            DeadLetters, GROUP_NAMES_MAX, GroupCursor, LETTER_ATTEMPTS_MAX, LetterCursor, LetterFilter,
            LetterGroup, LetterKey, LetterRow,
        },
        read::DeadLetter,
    },
};

/// What a filter asks of a letter `d`; all of it is in both indexes.
macro_rules! fits {
    () => {
        "(?1 is null or d.queue = ?1) and (?2 is null or d.error_type = ?2)
      and (?3 is null or d.kind = ?3) and (?4 is null or d.tenant = ?4)
      and (?5 is null or d.fingerprint = ?5) and (?6 is null or d.failed_at >= ?6)
      and (?7 is null or d.failed_at < ?7)"
    };
}

const PAGE: &str = concat!(
    "
    select d.job_id, d.failed_at, d.queue, d.kind
    from dead_letter d indexed by dead_letter_newest
    where (d.failed_at, d.job_id) < (?8, ?9) and ",
    fits!(),
    "
    order by d.failed_at desc, d.job_id desc limit ?10"
);

const PAGE_OF: &str = "
    select d.job_id, d.failed_at, d.queue, d.kind
    from jsonb_each(?1) e join dead_letter d on d.job_id = unhex(e.value)
    order by d.failed_at desc, d.job_id desc";

const SIZES: &str = "
    select job.id, octet_length(job.payload) from jsonb_each(?1) e join job on job.id = unhex(e.value)";

const LETTERS: &str = "
    select d.job_id, d.queue, d.worker, d.error_type, d.error_message, d.stack_trace, d.failed_at, d.attempt,
           d.replay_count, d.last_replayed_at, d.fingerprint
    from jsonb_each(?1) e join dead_letter d on d.job_id = unhex(e.value)
    order by e.key";

/// One pass over the index, in its order.
const GROUPS: &str = concat!(
    "
    with part as materialized (
        select d.fingerprint, d.kind, d.queue, count(*) as n, min(d.failed_at) as first,
               max(d.failed_at) as last, max(d.error_type) as error_type
        from dead_letter d indexed by dead_letter_group
        where d.failed_at <= ?8 and ",
    fits!(),
    "
        group by d.fingerprint, d.kind, d.queue
    ), page as materialized (
        select fingerprint, max(error_type) as error_type, sum(n) as n, min(first) as first, max(last) as last,
               json_group_array(distinct kind) as kinds, json_group_array(distinct queue) as queues
        from part
        group by fingerprint
        having ?9 is null or (max(last), fingerprint) < (?9, ?10)
        order by max(last) desc, fingerprint desc limit ?11
    )
    select p.fingerprint, p.error_type, p.n, p.first, p.last, p.kinds, p.queues,
           (select d.job_id from dead_letter d indexed by dead_letter_newest
            where d.failed_at = p.last and d.fingerprint = p.fingerprint and ",
    fits!(),
    "
            order by d.job_id desc limit 1)
    from page p
    order by p.last desc, p.fingerprint desc"
);

const MESSAGE: &str = "select error_message from dead_letter where job_id = ?1";

const ATTEMPTS: &str = "
    select job_id, attempt, fence, worker, status, error_type, error_message, stack_trace, started_at,
           finished_at
    from attempt where job_id = ?1 order by fence desc limit ?2";

const MISSING: &str = "
    select job_id, error_type, error_message from dead_letter indexed by dead_letter_group
    where fingerprint = '' limit ?1";

const FILL: &str = "
    update dead_letter set fingerprint = e.value ->> 1
    from jsonb_each(?1) e where dead_letter.job_id = unhex(e.value ->> 0)";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("letters page", PAGE),
    ("letters page of", PAGE_OF),
    ("letters sizes", SIZES),
    ("letters", LETTERS),
    ("letters groups", GROUPS),
    ("letters message", MESSAGE),
    ("letters attempts", ATTEMPTS),
    ("letters missing", MISSING),
    ("letters fill", FILL),
];

/// Letters that get their fingerprints in one round of upkeep: it must not hold up the batches.
const FILL_MAX: i64 = 5_000;

type Asked<'q> = Query<'q, Sqlite, SqliteArguments>;

/// A statement with the arguments of [`fits`].
fn asked<'q>(sql: &'static str, filter: &'q LetterFilter) -> Asked<'q> {
    sqlx::query(sql)
        .bind(filter.queue.as_deref())
        .bind(filter.error_type.as_deref())
        .bind(filter.kind.as_deref())
        .bind(filter.tenant.as_deref())
        .bind(filter.fingerprint.as_deref())
        .bind(filter.failed_after.map(|at| at.0))
        .bind(filter.failed_before.map(|at| at.0))
}

/// The letters of a page, without the rows that hold their errors.
async fn page(
    conn: &mut SqliteConnection,
    filter: &LetterFilter,
    cursor: LetterCursor,
    limit: i64,
) -> Result<Vec<LetterKey>, StoreError> {
    let query = asked(PAGE, filter).bind(cursor.failed_at.0).bind(cursor.job.0).bind(limit);
    query.fetch_all(conn).await.map_err(store_error)?.iter().map(key).collect()
}

fn key(row: &SqliteRow) -> Result<LetterKey, StoreError> {
    let mut cols = Cols::of(row);
    let (job, failed_at) = (cols.job()?, cols.time()?);
    let place = LetterCursor { failed_at, job };
    Ok(LetterKey { place, queue: cols.get()?, kind: cols.get()?, payload_bytes: 0 })
}

/// Adds how large the payloads are.
async fn sized(conn: &mut SqliteConnection, mut keys: Vec<LetterKey>) -> Result<Vec<LetterKey>, StoreError> {
    let asked = ids(keys.iter().map(|key| key.place.job));
    let mut sizes: HashMap<JobId, i64> = HashMap::with_capacity(keys.len());
    for row in &sqlx::query(SIZES).bind(asked).fetch_all(conn).await.map_err(store_error)? {
        let mut cols = Cols::of(row);
        sizes.insert(cols.job()?, cols.get()?);
    }
    for key in &mut keys {
        key.payload_bytes = sizes.get(&key.place.job).copied().unwrap_or(0);
    }
    Ok(keys)
}

/// The letters of jobs, in their order.
pub(super) async fn letters(
    conn: &mut SqliteConnection,
    jobs: String,
) -> Result<Vec<DeadLetter>, StoreError> {
    let rows = sqlx::query(LETTERS).bind(jobs).fetch_all(conn).await.map_err(store_error)?;
    rows.iter()
        .map(|row| {
            let mut cols = Cols::of(row);
            Ok(DeadLetter {
                job_id: cols.job()?,
                queue: cols.get()?,
                worker_id: cols.get()?,
                error_type: cols.get()?,
                error_message: cols.get()?,
                stack_trace: cols.get()?,
                failed_at: cols.time()?,
                last_attempt: cols.int()?,
                replay_count: cols.int()?,
                last_replayed_at: cols.opt_time()?,
                fingerprint: cols.get()?,
            })
        })
        .collect()
}

/// The newest attempts of a job, oldest first, but for the one that its outcome packs.
async fn attempts(conn: &mut SqliteConnection, job: JobId) -> Result<Vec<AttemptRow>, StoreError> {
    let query = sqlx::query(ATTEMPTS).bind(job.0).bind(LETTER_ATTEMPTS_MAX - 1);
    let rows = query.fetch_all(conn).await.map_err(store_error)?;
    rows.iter().rev().map(parts::attempt_row).collect()
}

fn names(json: &str) -> Result<Vec<String>, StoreError> {
    let mut names: Vec<String> = serde_json::from_str(json).map_err(|_| unreadable("names"))?;
    names.sort_unstable();
    names.truncate(GROUP_NAMES_MAX);
    Ok(names)
}

fn group(row: &SqliteRow) -> Result<LetterGroup, StoreError> {
    let mut cols = Cols::of(row);
    Ok(LetterGroup {
        fingerprint: cols.get()?,
        error_type: cols.get()?,
        message: String::new(),
        count: cols.get()?,
        first_seen: cols.time()?,
        last_seen: cols.time()?,
        types: names(cols.get()?)?,
        queues: names(cols.get()?)?,
        sample_job_id: cols.job()?,
    })
}

#[async_trait]
impl DeadLetters for SqliteStore {
    async fn dead_letters(
        &self,
        filter: &LetterFilter,
        cursor: LetterCursor,
        limit: i64,
    ) -> Result<Vec<LetterRow>, StoreError> {
        let mut tx = snapshot(&self.readers).await?;
        let keys = page(&mut tx, filter, cursor, limit).await?;
        let asked = || ids(keys.iter().map(|key| key.place.job));
        let letters = letters(&mut tx, asked()).await?;
        let loaded = parts::load(&mut tx, asked()).await?;
        let mut jobs: HashMap<JobId, Stored> =
            loaded.into_iter().map(|stored| (stored.parts.job.id, stored)).collect();
        let mut rows = Vec::with_capacity(letters.len());
        for letter in letters {
            let Some(stored) = jobs.remove(&letter.job_id) else { continue };
            let attempts = stored.parts.attempts(attempts(&mut tx, letter.job_id).await?);
            rows.push(LetterRow { letter, job: stored.parts.view(now()), attempts });
        }
        Ok(rows)
    }

    async fn dead_letter_keys(
        &self,
        filter: &LetterFilter,
        cursor: LetterCursor,
        limit: i64,
    ) -> Result<Vec<LetterKey>, StoreError> {
        let mut tx = snapshot(&self.readers).await?;
        let keys = page(&mut tx, filter, cursor, limit).await?;
        sized(&mut tx, keys).await
    }

    async fn dead_letter_keys_of(&self, jobs: &[JobId]) -> Result<Vec<LetterKey>, StoreError> {
        let mut tx = snapshot(&self.readers).await?;
        let query = sqlx::query(PAGE_OF).bind(ids(jobs.iter().copied()));
        let rows = query.fetch_all(&mut *tx).await.map_err(store_error)?;
        let keys = rows.iter().map(key).collect::<Result<Vec<_>, _>>()?;
        sized(&mut tx, keys).await
    }

    async fn dead_letter_groups(
        &self,
        filter: &LetterFilter,
        cursor: &GroupCursor,
        limit: i64,
    ) -> Result<Vec<LetterGroup>, StoreError> {
        let mut tx = snapshot(&self.readers).await?;
        let rows = asked(GROUPS, filter)
            .bind(cursor.as_of.0)
            .bind(cursor.after.as_ref().map(|(last, _)| last.0))
            .bind(cursor.after.as_ref().map(|(_, fingerprint)| fingerprint.as_str()))
            .bind(limit)
            .fetch_all(&mut *tx)
            .await
            .map_err(store_error)?;
        let mut groups = rows.iter().map(group).collect::<Result<Vec<_>, _>>()?;
        for group in &mut groups {
            let query = sqlx::query_scalar(MESSAGE).bind(group.sample_job_id.0);
            let message: Option<String> = query.fetch_optional(&mut *tx).await.map_err(store_error)?;
            group.message = message.unwrap_or_default();
        }
        Ok(groups)
    }

    async fn jobs_by_id(&self, jobs: &[JobId]) -> Result<Vec<JobView>, StoreError> {
        let mut tx = snapshot(&self.readers).await?;
        let stored = parts::load(&mut tx, ids(jobs.iter().copied())).await?;
        Ok(stored.iter().map(|stored| stored.parts.view(now())).collect())
    }
}

/// Makes fingerprints that are missing.
pub(super) async fn fill_fingerprints(conn: &mut SqliteConnection) -> Result<(), StoreError> {
    let mut filled = Rows::default();
    for row in &sqlx::query(MISSING).bind(FILL_MAX).fetch_all(&mut *conn).await.map_err(store_error)? {
        let mut cols = Cols::of(row);
        let job = cols.job()?;
        filled.row().id(job).text(&fingerprint(cols.get()?, cols.get()?));
    }
    if filled.len() > 0 {
        sqlx::query(FILL).bind(filled.finish()).execute(conn).await.map_err(store_error)?;
    }
    Ok(())
}
