//! Idempotency keys: which job of a batch makes a key its own, and which repeats an earlier one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    super::{error::store_error, rows::Columns},
    batch::{Batch, Placed},
    effects::Event,
    held,
};
use crate::{
    domain::{EventKind, JobId, JobState, NewJob, Timestamp},
    store::{StoreError, ops::SubmitOp},
};

/// The jobs that keys name, without a lock.
const HOLDERS: &str = "select i.job_id
from unnest($1::text[], $2::text[]) as u (tenant, key)
join idempotency i on i.tenant = u.tenant and i.key = u.key";

/// Takes keys that are free or no longer hold, in the keys' order.
const TAKE: &str = "insert into idempotency as i (tenant, key, job_id, fingerprint, expires_at)
select u.tenant, u.key, u.job_id, u.fingerprint, u.expires_at
from unnest($1::text[], $2::text[], $3::uuid[], $4::bytea[], $5::timestamptz[])
  as u (tenant, key, job_id, fingerprint, expires_at)
on conflict (tenant, key) do update
   set job_id = excluded.job_id, fingerprint = excluded.fingerprint, expires_at = excluded.expires_at
 where i.expires_at <= $6 and i.job_id <> excluded.job_id
   and not exists (select from job_live l where l.id = i.job_id)
returning tenant, key";

/// What the keys that were not taken name.
const TAKEN: &str = "select i.tenant, i.key, i.job_id, i.fingerprint
from unnest($1::text[], $2::text[]) as u (tenant, key)
join idempotency i on i.tenant = u.tenant and i.key = u.key";

/// Gives keys back whose jobs are not made after all.
const GIVE_BACK: &str = "delete from idempotency where job_id = any($1)";

/// The newest rows of finished jobs' timelines; locks their outcomes, so that two repeats follow one
/// another.
const FINISHED: &str = "select o.job_id, o.state,
       greatest(o.event_seq, (select max(e.seq) from event e where e.job_id = o.job_id))
from outcome o
where o.job_id = any($1)
order by o.job_id";

/// With the time behind the locks, as where live rows are locked.
const LOCK_FINISHED: &str = "with locked as materialized (
    select job_id from outcome where job_id = any($1) order by job_id for update
)
select clock_timestamp() from (select count(*) from locked) n";

pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("keys holders", HOLDERS),
    ("keys take", TAKE),
    ("keys taken", TAKEN),
    ("keys give back", GIVE_BACK),
    ("keys finished", FINISHED),
    ("keys lock finished", LOCK_FINISHED),
];

type Key<'a> = (&'a str, &'a str);

/// Who a key belongs to.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    pub(super) job: JobId,
    pub(super) fingerprint: Vec<u8>,
}

/// The keys of a batch.
#[derive(Debug, Default)]
pub(super) struct Keys<'a> {
    /// The first job with each key.
    first: BTreeMap<Key<'a>, &'a NewJob>,
    pub(super) holders: HashMap<Key<'a>, Holder>,
    /// Keys of jobs that were refused after the key was theirs.
    given_back: Vec<Uuid>,
    /// Keys that became another job's of this batch because the first was refused.
    late: BTreeMap<Key<'a>, &'a NewJob>,
}

/// What a job's key says of it.
pub(super) enum Said {
    /// It is the one that the key names, or it has no key.
    New,
    Repeats(JobId),
    Mismatch(JobId),
}

impl<'a> Keys<'a> {
    pub(super) fn of(submits: &Placed<'a, SubmitOp>) -> Self {
        let mut keys = Self::default();
        for job in submits.iter().flat_map(|(_, op)| &op.jobs) {
            if let Some(key) = &job.idempotency {
                keys.first.entry((&job.tenant, &key.key)).or_insert(job);
            }
        }
        keys
    }

    /// Takes what can be taken, and learns who has the rest.
    pub(super) async fn take(&mut self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        if self.first.is_empty() {
            return Ok(());
        }
        let taken: BTreeSet<(String, String)> = insert(batch, &self.first).await?;
        let mut lost: Vec<Key<'a>> = Vec::new();
        for (key, job) in &self.first {
            match &job.idempotency {
                Some(own) if taken.contains(&(key.0.to_owned(), key.1.to_owned())) => {
                    self.holders.insert(*key, Holder { job: job.id, fingerprint: own.fingerprint.to_vec() });
                }
                _ => lost.push(*key),
            }
        }
        if lost.is_empty() {
            return Ok(());
        }
        let rows = sqlx::query(TAKEN)
            .bind(lost.iter().map(|key| key.0).collect::<Vec<&str>>())
            .bind(lost.iter().map(|key| key.1).collect::<Vec<&str>>())
            .fetch_all(&mut *batch.connection)
            .await
            .map_err(store_error)?;
        let mut stored = HashMap::new();
        for row in &rows {
            let mut columns = Columns::of(row);
            let key: (String, String) = (columns.next()?, columns.next()?);
            stored.insert(key, Holder { job: columns.job()?, fingerprint: columns.next()? });
        }
        for key in lost {
            // A key that upkeep removed between the two statements: the batch is repeated.
            let holder = stored
                .remove(&(key.0.to_owned(), key.1.to_owned()))
                .ok_or_else(|| StoreError::Conflict("an idempotency key expired meanwhile".into()))?;
            self.holders.insert(key, holder);
        }
        Ok(())
    }

    /// What the job's key says; a free key becomes the job's.
    pub(super) fn ask(&mut self, job: &'a NewJob) -> Said {
        let Some(own) = &job.idempotency else { return Said::New };
        let key: Key<'a> = (&job.tenant, &own.key);
        match self.holders.get(&key) {
            Some(holder) if holder.job == job.id => Said::New,
            Some(holder) if holder.fingerprint == own.fingerprint => Said::Repeats(holder.job),
            Some(holder) => Said::Mismatch(holder.job),
            None => {
                self.late.insert(key, job);
                self.holders.insert(key, Holder { job: job.id, fingerprint: own.fingerprint.to_vec() });
                Said::New
            }
        }
    }

    /// Frees the keys that a refused operation's jobs had got.
    pub(super) fn refuse(&mut self, op: &'a SubmitOp) {
        for job in &op.jobs {
            self.give_up(job);
        }
    }

    /// Frees the key that a job had got, which is not made after all.
    pub(super) fn give_up(&mut self, job: &'a NewJob) {
        let Some(own) = &job.idempotency else { return };
        let key: Key<'a> = (&job.tenant, &own.key);
        if self.holders.get(&key).is_some_and(|holder| holder.job == job.id) {
            self.holders.remove(&key);
            if self.late.remove(&key).is_none() {
                self.given_back.push(job.id.0);
            }
        }
    }

    /// Writes what `refuse` and `ask` changed.
    pub(super) async fn settle(&self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        if !self.given_back.is_empty() {
            sqlx::query(GIVE_BACK)
                .bind(&self.given_back)
                .execute(&mut *batch.connection)
                .await
                .map_err(store_error)?;
        }
        if !self.late.is_empty() {
            insert(batch, &self.late).await?;
        }
        Ok(())
    }
}

/// The jobs that the batch's keys name now: their rows are locked with the others'.
pub(super) async fn holders(batch: &mut Batch<'_>, keys: &Keys<'_>) -> Result<Vec<Uuid>, StoreError> {
    if keys.first.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_scalar(HOLDERS)
        .bind(keys.first.keys().map(|key| key.0).collect::<Vec<&str>>())
        .bind(keys.first.keys().map(|key| key.1).collect::<Vec<&str>>())
        .fetch_all(&mut *batch.connection)
        .await
        .map_err(store_error)
}

async fn insert(
    batch: &mut Batch<'_>,
    keys: &BTreeMap<Key<'_>, &NewJob>,
) -> Result<BTreeSet<(String, String)>, StoreError> {
    let owned = || keys.values().filter_map(|job| job.idempotency.as_ref());
    let expires = |seconds: u32| batch.now.plus_millis(i64::from(seconds) * 1_000).to_datetime();
    let rows = sqlx::query(TAKE)
        .bind(keys.keys().map(|key| key.0).collect::<Vec<&str>>())
        .bind(keys.keys().map(|key| key.1).collect::<Vec<&str>>())
        .bind(keys.values().map(|job| job.id.0).collect::<Vec<Uuid>>())
        .bind(owned().map(|key| key.fingerprint.as_slice()).collect::<Vec<&[u8]>>())
        .bind(owned().map(|key| expires(key.window_seconds)).collect::<Vec<DateTime<Utc>>>())
        .bind(batch.now.to_datetime())
        .fetch_all(&mut *batch.connection)
        .await
        .map_err(store_error)?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            Ok((columns.next()?, columns.next()?))
        })
        .collect()
}

/// Writes a timeline row on each first job for each repeat that was answered with it.
pub(super) async fn record_repeats(batch: &mut Batch<'_>, repeats: &[JobId]) -> Result<(), StoreError> {
    if repeats.is_empty() {
        return Ok(());
    }
    let mut counts: BTreeMap<JobId, i64> = BTreeMap::new();
    for job in repeats {
        *counts.entry(*job).or_default() += 1;
    }
    let ids: BTreeSet<Uuid> = counts.keys().map(|job| job.0).collect();
    held::lock(batch, &ids, false).await?;
    let mut live = held::load(batch, ids.iter().copied().collect()).await?;
    let finished = finished(batch, ids.iter().filter(|id| !live.contains_key(&JobId(**id)))).await?;
    let now = batch.now;
    for (job, count) in counts {
        for _ in 0..count {
            if let Some(row) = live.get_mut(&job) {
                match &mut row.lease {
                    Some(lease) => {
                        lease.event_seq += 1;
                        let row = repeat(job, lease.event_seq, JobState::Active, now);
                        batch.effects.event(row);
                    }
                    None => {
                        row.materialise(now, &mut batch.effects);
                        let state = row.state;
                        row.event(EventKind::DuplicateSuppressed, state, now, None, None, &mut batch.effects);
                    }
                }
            }
        }
        if let Some((state, seq)) = finished.get(&job) {
            for n in 1..=count {
                batch.effects.event(repeat(job, seq + n, *state, now));
            }
        }
    }
    held::save(batch, live.values().filter(|row| row.lease.is_none())).await?;
    held::save_leases(batch, live.values()).await
}

fn repeat(job: JobId, seq: i64, state: JobState, at: Timestamp) -> Event {
    Event { job, seq, at, kind: EventKind::DuplicateSuppressed, state, who: None, metadata: None }
}

/// How finished jobs ended, with the newest `seq` of each timeline; their outcomes stay locked, and the batch happens
/// behind that.
pub(super) async fn finished(
    batch: &mut Batch<'_>,
    jobs: impl Iterator<Item = &Uuid>,
) -> Result<BTreeMap<JobId, (JobState, i64)>, StoreError> {
    let jobs: Vec<Uuid> = jobs.copied().collect();
    if jobs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let locked = sqlx::query_scalar::<_, DateTime<Utc>>(LOCK_FINISHED).bind(&jobs);
    let now = locked.fetch_one(&mut *batch.connection).await.map_err(store_error)?;
    batch.now = batch.now.max(now.into());
    let rows =
        sqlx::query(FINISHED).bind(&jobs).fetch_all(&mut *batch.connection).await.map_err(store_error)?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            let job = columns.job()?;
            Ok((job, (columns.state()?, columns.next()?)))
        })
        .collect()
}
