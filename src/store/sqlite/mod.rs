//! The embedded engine: one SQLite database in the node's data directory, opened by one process.
//!
//! ```text
//! DATA_DIR/ganger.db          the database, with its log (-wal) and shared memory (-shm)
//! DATA_DIR/ganger.lock        held while a process has the database open
//! DATA_DIR/generation         tells a restored database (see `generation`)
//! ```
//!
//! One connection writes, under a lock, one transaction for each batch; several read snapshots beside it.
//! A commit is on disk before it is answered (WAL, `synchronous = full`). The same epochs and fences are
//! checked as on PostgreSQL, so both engines run the same protocol. Foreign keys are not declared: each
//! statement checks that it met the rows it meant to. What is lost with the process: nothing but the
//! answers on their way.
//!
//! Built with `--cfg ganger_broken="no_epoch_check"` or `"no_fence_check"`, the engine leaves out exactly
//! that check. Such a build is for seeing the tests that guard it fail, and for nothing else.

use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use sqlx::SqlitePool;
use tokio::{sync::Mutex, time::timeout};

use super::{
    CommitError, Op, OpResult, Settled, Store, StoreError, UnknownCommit,
    read::{FinishedFilter, FinishedRow, Graph, Inspection, LeaseRow, QueueRow, ReadyKey, ReadyRow},
    reconcile::{Healed, Reconcile},
};
use crate::domain::{
    AttemptRow, BootId, Epoch, JobId, JobState, JobView, ShardEpoch, ShardId, TimelineRow, Timestamp,
};
use writer::{Writer, now};

mod admit;
mod aside;
mod audit;
mod batch;
mod cancel;
mod commit;
mod dead_letters;
mod end;
mod error;
mod forget;
mod gate;
mod generation;
mod grant;
mod graph;
mod inbox;
mod jobs;
mod log;
mod moves;
mod operations;
mod ownership;
mod parts;
mod queues;
mod readers;
mod reconcile;
mod remove;
mod replay;
mod retry;
mod rows;
mod schema;
mod search;
mod settings;
mod submissions;
mod submit;
mod submit_plan;
mod submit_rows;
mod update;
mod wake;
mod writer;

#[cfg(test)]
mod tests;

/// How the database is opened.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// Connections that read.
    pub readers: u32,
}

impl Default for SqliteOptions {
    /// Four readers: reads are short, and more only queue for the same disk.
    fn default() -> Self {
        Self { readers: 4 }
    }
}

/// A store in a directory.
#[derive(Debug)]
pub struct SqliteStore {
    dir: PathBuf,
    /// `None` once it is closed.
    writer: Mutex<Option<Writer>>,
    readers: SqlitePool,
    /// The generation's id since the last [`Store::acquire_all`], for the file.
    generation: Mutex<Option<String>>,
    /// Held from finding wrong counters until they are right: no error is healed twice.
    healing: Mutex<()>,
    lock: File,
}

impl SqliteStore {
    /// Opens the store in `dir`, making both if they are not there.
    ///
    /// # Errors
    /// `Refused` while another process has it open; `Unavailable` when the directory cannot be used.
    pub async fn open(dir: &Path, options: SqliteOptions) -> Result<Self, StoreError> {
        let lock = lock(dir)?;
        let file = dir.join("ganger.db");
        let writer = Writer::open(&file).await?;
        Ok(Self {
            dir: dir.to_owned(),
            writer: Mutex::new(Some(writer)),
            readers: readers::open(&file, options.readers.max(1)),
            generation: Mutex::new(None),
            healing: Mutex::new(()),
            lock,
        })
    }
}

impl SqliteStore {
    /// Writes beside the database which batch it had committed.
    async fn note_generation(&self, batch_seq: i64) -> Result<(), StoreError> {
        match self.generation.lock().await.as_deref() {
            Some(id) => generation::write_file(&self.dir, id, batch_seq),
            None => Ok(()),
        }
    }
}

/// Keeps a second process out for as long as the file is open.
fn lock(dir: &Path) -> Result<File, StoreError> {
    let unusable = |error: std::io::Error| {
        StoreError::Unavailable(format!("failed to use the data directory {}: {error}", dir.display()))
    };
    std::fs::create_dir_all(dir).map_err(unusable)?;
    let path = dir.join("ganger.lock");
    let file = File::options().create(true).truncate(false).write(true).open(path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Refused(format!(
            "another process has the store in {} open (it holds ganger.lock); stop it, or use another data directory",
            dir.display()
        ))),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

/// Runs `$body` with `$conn` in a transaction of the writer, committed when it succeeds, given up at the
/// deadline.
macro_rules! write {
    ($self:expr, $conn:ident => $body:expr) => {{
        let work = async {
            let mut guard = $self.writer.lock().await;
            let writer = guard.as_mut().ok_or_else(closed)?;
            let $conn = writer.begin().await?;
            let result: Result<_, StoreError> = $body;
            match result {
                Ok(value) => {
                    writer.commit().await?;
                    Ok(value)
                }
                Err(error) => {
                    writer.rollback().await;
                    Err(error)
                }
            }
        };
        match timeout(commit::DEADLINE, work).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Unavailable("a write took too long".into())),
        }
    }};
}

use write;

fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".into())
}

const PING: &str = "
    insert into meta (key, value) values ('pinged_at', ?1)
    on conflict (key) do update set value = excluded.value";

#[async_trait]
impl Store for SqliteStore {
    fn engine(&self) -> &'static str {
        "sqlite"
    }

    fn lanes(&self) -> u16 {
        1
    }

    async fn migrate(&self, apply: bool) -> Result<(), StoreError> {
        let mut guard = self.writer.lock().await;
        schema::migrate(guard.as_mut().ok_or_else(closed)?.connection().await?, apply).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        write!(self, conn => {
            let done = sqlx::query(PING).bind(now().0).execute(&mut *conn).await;
            done.map(|_| ()).map_err(error::store_error)
        })
    }

    async fn now(&self) -> Result<Timestamp, StoreError> {
        Ok(now())
    }

    async fn acquire_all(
        &self,
        boot: BootId,
        address: &str,
        restored: bool,
    ) -> Result<Vec<ShardEpoch>, StoreError> {
        let mut kept = self.generation.lock().await;
        // The file is only compared at the first: later ones are this process's own.
        let first = kept.is_none();
        let (owned, id, seq) = write!(self, conn => async {
            let recorded = generation::read(conn).await?;
            let restored = restored || (first && recorded.is_restored(&self.dir)?);
            let owned = ownership::acquire_all(conn, boot, address, restored, now()).await?;
            Ok((owned, recorded.renew(conn).await?, recorded.batch_seq))
        }.await)?;
        generation::write_file(&self.dir, &id, seq)?;
        *kept = Some(id);
        Ok(owned)
    }

    async fn raise_epoch(
        &self,
        shard: ShardId,
        seen: Epoch,
        boot: BootId,
    ) -> Result<Option<Epoch>, StoreError> {
        write!(self, conn => ownership::raise_one(conn, shard, seen, boot, now()).await)
    }

    async fn heartbeat(&self, boot: BootId) -> Result<(), StoreError> {
        let recorded = write!(self, conn => async {
            ownership::heartbeat(conn, boot, now()).await?;
            generation::read(conn).await
        }.await)?;
        self.note_generation(recorded.batch_seq).await
    }

    async fn maintain(&self) -> Result<(), StoreError> {
        /// How long a silent node is remembered.
        const NODES_KEPT_MS: i64 = 86_400_000;
        /// How long an operation that ended is.
        const OPERATIONS_KEPT_MS: i64 = 30 * 86_400_000;
        write!(self, conn => async {
            ownership::forget_nodes(conn, now().plus_millis(-NODES_KEPT_MS)).await?;
            operations::forget(conn, now().plus_millis(-OPERATIONS_KEPT_MS)).await?;
            remove::keys_over(conn, now()).await?;
            dead_letters::fill_fingerprints(conn).await
        }.await)
    }

    async fn commit(&self, _lane: u16, ops: &[Op]) -> Result<Vec<OpResult>, CommitError> {
        if ops.is_empty() {
            return Ok(Vec::new());
        }
        let mut guard = self.writer.lock().await;
        let writer = guard.as_mut().ok_or_else(closed).map_err(CommitError::Failed)?;
        commit::commit(writer, ops).await
    }

    async fn settle(&self, unknown: &UnknownCommit) -> Result<Settled, StoreError> {
        let mut guard = self.writer.lock().await;
        commit::settle(guard.as_mut().ok_or_else(closed)?, unknown).await
    }

    async fn queues(&self, shard: ShardId) -> Result<Vec<QueueRow>, StoreError> {
        queues::queues(&self.readers, Some(shard)).await
    }

    async fn all_queues(&self) -> Result<Vec<QueueRow>, StoreError> {
        queues::queues(&self.readers, None).await
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
        queues::ready(&self.readers, queues::Place { shard, queue, priority }, after, now, limit).await
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
        queues::deferred(&self.readers, queues::Place { shard, queue, priority }, after, until, limit).await
    }

    async fn due_counts(&self, shard: ShardId, queue: &str, now: Timestamp) -> Result<[i64; 9], StoreError> {
        queues::due_counts(&self.readers, shard, queue, now).await
    }

    async fn leases(&self, shard: ShardId, queue: &str) -> Result<Vec<LeaseRow>, StoreError> {
        queues::leases(&self.readers, shard, queue).await
    }

    async fn gates(&self, shard: ShardId, queue: &str) -> Result<Vec<(String, i64)>, StoreError> {
        queues::gates(&self.readers, shard, queue).await
    }

    async fn inbox_shards(&self) -> Result<Vec<ShardId>, StoreError> {
        queues::inbox_shards(&self.readers).await
    }

    async fn job(&self, id: JobId) -> Result<Option<JobView>, StoreError> {
        jobs::job(&self.readers, id).await
    }

    async fn events(
        &self,
        id: JobId,
        after: i64,
        limit: i64,
    ) -> Result<Option<Vec<TimelineRow>>, StoreError> {
        jobs::events(&self.readers, id, after, limit).await
    }

    async fn attempts(&self, id: JobId) -> Result<Option<Vec<AttemptRow>>, StoreError> {
        jobs::attempts(&self.readers, id).await
    }

    async fn graph(&self, id: JobId) -> Result<Option<Graph>, StoreError> {
        graph::graph(&self.readers, id).await
    }

    async fn inspect(&self, id: JobId) -> Result<Option<Inspection>, StoreError> {
        jobs::inspect(&self.readers, id).await
    }

    async fn locate(&self, id: JobId) -> Result<Option<(ShardId, String)>, StoreError> {
        jobs::locate(&self.readers, id).await
    }

    async fn finished(
        &self,
        filter: &FinishedFilter,
        after: Option<JobId>,
        limit: i64,
    ) -> Result<Vec<FinishedRow>, StoreError> {
        jobs::finished(&self.readers, filter, after, limit).await
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
        let which = remove::Finished { before, states, queue, tenant, limit };
        write!(self, conn => remove::finished(conn, owners, which, now()).await)
    }

    async fn close(&self) {
        self.readers.close().await;
        if let Some(mut writer) = self.writer.lock().await.take() {
            if let Ok(conn) = writer.connection().await
                && let Ok(recorded) = generation::read(conn).await
            {
                // The last heartbeat's number stands otherwise, which is as true.
                let _ = self.note_generation(recorded.batch_seq).await;
            }
            writer.close().await;
        }
        // Held until here; an error leaves it to the end of the process.
        let _ = self.lock.unlock();
    }
}

#[async_trait]
impl Reconcile for SqliteStore {
    async fn reconcile_live(&self, owner: ShardEpoch, queue: &str) -> Result<Vec<Healed>, StoreError> {
        let _alone = self.healing.lock().await;
        let found = reconcile::live(&self.readers, owner.shard, queue).await?;
        self.heal(&[owner], found).await
    }

    async fn reconcile_ended(&self, owners: &[ShardEpoch]) -> Result<Vec<Healed>, StoreError> {
        let _alone = self.healing.lock().await;
        let found = reconcile::ended(&self.readers, owners).await?;
        self.heal(owners, found).await
    }

    async fn newest_waiting(&self, state: JobState, limit: i64) -> Result<Vec<JobView>, StoreError> {
        reconcile::newest_waiting(&self.readers, state, limit).await
    }
}

impl SqliteStore {
    async fn heal(&self, owners: &[ShardEpoch], found: Vec<Healed>) -> Result<Vec<Healed>, StoreError> {
        if found.is_empty() {
            return Ok(found);
        }
        write!(self, conn => reconcile::heal(conn, owners, found, now()).await)
    }
}
