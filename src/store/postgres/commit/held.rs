//! Live rows under their lock: read, changed in memory by the rarer operations, and written back.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    super::{
        error::store_error,
        rows::{Columns, times},
    },
    batch::Batch,
    effects::{Attempt, Effects, Event},
};
use crate::{
    domain::{EventKind, Fence, JobId, JobState, ShardId, Timestamp},
    store::{StoreError, ops::LiveEntry},
};

/// With the time behind the locks: whoever held them may have written later than this batch began, and a timeline
/// must not go back.
const LOCK: &str = "with locked as materialized (
    select id from job_live where id = any($1) order by id for update
)
select clock_timestamp() from (select count(*) from locked) n";
const LOCK_SHARED: &str = "select from job_live where id = any($1) order by id for key share";
const LOCK_LETTERS: &str = "select from dead_letter where job_id = any($1) order by job_id for update";
const LOCK_LETTERS_SHARED: &str =
    "select from dead_letter where job_id = any($1) order by job_id for key share";

/// Reads live rows and their leases. The locks are held already: this snapshot is behind them.
const LOAD: &str = "select l.id, l.shard, l.queue, l.priority, l.run_at, l.state, l.gate, l.attempt,
       l.fence, l.event_seq, l.blocked_on, l.blocked_reason, l.deaths, l.last_error,
       l.last_worker, l.last_started_at, l.execution_ms, l.kind,
       e.fence, e.attempt, e.worker, e.granted_at, e.cancel_requested, e.started_seq, e.event_seq, e.due_at
from job_live l
left join lease e on e.job_id = any(array[l.id])
where l.id = any($1)";

const SAVE: &str = "update job_live l
   set run_at = u.run_at, state = u.state, attempt = u.attempt, fence = u.fence, event_seq = u.event_seq,
       blocked_on = u.blocked_on, blocked_reason = u.blocked_reason, deaths = u.deaths, last_error = u.last_error,
       last_worker = u.last_worker, last_started_at = u.last_started_at, execution_ms = u.execution_ms,
       gate = u.gate, updated_at = $15, expires_at = case when u.fence = 0 then l.expires_at end
from unnest($1::uuid[], $2::timestamptz[], $3::smallint[], $4::integer[], $5::bigint[], $6::bigint[],
            $7::integer[], $8::text[], $9::integer[], $10::text[], $11::text[], $12::timestamptz[], $13::bigint[],
            $14::text[])
  as u (id, run_at, state, attempt, fence, event_seq, blocked_on, blocked_reason, deaths, last_error, last_worker,
        last_started_at, execution_ms, gate)
where l.id = any(array[u.id])";

const SAVE_LEASES: &str = "update lease e
   set event_seq = u.event_seq, cancel_requested = u.cancel_requested
from unnest($1::uuid[], $2::bigint[], $3::boolean[]) as u (id, event_seq, cancel_requested)
where e.job_id = any(array[u.id])";

pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("held lock", LOCK),
    ("held lock shared", LOCK_SHARED),
    ("held lock letters", LOCK_LETTERS),
    ("held lock letters shared", LOCK_LETTERS_SHARED),
    ("held load", LOAD),
    ("held save", SAVE),
    ("held save leases", SAVE_LEASES),
];

/// A live row.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) id: JobId,
    pub(super) shard: ShardId,
    pub(super) queue: String,
    pub(super) priority: i16,
    pub(super) run_at: Timestamp,
    pub(super) state: JobState,
    pub(super) gate: Option<String>,
    pub(super) attempt: i32,
    pub(super) fence: Fence,
    pub(super) event_seq: i64,
    pub(super) blocked_on: i32,
    pub(super) blocked_reason: Option<String>,
    pub(super) deaths: i32,
    pub(super) last_error: Option<String>,
    pub(super) last_worker: Option<String>,
    pub(super) last_started_at: Option<Timestamp>,
    pub(super) execution_ms: i64,
    pub(super) kind: String,
    pub(super) lease: Option<HeldLease>,
}

/// Its lease.
#[derive(Debug, Clone)]
pub(super) struct HeldLease {
    pub(super) fence: Fence,
    pub(super) attempt: i32,
    pub(super) worker: String,
    pub(super) granted_at: Timestamp,
    pub(super) cancel_requested: bool,
    pub(super) started_seq: i64,
    pub(super) event_seq: i64,
    pub(super) due_at: Option<Timestamp>,
}

impl Held {
    fn read(columns: &mut Columns<'_>) -> Result<Self, StoreError> {
        let mut held = Self {
            id: columns.job()?,
            shard: columns.shard()?,
            queue: columns.next()?,
            priority: columns.next()?,
            run_at: columns.time()?,
            state: columns.state()?,
            gate: columns.next()?,
            attempt: columns.next()?,
            fence: columns.fence()?,
            event_seq: columns.next()?,
            blocked_on: columns.next()?,
            blocked_reason: columns.next()?,
            deaths: columns.next()?,
            last_error: columns.next()?,
            last_worker: columns.next()?,
            last_started_at: columns.time_or_none()?,
            execution_ms: columns.next()?,
            kind: columns.next()?,
            lease: None,
        };
        if !columns.is_null()? {
            held.lease = Some(HeldLease {
                fence: columns.fence()?,
                attempt: columns.next()?,
                worker: columns.next()?,
                granted_at: columns.time()?,
                cancel_requested: columns.next()?,
                started_seq: columns.next()?,
                event_seq: columns.next()?,
                due_at: columns.time_or_none()?,
            });
        }
        Ok(held)
    }

    /// As its owner needs to know it.
    pub(super) fn entry(&self) -> LiveEntry {
        LiveEntry {
            job: self.id,
            queue: self.queue.clone(),
            kind: self.kind.clone(),
            state: self.state,
            priority: self.priority,
            run_at: self.run_at,
        }
    }

    /// Writes the row of a deferred job whose time has come, which was only derived so far.
    pub(super) fn materialise(&mut self, now: Timestamp, effects: &mut Effects) {
        if self.lease.is_some() || !self.state.is_deferred() || self.gate.is_some() || self.run_at > now {
            return;
        }
        let at = self.run_at;
        self.event(EventKind::Enqueued, JobState::Queued, at, None, None, effects);
        self.enter(JobState::Queued, effects);
    }

    /// Appends a row to the timeline of a job that is not leased.
    pub(super) fn event(
        &mut self,
        kind: EventKind,
        state: JobState,
        at: Timestamp,
        who: Option<(i32, Fence, String)>,
        metadata: Option<String>,
        effects: &mut Effects,
    ) {
        self.event_seq += 1;
        effects.event(Event { job: self.id, seq: self.event_seq, at, kind, state, who, metadata });
    }

    /// Changes the stored state of a job that is not leased.
    pub(super) fn enter(&mut self, state: JobState, effects: &mut Effects) {
        effects.moved(self.shard, &self.queue, self.state, state);
        self.state = state;
    }

    /// Writes out the rows that the lease stood for.
    pub(super) fn write_out(&self, lease: &HeldLease, effects: &mut Effects) {
        if let Some(at) = lease.due_at {
            effects.event(Event {
                job: self.id,
                seq: lease.started_seq - 1,
                at,
                kind: EventKind::Enqueued,
                state: JobState::Queued,
                who: None,
                metadata: None,
            });
        }
        effects.event(Event {
            job: self.id,
            seq: lease.started_seq,
            at: lease.granted_at,
            kind: EventKind::Started,
            state: JobState::Active,
            who: Some((lease.attempt, lease.fence, lease.worker.clone())),
            metadata: None,
        });
    }

    /// The attempt of a lease that ends now.
    pub(super) fn attempt(&self, lease: &HeldLease, now: Timestamp) -> Attempt {
        Attempt {
            job: self.id,
            fence: lease.fence,
            started_at: lease.granted_at,
            finished_at: now,
            attempt: lease.attempt,
            status: crate::domain::AttemptStatus::Started,
            worker: lease.worker.clone(),
            error: None,
        }
    }
}

/// Locks live rows for a change, and their dead letters with `letters`. The batch happens behind that.
pub(super) async fn lock(
    batch: &mut Batch<'_>,
    jobs: &BTreeSet<Uuid>,
    letters: bool,
) -> Result<(), StoreError> {
    let jobs: Vec<Uuid> = jobs.iter().copied().collect();
    let locked = sqlx::query_scalar::<_, DateTime<Utc>>(LOCK).bind(&jobs);
    let now = locked.fetch_one(&mut *batch.connection).await.map_err(store_error)?;
    batch.now = batch.now.max(now.into());
    if letters {
        sqlx::query(LOCK_LETTERS).bind(&jobs).execute(&mut *batch.connection).await.map_err(store_error)?;
    }
    Ok(())
}

/// Keeps parents from ending until this batch has.
pub(super) async fn lock_shared(batch: &mut Batch<'_>, jobs: &BTreeSet<Uuid>) -> Result<(), StoreError> {
    let jobs: Vec<Uuid> = jobs.iter().copied().collect();
    sqlx::query(LOCK_SHARED).bind(&jobs).execute(&mut *batch.connection).await.map_err(store_error)?;
    sqlx::query(LOCK_LETTERS_SHARED)
        .bind(&jobs)
        .execute(&mut *batch.connection)
        .await
        .map_err(store_error)?;
    Ok(())
}

/// Reads live rows that are locked.
pub(super) async fn load(
    batch: &mut Batch<'_>,
    jobs: Vec<Uuid>,
) -> Result<BTreeMap<JobId, Held>, StoreError> {
    if jobs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = sqlx::query(LOAD).bind(jobs).fetch_all(&mut *batch.connection).await.map_err(store_error)?;
    rows.iter().map(|row| Held::read(&mut Columns::of(row)).map(|held| (held.id, held))).collect()
}

/// Writes live rows back.
pub(super) async fn save<'h>(
    batch: &mut Batch<'_>,
    rows: impl IntoIterator<Item = &'h Held>,
) -> Result<(), StoreError> {
    let rows: Vec<&Held> = rows.into_iter().collect();
    if rows.is_empty() {
        return Ok(());
    }
    let started = rows.iter().map(|row| row.last_started_at.map(Timestamp::to_datetime)).collect::<Vec<_>>();
    sqlx::query(SAVE)
        .bind(rows.iter().map(|row| row.id.0).collect::<Vec<Uuid>>())
        .bind(times(rows.iter().map(|row| row.run_at)))
        .bind(rows.iter().map(|row| row.state.code()).collect::<Vec<i16>>())
        .bind(rows.iter().map(|row| row.attempt).collect::<Vec<i32>>())
        .bind(rows.iter().map(|row| row.fence.0).collect::<Vec<i64>>())
        .bind(rows.iter().map(|row| row.event_seq).collect::<Vec<i64>>())
        .bind(rows.iter().map(|row| row.blocked_on).collect::<Vec<i32>>())
        .bind(rows.iter().map(|row| row.blocked_reason.as_deref()).collect::<Vec<Option<&str>>>())
        .bind(rows.iter().map(|row| row.deaths).collect::<Vec<i32>>())
        .bind(rows.iter().map(|row| row.last_error.as_deref()).collect::<Vec<Option<&str>>>())
        .bind(rows.iter().map(|row| row.last_worker.as_deref()).collect::<Vec<Option<&str>>>())
        .bind(started)
        .bind(rows.iter().map(|row| row.execution_ms).collect::<Vec<i64>>())
        .bind(rows.iter().map(|row| row.gate.as_deref()).collect::<Vec<Option<&str>>>())
        .bind(batch.now.to_datetime())
        .execute(&mut *batch.connection)
        .await
        .map_err(store_error)?;
    Ok(())
}

/// Writes the changed part of leases back.
pub(super) async fn save_leases<'h>(
    batch: &mut Batch<'_>,
    rows: impl IntoIterator<Item = &'h Held>,
) -> Result<(), StoreError> {
    let leases: Vec<(JobId, &HeldLease)> =
        rows.into_iter().filter_map(|row| row.lease.as_ref().map(|lease| (row.id, lease))).collect();
    if leases.is_empty() {
        return Ok(());
    }
    sqlx::query(SAVE_LEASES)
        .bind(leases.iter().map(|(job, _)| job.0).collect::<Vec<Uuid>>())
        .bind(leases.iter().map(|(_, lease)| lease.event_seq).collect::<Vec<i64>>())
        .bind(leases.iter().map(|(_, lease)| lease.cancel_requested).collect::<Vec<bool>>())
        .execute(&mut *batch.connection)
        .await
        .map_err(store_error)?;
    Ok(())
}
