//! What a batch writes beside the rows of its jobs, gathered and written with one statement a table.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use uuid::Uuid;

use super::super::{error::store_error, rows::times};
use crate::{
    domain::{AttemptStatus, EventKind, Fence, JobId, JobState, ShardId, TimelineRow, Timestamp},
    store::{StoreError, ops::AuditOp},
};

const EVENTS: &str = "insert into event (job_id, seq, at, kind, state, attempt, fence, worker, metadata)
select u.job_id, u.seq, u.at, u.kind, u.state, u.attempt, u.fence, u.worker, u.metadata::json
from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::smallint[], $5::smallint[], $6::integer[],
            $7::bigint[], $8::text[], $9::text[])
  as u (job_id, seq, at, kind, state, attempt, fence, worker, metadata)";

const ATTEMPTS: &str = "insert into attempt (job_id, fence, started_at, finished_at, attempt, status, worker,
       error_type, error_message, stack_trace)
select * from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::timestamptz[], $5::integer[],
       $6::smallint[], $7::text[], $8::text[], $9::text[], $10::text[])";

const INBOX: &str = "insert into inbox (shard, kind, job_id, at)
select u.shard, 0, u.job_id, $3 from unnest($1::smallint[], $2::uuid[]) as u (shard, job_id)";

const COUNTERS: &str = "insert into counter as c (shard, queue, lane, queued, scheduled, retrying, blocked,
       throttled, active, completed, failed, canceled)
select u.shard, u.queue, $3, u.s0, u.s1, u.s2, u.s3, u.s4, u.s5, u.s6, u.s7, u.s8
from unnest($1::smallint[], $2::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
            $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[])
  as u (shard, queue, s0, s1, s2, s3, s4, s5, s6, s7, s8)
on conflict (shard, queue, lane) do update
   set queued = c.queued + excluded.queued, scheduled = c.scheduled + excluded.scheduled,
       retrying = c.retrying + excluded.retrying, blocked = c.blocked + excluded.blocked,
       throttled = c.throttled + excluded.throttled, active = c.active + excluded.active,
       completed = c.completed + excluded.completed, failed = c.failed + excluded.failed,
       canceled = c.canceled + excluded.canceled";

pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("effects events", EVENTS),
    ("effects attempts", ATTEMPTS),
    ("effects inbox", INBOX),
    ("effects counters", COUNTERS),
];

/// The lane of upkeep's row in `counter`.
pub(in super::super) const UPKEEP_LANE: i16 = -1;

/// A row of `event`.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) job: JobId,
    pub(super) seq: i64,
    pub(super) at: Timestamp,
    pub(super) kind: EventKind,
    pub(super) state: JobState,
    pub(super) who: Option<(i32, Fence, String)>,
    pub(super) metadata: Option<String>,
}

/// A row of `attempt`.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) job: JobId,
    pub(super) fence: Fence,
    pub(super) started_at: Timestamp,
    pub(super) finished_at: Timestamp,
    pub(super) attempt: i32,
    pub(super) status: AttemptStatus,
    pub(super) worker: String,
    pub(super) error: Option<(String, String, Option<String>)>,
}

/// What is written at the end of the batch.
#[derive(Debug, Default)]
pub(in super::super) struct Effects {
    events: Vec<Event>,
    attempts: Vec<Attempt>,
    born: Vec<(ShardId, JobId)>,
    counters: BTreeMap<(i16, String), [i64; 9]>,
    audits: Vec<AuditOp>,
    /// Jobs whose dependents are told: how they ended (or that they run again), and the place of the
    /// operation that did it.
    pub(super) told: Vec<(JobId, Option<JobState>, usize)>,
}

impl Effects {
    pub(super) fn event(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Writes out a row that was derived from others so far.
    pub(super) fn timeline_row(&mut self, row: TimelineRow) {
        let who = row
            .attempt
            .zip(row.fence)
            .map(|(attempt, fence)| (attempt, fence, row.worker_id.unwrap_or_default()));
        self.events.push(Event {
            job: row.job_id,
            seq: row.seq,
            at: row.occurred_at,
            kind: row.kind,
            state: row.state,
            who,
            metadata: row.metadata.map(|metadata| metadata.text().to_owned()),
        });
    }

    pub(super) fn attempt(&mut self, attempt: Attempt) {
        self.attempts.push(attempt);
    }

    pub(super) fn born(&mut self, shard: ShardId, job: JobId) {
        self.born.push((shard, job));
    }

    /// A row of the audit log.
    pub(super) fn audit(&mut self, audit: AuditOp) {
        self.audits.push(audit);
    }

    /// Counts `by` jobs more in a state of a queue.
    pub(in super::super) fn count(&mut self, shard: ShardId, queue: &str, state: JobState, by: i64) {
        let index = usize::try_from(state.code()).unwrap_or_default();
        // Two look-ups for a new queue, none of them with a copy for a known one.
        let key = (shard.0, queue.to_owned());
        if let Some(count) = self.counters.entry(key).or_default().get_mut(index) {
            *count += by;
        }
    }

    pub(super) fn moved(&mut self, shard: ShardId, queue: &str, from: JobState, to: JobState) {
        self.count(shard, queue, from, -1);
        self.count(shard, queue, to, 1);
    }

    /// Writes it all.
    pub(in super::super) async fn write(
        self,
        connection: &mut PgConnection,
        lane: i16,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Self { events, attempts, born, counters, audits, told: _ } = self;
        if !events.is_empty() {
            write_events(connection, events).await?;
        }
        if !attempts.is_empty() {
            write_attempts(connection, attempts).await?;
        }
        if !born.is_empty() {
            sqlx::query(INBOX)
                .bind(born.iter().map(|(shard, _)| shard.0).collect::<Vec<i16>>())
                .bind(born.iter().map(|(_, job)| job.0).collect::<Vec<Uuid>>())
                .bind(now.to_datetime())
                .execute(&mut *connection)
                .await
                .map_err(store_error)?;
        }
        if !audits.is_empty() {
            super::audit::write(connection, now, &audits).await?;
        }
        if counters.values().any(|counts| counts.iter().any(|count| *count != 0)) {
            write_counters(connection, lane, counters).await?;
        }
        Ok(())
    }
}

async fn write_events(connection: &mut PgConnection, events: Vec<Event>) -> Result<(), StoreError> {
    sqlx::query(EVENTS)
        .bind(events.iter().map(|event| event.job.0).collect::<Vec<Uuid>>())
        .bind(events.iter().map(|event| event.seq).collect::<Vec<i64>>())
        .bind(times(events.iter().map(|event| event.at)))
        .bind(events.iter().map(|event| event.kind.code()).collect::<Vec<i16>>())
        .bind(events.iter().map(|event| event.state.code()).collect::<Vec<i16>>())
        .bind(events.iter().map(|event| event.who.as_ref().map(|who| who.0)).collect::<Vec<Option<i32>>>())
        .bind(events.iter().map(|event| event.who.as_ref().map(|who| who.1.0)).collect::<Vec<Option<i64>>>())
        .bind(events.iter().map(|event| event.who.as_ref().map(|who| who.2.as_str())).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.metadata.as_deref()).collect::<Vec<Option<&str>>>())
        .execute(connection)
        .await
        .map_err(store_error)?;
    Ok(())
}

async fn write_attempts(connection: &mut PgConnection, rows: Vec<Attempt>) -> Result<(), StoreError> {
    sqlx::query(ATTEMPTS)
        .bind(rows.iter().map(|row| row.job.0).collect::<Vec<Uuid>>())
        .bind(rows.iter().map(|row| row.fence.0).collect::<Vec<i64>>())
        .bind(times(rows.iter().map(|row| row.started_at)))
        .bind(times(rows.iter().map(|row| row.finished_at)))
        .bind(rows.iter().map(|row| row.attempt).collect::<Vec<i32>>())
        .bind(rows.iter().map(|row| row.status.code()).collect::<Vec<i16>>())
        .bind(rows.iter().map(|row| row.worker.as_str()).collect::<Vec<&str>>())
        .bind(rows.iter().map(|row| row.error.as_ref().map(|e| e.0.as_str())).collect::<Vec<Option<&str>>>())
        .bind(rows.iter().map(|row| row.error.as_ref().map(|e| e.1.as_str())).collect::<Vec<Option<&str>>>())
        .bind(rows.iter().map(|row| row.error.as_ref().and_then(|e| e.2.as_deref())).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map_err(store_error)?;
    Ok(())
}

async fn write_counters(
    connection: &mut PgConnection,
    lane: i16,
    counters: BTreeMap<(i16, String), [i64; 9]>,
) -> Result<(), StoreError> {
    let mut query = sqlx::query(COUNTERS)
        .bind(counters.keys().map(|(shard, _)| *shard).collect::<Vec<i16>>())
        .bind(counters.keys().map(|(_, queue)| queue.as_str()).collect::<Vec<&str>>())
        .bind(lane);
    for state in 0..9 {
        query = query.bind(
            counters.values().map(|counts| counts.get(state).copied().unwrap_or(0)).collect::<Vec<i64>>(),
        );
    }
    query.execute(connection).await.map_err(store_error)?;
    Ok(())
}
