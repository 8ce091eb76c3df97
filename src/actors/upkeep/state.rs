//! One round of upkeep, and what goes on beside the rounds.

use std::{sync::Arc, time::Duration};

use super::handle::StoreHealth;
use crate::{
    actors::{
        journal::JournalHandle,
        shard::{ShardWaker, Shards},
    },
    domain::{BootId, Clock},
    store::{Store, StoreError},
};

/// A round that takes longer has lost its store.
const ROUND_DEADLINE: Duration = Duration::from_secs(10);
/// How often the clock's offset is measured, in rounds of a second.
const CLOCK_EVERY: u64 = 30;
/// How often partitions and keys are looked after.
const MAINTAIN_EVERY: u64 = 600;
/// How long that may take; what is left is done the next time.
const MAINTAIN_DEADLINE: Duration = Duration::from_mins(5);

/// What a round works with.
#[derive(Debug, Clone)]
pub struct Round {
    /// The store.
    pub store: Arc<dyn Store>,
    /// This run of the node.
    pub boot: BootId,
    /// The clock that is kept.
    pub clock: Arc<Clock>,
    /// Wakes shards.
    pub waker: ShardWaker,
    /// Finds queues.
    pub shards: Shards,
    /// What readiness says.
    pub health: Arc<StoreHealth>,
    /// For its fill.
    pub journal: JournalHandle,
}

impl Round {
    pub(super) async fn run(self, number: u64) {
        let fault = match tokio::time::timeout(ROUND_DEADLINE, self.work(number)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no answer in time".to_owned()),
        };
        if let Some(why) = &fault {
            tracing::warn!(why, "the store's upkeep failed");
        }
        crate::metrics::store(fault.is_none(), self.clock.offset_micros(), self.journal.fill());
        self.health.set(fault, self.clock.now());
    }

    async fn work(&self, number: u64) -> Result<(), StoreError> {
        self.store.heartbeat(self.boot).await?;
        if number.is_multiple_of(CLOCK_EVERY) {
            let before = Clock::local();
            let at = self.store.now().await?;
            self.clock.adjust(before, at, Clock::local());
        }
        self.waker.wake_all(&self.store.inbox_shards().await?);
        // A heartbeat writes over a row that is there: on a full disk it succeeds where a batch does not.
        if let Some(why) = self.journal.take_fault() {
            self.health.set_suspect(true);
            return Err(StoreError::Unavailable(why));
        }
        if self.health.is_suspect() {
            self.store.ping().await?;
            self.health.set_suspect(false);
        }
        Ok(())
    }

    /// Sweeps whenever somebody asks: that does not wait for the next round.
    pub(super) async fn sweep(self) {
        loop {
            self.waker.sweep_wanted().await;
            if let Ok(shards) = self.store.inbox_shards().await {
                self.waker.wake_all(&shards);
            }
        }
    }

    /// Whether partitions and keys are looked after in this round.
    pub(super) fn is_maintained(number: u64) -> bool {
        number.is_multiple_of(MAINTAIN_EVERY) && number > 0
    }

    /// Looks after partitions and keys. Apart from the rounds: it may take long, and the heartbeat must not wait.
    pub(super) async fn maintain(self) {
        match tokio::time::timeout(MAINTAIN_DEADLINE, self.store.maintain()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the store was not maintained"),
            Err(_) => tracing::warn!("the store was not maintained in time"),
        }
    }
}
