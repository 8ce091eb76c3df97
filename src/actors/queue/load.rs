//! What a queue reads: at its start, and ahead of need. Tasks of the actor, never awaited in a handler.

use std::{sync::Arc, time::Duration};

use super::core::{Loaded, known_to};
use crate::{
    actors::journal::JournalHandle,
    domain::{Clock, JobState, ShardId, Timestamp},
    store::{Store, StoreError, read::ReadyRow},
};

/// How long a barrier may take before the load is tried again.
const BARRIER_DEADLINE: Duration = Duration::from_secs(30);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Where a queue reads from.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) store: Arc<dyn Store>,
    pub(super) journal: JournalHandle,
    pub(super) clock: Arc<Clock>,
    pub(super) shard: ShardId,
    pub(super) queue: Arc<str>,
    pub(super) defer_load_max: usize,
}

impl Source {
    /// Reads what the queue's memory begins with, after everything that was sent to the journal before is
    /// answered. Waits out what passes; an error is for good.
    pub(super) async fn load(&self) -> Result<Box<Loaded>, String> {
        let mut pause = PAUSE_MIN;
        loop {
            let tried = match self.journal.barrier(BARRIER_DEADLINE).await {
                Ok(()) => self.read().await,
                Err(error) => Err(StoreError::Unavailable(error.to_string())),
            };
            match tried {
                Ok(loaded) => return Ok(Box::new(loaded)),
                Err(error) if error.is_transient() => {
                    tracing::warn!(queue.name = %self.queue, %error, "not loaded yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    async fn read(&self) -> Result<Loaded, StoreError> {
        let (paused, counts) = self.counts(self.clock.now()).await?;
        Ok(Loaded {
            paused,
            counts,
            leases: self.store.leases(self.shard, &self.queue).await?,
            gates: self.store.gates(self.shard, &self.queue).await?,
        })
    }

    /// Whether the queue is paused, and its counts as they are shown at `now`.
    pub(super) async fn counts(&self, now: Timestamp) -> Result<(bool, [i64; 9]), StoreError> {
        let rows = self.store.queues(self.shard).await?;
        let row = rows.into_iter().find(|row| row.name == *self.queue).unwrap_or_default();
        let due = self.store.due_counts(self.shard, &self.queue, now).await?;
        let mut counts = row.counts;
        // Deferred jobs whose time has come are counted as what they are shown as.
        let queued = usize::try_from(JobState::Queued.code()).unwrap_or(0);
        for (code, due) in due.iter().enumerate() {
            if code != queued {
                counts[code] -= due;
                counts[queued] += due;
            }
        }
        Ok((row.paused, counts))
    }

    /// Reads the near future; cut off where a priority's limit was reached.
    pub(super) async fn deferred(
        &self,
        after: Timestamp,
        until: Timestamp,
    ) -> Result<(Timestamp, Vec<(i16, ReadyRow)>), StoreError> {
        let limit = i64::try_from(self.defer_load_max).unwrap_or(i64::MAX);
        let mut known = until;
        let mut rows = Vec::new();
        for priority in 0..10_i16 {
            let read = self.store.deferred(self.shard, &self.queue, priority, after, until, limit).await?;
            known = known.min(known_to(&read, self.defer_load_max, until));
            rows.extend(read.into_iter().map(|row| (priority, row)));
        }
        Ok((known, rows))
    }
}
