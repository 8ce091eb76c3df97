//! What the operations of one transaction share: its time, its counters, its timeline rows.
//!
//! The transaction holds the only write lock from its start, so what an operation reads in it stays
//! true until it writes: guards are decided on rows read set-wise, rows are written set-wise, and every
//! write checks that it met as many rows as it meant to.

use std::collections::{BTreeMap, HashSet};

use sqlx::{SqliteConnection, sqlite::SqliteRow};

use uuid::Uuid;

use super::{error::store_error, rows::Rows};
use crate::{
    domain::{
        AttemptRow, EventKind, Fence, JobId, JobState, RawJson, ShardEpoch, ShardId, TimelineRow, Timestamp,
    },
    store::{StoreError, ops::AuditOp},
};

const EPOCHS: &str = "
    select shard.id, shard.epoch, shard_seal.floor
    from shard join shard_seal on shard_seal.id = shard.id
    where shard.id in (select value from jsonb_each(?1))";

const EVENTS: &str = "
    insert into event (job_id, seq, kind, state, at, attempt, fence, worker, metadata)
    select unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
           value ->> 6, value ->> 7, value ->> 8
    from jsonb_each(?1)";

const ATTEMPTS: &str = "
    insert into attempt (job_id, fence, attempt, worker, status, error_type, error_message, stack_trace,
                         started_at, finished_at)
    select unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
           value ->> 6, value ->> 7, value ->> 8, value ->> 9
    from jsonb_each(?1)";

const AUDITS: &str = "
    insert into audit (id, at, actor, action, object_type, object_id, request_id, reason, before, after)
    select unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
           value ->> 6, value ->> 7, value ->> 8, value ->> 9
    from jsonb_each(?1)";

const COUNTERS: &str = "
    insert into counter (shard, queue, lane, queued, scheduled, retrying, blocked, throttled, active,
                         completed, failed, canceled)
    select value ->> 0, value ->> 1, 0, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6,
           value ->> 7, value ->> 8, value ->> 9, value ->> 10
    from jsonb_each(?1) where true
    on conflict (shard, queue, lane) do update set
        queued = queued + excluded.queued,
        scheduled = scheduled + excluded.scheduled,
        retrying = retrying + excluded.retrying,
        blocked = blocked + excluded.blocked,
        throttled = throttled + excluded.throttled,
        active = active + excluded.active,
        completed = completed + excluded.completed,
        failed = failed + excluded.failed,
        canceled = canceled + excluded.canceled";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("epochs", EPOCHS),
    ("events", EVENTS),
    ("attempts", ATTEMPTS),
    ("audits", AUDITS),
    ("counters", COUNTERS),
];

/// One transaction at work.
pub(super) struct Batch<'c> {
    /// Its connection.
    pub(super) conn: &'c mut SqliteConnection,
    /// Its time: none passes inside.
    pub(super) now: Timestamp,
    counts: BTreeMap<(ShardId, String), [i64; 9]>,
    events: Rows,
    attempts: Rows,
    audits: Rows,
}

/// Who ran an attempt, for a timeline row.
#[derive(Clone, Copy)]
pub(super) struct Who<'a> {
    pub(super) attempt: i32,
    pub(super) fence: Fence,
    pub(super) worker: &'a str,
}

impl<'c> Batch<'c> {
    pub(super) fn new(conn: &'c mut SqliteConnection, now: Timestamp) -> Self {
        Self {
            conn,
            now,
            counts: BTreeMap::new(),
            events: Rows::default(),
            attempts: Rows::default(),
            audits: Rows::default(),
        }
    }

    /// Which of `owners` are no longer what the store says.
    pub(super) async fn lost(
        &mut self,
        owners: &HashSet<ShardEpoch>,
    ) -> Result<HashSet<ShardEpoch>, StoreError> {
        if owners.is_empty() || cfg!(ganger_broken = "no_epoch_check") {
            return Ok(HashSet::new());
        }
        let shards: Vec<i16> = owners.iter().map(|owner| owner.shard.0).collect();
        let shards = serde_json::to_string(&shards).unwrap_or_default();
        let mut held = HashSet::new();
        for row in self.read(EPOCHS, shards).await? {
            let mut cols = super::rows::Cols::of(&row);
            let (shard, epoch, floor): (_, i64, i64) = (cols.shard()?, cols.get()?, cols.get()?);
            if floor <= epoch {
                held.insert(ShardEpoch { shard, epoch: crate::domain::Epoch(epoch) });
            }
        }
        Ok(owners.difference(&held).copied().collect())
    }

    /// Reads with one JSON argument.
    pub(super) async fn read(
        &mut self,
        sql: &'static str,
        json: String,
    ) -> Result<Vec<SqliteRow>, StoreError> {
        sqlx::query(sql).bind(json).fetch_all(&mut *self.conn).await.map_err(store_error)
    }

    /// Writes rows by one statement, which must meet them all.
    pub(super) async fn write(&mut self, sql: &'static str, rows: Rows) -> Result<(), StoreError> {
        let meant = rows.len();
        if meant == 0 {
            return Ok(());
        }
        let json = rows.finish();
        let done = sqlx::query(sql).bind(json).execute(&mut *self.conn).await.map_err(store_error)?;
        if done.rows_affected() == meant {
            return Ok(());
        }
        Err(StoreError::Refused(format!("{} of {meant} rows were written", done.rows_affected())))
    }

    /// Counts a job in or out of a state.
    pub(super) fn count(&mut self, shard: ShardId, queue: &str, state: JobState, change: i64) {
        let index = usize::try_from(state.code()).unwrap_or(0);
        if let Some(counts) = self.counts.get_mut(&(shard, queue.to_owned())) {
            counts[index] += change;
            return;
        }
        let mut counts = [0; 9];
        counts[index] = change;
        self.counts.insert((shard, queue.to_owned()), counts);
    }

    /// Counts a job from one state to another.
    pub(super) fn count_move(&mut self, shard: ShardId, queue: &str, from: JobState, to: JobState) {
        self.count(shard, queue, from, -1);
        self.count(shard, queue, to, 1);
    }

    /// A timeline row.
    #[expect(clippy::too_many_arguments, reason = "one for each column")]
    pub(super) fn event(
        &mut self,
        job: JobId,
        seq: i64,
        kind: EventKind,
        state: JobState,
        at: Timestamp,
        who: Option<Who<'_>>,
        metadata: Option<&serde_json::Value>,
    ) {
        self.events
            .row()
            .id(job)
            .int(seq)
            .int(kind.code())
            .int(state.code())
            .int(at.0)
            .opt_int(who.map(|who| who.attempt))
            .opt_int(who.map(|who| who.fence.0))
            .opt_text(who.map(|who| who.worker))
            .opt_text(metadata.map(ToString::to_string).as_deref());
    }

    /// A timeline row as it was shown, when what it was derived from goes.
    pub(super) fn event_row(&mut self, row: &TimelineRow) {
        self.events
            .row()
            .id(row.job_id)
            .int(row.seq)
            .int(row.kind.code())
            .int(row.state.code())
            .int(row.occurred_at.0)
            .opt_int(row.attempt)
            .opt_int(row.fence.map(|fence| fence.0))
            .opt_text(row.worker_id.as_deref())
            .opt_text(row.metadata.as_ref().map(crate::domain::RawJson::text));
    }

    /// An ended attempt.
    pub(super) fn attempt(&mut self, row: &AttemptRow) {
        self.attempts
            .row()
            .id(row.job_id)
            .int(row.fence.0)
            .int(row.attempt)
            .text(&row.worker_id)
            .int(row.status.code())
            .opt_text(row.error_type.as_deref())
            .opt_text(row.error_message.as_deref())
            .opt_text(row.stack_trace.as_deref())
            .int(row.started_at.0)
            .int(row.finished_at.unwrap_or(self.now).0);
    }

    /// A row of the audit log.
    pub(super) fn audit(&mut self, audit: &AuditOp) {
        self.audits
            .row()
            .bytes(Uuid::now_v7().as_bytes())
            .int(self.now.0)
            .text(&audit.by.actor)
            .text(audit.action)
            .text(audit.object_type)
            .text(&audit.object_id)
            .text(&audit.by.request_id)
            .opt_text(audit.by.reason.as_deref())
            .opt_text(audit.before.as_ref().map(RawJson::text))
            .opt_text(audit.after.as_ref().map(RawJson::text));
    }

    /// Writes what was gathered.
    pub(super) async fn finish(mut self) -> Result<(), StoreError> {
        let (events, attempts) = (std::mem::take(&mut self.events), std::mem::take(&mut self.attempts));
        self.write(EVENTS, events).await?;
        self.write(ATTEMPTS, attempts).await?;
        let audits = std::mem::take(&mut self.audits);
        self.write(AUDITS, audits).await?;
        let mut counters = Rows::default();
        for ((shard, queue), counts) in std::mem::take(&mut self.counts) {
            if counts.iter().any(|count| *count != 0) {
                let row = counters.row().int(shard.0).text(&queue);
                for count in counts {
                    row.int(count);
                }
            }
        }
        self.write(COUNTERS, counters).await
    }
}
