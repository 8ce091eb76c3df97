//! Unique keys: which jobs of a batch may be made, because no other has their key.
//!
//! Rows are inserted, or locked, in the order of the keys; what becomes of their jobs is read in a statement behind
//! the locks, so that of two batches with one key the second sees the first's job.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    super::{error::store_error, rows::Columns},
    batch::{Batch, Placed},
};
use crate::{
    domain::{JobId, NewJob, Timestamp, UniqueKey},
    store::{StoreError, ops::SubmitOp},
};

/// The jobs that have the keys, without a lock.
const HOLDERS: &str = "select job_id from unique_key where key = any($1)";

const TAKE: &str = "insert into unique_key (key, job_id, expires_at, states)
select u.key, u.job_id, u.expires_at, u.states
from unnest($1::bytea[], $2::uuid[], $3::timestamptz[], $4::smallint[]) as u (key, job_id, expires_at, states)
order by u.key
on conflict (key) do nothing
returning key";

const LOCK: &str = "select from unique_key where key = any($1) order by key for update";

/// Whose the keys are, and in which state they are shown.
const TAKEN: &str = "select k.key, k.job_id, k.expires_at, k.states,
       case when e.job_id is not null then 5::smallint
            when l.state in (1, 2, 4) and l.gate is null and l.run_at <= $2 then 0::smallint
            else coalesce(l.state, o.state) end
from unique_key k
left join job_live l on l.id = any(array[k.job_id])
left join lease e on e.job_id = any(array[k.job_id])
left join outcome o on o.job_id = any(array[k.job_id])
where k.key = any($1)";

const PASS_ON: &str = "update unique_key k
   set job_id = u.job_id, expires_at = u.expires_at, states = u.states
from unnest($1::bytea[], $2::uuid[], $3::timestamptz[], $4::smallint[]) as u (key, job_id, expires_at, states)
where k.key = u.key";

const GIVE_BACK: &str = "delete from unique_key where key = any($1)";

pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("unique holders", HOLDERS),
    ("unique take", TAKE),
    ("unique lock", LOCK),
    ("unique taken", TAKEN),
    ("unique pass on", PASS_ON),
    ("unique give back", GIVE_BACK),
];

type Key = [u8; 32];

/// The unique keys of a batch.
#[derive(Debug, Default)]
pub(super) struct Uniques<'a> {
    /// The first job with each key.
    first: BTreeMap<Key, &'a NewJob>,
    /// Which job each row names by now.
    rows: HashMap<Key, JobId>,
    /// Rows that this batch has inserted.
    inserted: BTreeSet<Key>,
    /// Who has each key that is not free.
    held: HashMap<Key, JobId>,
    /// Jobs of this batch that got a key.
    claims: BTreeMap<Key, &'a NewJob>,
}

impl<'a> Uniques<'a> {
    pub(super) fn of(submits: &Placed<'a, SubmitOp>) -> Self {
        let mut uniques = Self::default();
        for job in submits.iter().flat_map(|(_, op)| &op.jobs) {
            if let Some(unique) = &job.unique {
                uniques.first.entry(unique.hash).or_insert(job);
            }
        }
        uniques
    }

    /// The jobs that have the keys now: their rows are locked with the others'.
    pub(super) async fn holders(&self, batch: &mut Batch<'_>) -> Result<Vec<Uuid>, StoreError> {
        if self.first.is_empty() {
            return Ok(Vec::new());
        }
        sqlx::query_scalar(HOLDERS)
            .bind(self.first.keys().map(Key::as_slice).collect::<Vec<&[u8]>>())
            .fetch_all(&mut *batch.connection)
            .await
            .map_err(store_error)
    }

    /// Makes every key's row this batch's own, and learns which are not free.
    pub(super) async fn take(&mut self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        if self.first.is_empty() {
            return Ok(());
        }
        let made: Vec<Vec<u8>> = written(batch.now, &self.first, TAKE)
            .fetch_all(&mut *batch.connection)
            .await
            .map_err(store_error)?
            .iter()
            .map(|row| Columns::of(row).next())
            .collect::<Result<_, _>>()?;
        self.inserted = made.into_iter().filter_map(|key| key.try_into().ok()).collect();
        self.rows.extend(self.inserted.iter().filter_map(|key| Some((*key, self.first.get(key)?.id))));
        let lost: Vec<&[u8]> =
            self.first.keys().filter(|key| !self.inserted.contains(*key)).map(Key::as_slice).collect();
        if lost.is_empty() {
            return Ok(());
        }
        sqlx::query(LOCK).bind(&lost).execute(&mut *batch.connection).await.map_err(store_error)?;
        let rows = sqlx::query(TAKEN)
            .bind(&lost)
            .bind(batch.now.to_datetime())
            .fetch_all(&mut *batch.connection)
            .await
            .map_err(store_error)?;
        if rows.len() < lost.len() {
            // Upkeep removed one between the two statements: the batch is repeated.
            return Err(StoreError::Conflict("a unique key was freed meanwhile".into()));
        }
        for row in &rows {
            let mut columns = Columns::of(row);
            let Ok(key) = Key::try_from(columns.next::<Vec<u8>>()?) else { continue };
            let (job, until, states) = (columns.job()?, columns.time_or_none()?, columns.next()?);
            self.rows.insert(key, job);
            let is_over = until.is_some_and(|until| until <= batch.now);
            // Without a state it is gone.
            if !is_over && !columns.is_null()? && UniqueKey::is_kept_in(states, columns.state()?) {
                self.held.insert(key, job);
            }
        }
        Ok(())
    }

    /// Who has the job's key; a free one becomes its own.
    pub(super) fn ask(&mut self, job: &'a NewJob) -> Option<JobId> {
        let unique = job.unique.as_ref()?;
        match self.held.get(&unique.hash) {
            Some(holder) => Some(*holder).filter(|holder| *holder != job.id),
            None => {
                self.held.insert(unique.hash, job.id);
                self.claims.insert(unique.hash, job);
                None
            }
        }
    }

    /// Frees the keys that a refused operation's jobs had got.
    pub(super) fn refuse(&mut self, op: &SubmitOp) {
        for job in &op.jobs {
            let Some(unique) = &job.unique else { continue };
            if self.claims.get(&unique.hash).is_some_and(|claim| claim.id == job.id) {
                self.claims.remove(&unique.hash);
                self.held.remove(&unique.hash);
            }
        }
    }

    /// Writes whose the keys are, where that is not what the rows say.
    pub(super) async fn settle(&mut self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        let unused: Vec<&[u8]> =
            self.inserted.iter().filter(|key| !self.claims.contains_key(*key)).map(Key::as_slice).collect();
        if !unused.is_empty() {
            sqlx::query(GIVE_BACK).bind(unused).execute(&mut *batch.connection).await.map_err(store_error)?;
        }
        self.claims.retain(|key, job| self.rows.get(key) != Some(&job.id) || !self.inserted.contains(key));
        if !self.claims.is_empty() {
            written(batch.now, &self.claims, PASS_ON)
                .execute(&mut *batch.connection)
                .await
                .map_err(store_error)?;
        }
        Ok(())
    }
}

/// A statement with rows for these jobs.
fn written<'q>(
    now: Timestamp,
    jobs: &BTreeMap<Key, &NewJob>,
    statement: &'static str,
) -> sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments> {
    let uniques = || jobs.values().filter_map(|job| job.unique.as_ref());
    let until = |unique: &UniqueKey| -> Option<DateTime<Utc>> {
        let period = unique.period_seconds?;
        Some(now.plus_millis(i64::from(period) * 1_000).to_datetime())
    };
    sqlx::query(statement)
        .bind(jobs.keys().map(|key| key.to_vec()).collect::<Vec<Vec<u8>>>())
        .bind(jobs.values().map(|job| job.id.0).collect::<Vec<Uuid>>())
        .bind(uniques().map(until).collect::<Vec<Option<DateTime<Utc>>>>())
        .bind(uniques().map(|unique| unique.states).collect::<Vec<i16>>())
}
