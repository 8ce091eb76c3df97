//! PostgreSQL.
//!
//! One connection for each journal lane, made lazily and made anew when lost; one that holds the advisory
//! lock of the node and writes its heartbeat; a pool of readers. Every transaction that changes jobs starts
//! with the shard check, which share-locks the rows of the shards it writes under until it ends, so that a
//! take-over waits for it and a former owner's batch writes nothing.
//!
//! Building with `--cfg ganger_broken="no_epoch_check"` or `"no_fence_check"` leaves just that predicate out
//! of its statement: the suite must fail then.

mod commit;
mod connect;
mod error;
mod fingerprints;
mod guard;
mod lifecycle;
mod operations;
mod raw_limit;
mod reads;
mod reconcile;
mod remove;
mod rows;

pub use raw_limit::{RawLimit, raw_limit};

use std::{
    sync::{
        RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sqlx::postgres::{PgConnectOptions, PgPool};
use tokio::sync::Mutex;

use super::{
    contract::{Settled, Store},
    error::{CommitError, StoreError, UnknownCommit},
    ops::{Op, OpResult},
    read::{FinishedFilter, FinishedRow, Graph, Inspection, LeaseRow, QueueRow, ReadyKey, ReadyRow},
    reconcile::{Healed, Reconcile},
};
use crate::domain::{
    AttemptRow, BootId, Epoch, JobId, JobState, JobView, ShardEpoch, ShardId, TimelineRow, Timestamp,
};

/// More lanes than this wait for one another's rows and disk flushes (measured with 4 and 8).
pub const LANES_MAX: u16 = 8;

/// Longer than the server's own statement timeout, for a server that does not answer at all.
const CALL_DEADLINE: Duration = Duration::from_secs(15);

/// How a store is opened.
#[derive(Debug, Clone, Copy)]
pub struct PostgresOptions {
    /// How many batches are committed side by side.
    pub lanes: u16,
    /// The most connections for reading.
    pub max_readers: u32,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { lanes: 4, max_readers: 8 }
    }
}

/// A store on PostgreSQL.
#[derive(Debug)]
pub struct PostgresStore {
    options: PgConnectOptions,
    lanes: Vec<commit::Lane>,
    /// Holds the node's advisory lock; `None` before `acquire_all` and after it was lost.
    guard: Mutex<Option<guard::Guard>>,
    readers: PgPool,
    boot: RwLock<Option<BootId>>,
    closed: AtomicBool,
}

impl PostgresStore {
    /// Opens the store at `url` and checks that the server can keep what the store promises.
    ///
    /// # Errors
    /// `Refused` when it cannot (its version, `fsync = off`), `Unavailable` when it does not answer.
    pub async fn connect(url: &str, options: PostgresOptions) -> Result<Self, StoreError> {
        let connect = connect::options(url)?;
        let mut connection = connect::open(&connect).await?;
        connect::check(&mut connection).await?;
        sqlx::Connection::close(connection).await.map_err(error::store_error)?;
        Ok(Self {
            lanes: (0..options.lanes.clamp(1, LANES_MAX)).map(commit::Lane::new).collect(),
            guard: Mutex::new(None),
            readers: connect::readers(&connect, options),
            options: connect,
            boot: RwLock::new(None),
            closed: AtomicBool::new(false),
        })
    }

    /// Every statement by name, for the test that prepares each.
    #[must_use]
    pub fn statements() -> Vec<(&'static str, &'static str)> {
        let mut all = commit::statements();
        all.extend(reads::statements());
        let parts = [
            connect::STATEMENTS,
            fingerprints::STATEMENTS,
            guard::STATEMENTS,
            lifecycle::STATEMENTS,
            operations::STATEMENTS,
            reconcile::STATEMENTS,
            remove::STATEMENTS,
        ];
        for part in parts {
            all.extend_from_slice(part);
        }
        all
    }

    fn boot(&self) -> Option<BootId> {
        *self.boot.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn set_boot(&self, boot: BootId) {
        *self.boot.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(boot);
    }

    fn refuse_if_closed(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Unavailable("the store is closed".into()));
        }
        Ok(())
    }

    /// Closes the lanes' connections, once the batches on them are answered.
    async fn close_lanes(&self) {
        for lane in &self.lanes {
            let connection = lane.slot.lock().await.take();
            if let Some(connection) = connection {
                connection.close().await;
            }
        }
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn engine(&self) -> &'static str {
        "postgres"
    }

    fn lanes(&self) -> u16 {
        u16::try_from(self.lanes.len()).unwrap_or(LANES_MAX)
    }

    async fn migrate(&self, apply: bool) -> Result<(), StoreError> {
        lifecycle::migrate(self, apply).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        bounded(guard::ping(self)).await
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        bounded(lifecycle::now(self)).await
    }

    async fn acquire_all(
        &self,
        boot: BootId,
        address: &str,
        restored: bool,
    ) -> Result<Vec<ShardEpoch>, StoreError> {
        guard::acquire_all(self, boot, address, restored).await
    }

    async fn raise_epoch(
        &self,
        shard: ShardId,
        seen: Epoch,
        boot: BootId,
    ) -> Result<Option<Epoch>, StoreError> {
        bounded(guard::raise_epoch(self, shard, seen, boot)).await
    }

    async fn heartbeat(&self, boot: BootId) -> Result<(), StoreError> {
        bounded(guard::heartbeat(self, boot)).await
    }

    async fn maintain(&self) -> Result<(), StoreError> {
        lifecycle::maintain(self).await
    }

    async fn commit(&self, lane: u16, ops: &[Op]) -> Result<Vec<OpResult>, CommitError> {
        commit::commit(self, lane, ops).await
    }

    async fn settle(&self, unknown: &UnknownCommit) -> Result<Settled, StoreError> {
        bounded(commit::settle(self, unknown.witness.as_ref())).await
    }

    async fn queues(&self, shard: ShardId) -> Result<Vec<QueueRow>, StoreError> {
        bounded(reads::queues::of_shard(self, shard)).await
    }

    async fn all_queues(&self) -> Result<Vec<QueueRow>, StoreError> {
        bounded(reads::queues::all(self)).await
    }

    async fn ready(
        &self,
        shard: ShardId,
        queue: &str,
        priority: i16,
        after: Option<ReadyKey>,
        now: Timestamp,
        limit: i64,
    ) -> Result<Vec<ReadyRow>, StoreError> {
        bounded(reads::queues::ready(self, (shard, queue, priority), after, now, limit)).await
    }

    async fn deferred(
        &self,
        shard: ShardId,
        queue: &str,
        priority: i16,
        after: Timestamp,
        until: Timestamp,
        limit: i64,
    ) -> Result<Vec<ReadyRow>, StoreError> {
        bounded(reads::queues::deferred(self, (shard, queue, priority), after, until, limit)).await
    }

    async fn due_counts(&self, shard: ShardId, queue: &str, now: Timestamp) -> Result<[i64; 9], StoreError> {
        bounded(reads::queues::due_counts(self, shard, queue, now)).await
    }

    async fn leases(&self, shard: ShardId, queue: &str) -> Result<Vec<LeaseRow>, StoreError> {
        bounded(reads::queues::leases(self, shard, queue)).await
    }

    async fn gates(&self, shard: ShardId, queue: &str) -> Result<Vec<(String, i64)>, StoreError> {
        bounded(reads::queues::gates(self, shard, queue)).await
    }

    async fn inbox_shards(&self) -> Result<Vec<ShardId>, StoreError> {
        bounded(reads::queues::inbox_shards(self)).await
    }

    async fn job(&self, id: JobId) -> Result<Option<JobView>, StoreError> {
        bounded(reads::job::view(self, id)).await
    }

    async fn events(
        &self,
        id: JobId,
        after: i64,
        limit: i64,
    ) -> Result<Option<Vec<TimelineRow>>, StoreError> {
        bounded(reads::job::events(self, id, after, limit)).await
    }

    async fn attempts(&self, id: JobId) -> Result<Option<Vec<AttemptRow>>, StoreError> {
        bounded(reads::job::attempts(self, id)).await
    }

    async fn graph(&self, id: JobId) -> Result<Option<Graph>, StoreError> {
        bounded(reads::graph::graph(self, id)).await
    }

    async fn inspect(&self, id: JobId) -> Result<Option<Inspection>, StoreError> {
        bounded(reads::inspect::inspect(self, id)).await
    }

    async fn locate(&self, id: JobId) -> Result<Option<(ShardId, String)>, StoreError> {
        bounded(reads::job::locate(self, id)).await
    }

    async fn finished(
        &self,
        filter: &FinishedFilter,
        after: Option<JobId>,
        limit: i64,
    ) -> Result<Vec<FinishedRow>, StoreError> {
        bounded(reads::list::finished(self, filter, after, limit)).await
    }

    async fn remove_finished(
        &self,
        owners: &[ShardEpoch],
        before: Timestamp,
        states: &[JobState],
        queue: Option<&str>,
        tenant: Option<&str>,
        limit: i64,
    ) -> Result<i64, StoreError> {
        let scope = remove::Scope { before, states, queue, tenant };
        bounded(remove::remove_finished(self, owners, scope, limit)).await
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.close_lanes().await;
        guard::release(self).await;
        self.readers.close().await;
    }
}

#[async_trait]
impl Reconcile for PostgresStore {
    async fn reconcile_live(&self, owner: ShardEpoch, queue: &str) -> Result<Vec<Healed>, StoreError> {
        bounded(reconcile::live(self, owner, queue)).await
    }

    async fn reconcile_ended(&self, owners: &[ShardEpoch]) -> Result<Vec<Healed>, StoreError> {
        bounded(reconcile::ended(self, owners)).await
    }

    async fn newest_waiting(&self, state: JobState, limit: i64) -> Result<Vec<JobView>, StoreError> {
        bounded(reconcile::newest_waiting(self, state, limit)).await
    }
}

/// The call's answer, within the deadline.
async fn bounded<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(CALL_DEADLINE, call).await {
        Ok(answer) => answer,
        Err(_) => Err(StoreError::Unavailable("the server did not answer within 15 s".into())),
    }
}
