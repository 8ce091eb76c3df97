//! One read of a shard's inbox, from the op to the queues.
//!
//! The op takes the rows away, so its answer is the only notice of what was in them. The task that waits for it
//! therefore belongs to the node and not to the shard's actor, waits without a deadline, and tells the queues itself.

use std::{collections::HashMap, time::Duration};

use tokio_util::task::TaskTracker;

use super::handle::Shards;
use crate::{
    actors::{
        journal::JournalHandle,
        platform::AskError,
        queue::messages::{Arrival, QueueOp},
    },
    domain::ShardEpoch,
    store::{
        Op, OpResult,
        ops::{InboxOp, InboxTaken, LiveEntry},
    },
};

/// The most rows of the inbox that one op takes.
const INBOX_STEP: i64 = 500;
/// How often a read that waits looks whether the node stops.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

type Arrivals = Vec<(Arrival, LiveEntry)>;

/// What a read works with.
pub(super) struct Reading {
    pub(super) owner: ShardEpoch,
    pub(super) shards: Shards,
    pub(super) journal: JournalHandle,
    /// Closed when the node stops: its next start reads everything from the store.
    pub(super) tasks: TaskTracker,
}

impl Reading {
    /// Takes what is in the inbox, and ends when its queues were told. Whether there may be more.
    pub(super) async fn run(self) -> bool {
        let op = Op::Inbox(InboxOp { owner: self.owner, limit: INBOX_STEP });
        let answer = self.journal.ask_until_answered(self.journal.idlest(), op);
        tokio::pin!(answer);
        let answer = loop {
            match tokio::time::timeout(LOOK_EVERY, &mut answer).await {
                Ok(answer) => break answer,
                Err(_) if self.tasks.is_closed() => return false,
                Err(_) => {}
            }
        };
        let shard = self.owner.shard;
        match answer {
            Some(Ok(OpResult::Inbox(taken))) => {
                let is_more = taken.rows >= INBOX_STEP;
                self.shards.waker.wake_all(&taken.wakes);
                self.hand_out(taken).await;
                return is_more;
            }
            Some(Ok(OpResult::FenceLost(shard))) => self.shards.waker.fence_lost(shard),
            Some(Ok(_)) => {}
            // Nothing was taken. Upkeep's sweep wakes the shard again.
            Some(Err(error)) => tracing::warn!(shard = shard.0, %error, "inbox not read"),
            None => {
                tracing::error!(
                    shard = shard.0,
                    "not known what was taken from an inbox: its queues load anew"
                );
                self.load_anew().await;
            }
        }
        false
    }

    async fn hand_out(&self, taken: InboxTaken) {
        let mut by_queue: HashMap<String, Arrivals> = HashMap::new();
        let born = taken.born.into_iter().map(|entry| (Arrival::Born, entry));
        let unblocked = taken.unblocked.into_iter().map(|entry| (Arrival::Unblocked, entry));
        for (arrival, entry) in born.chain(unblocked) {
            by_queue.entry(entry.queue.clone()).or_default().push((arrival, entry));
        }
        let mut pause = PAUSE_MIN;
        let mut is_again = false;
        loop {
            let told = by_queue.into_iter();
            by_queue = told.filter_map(|(name, entries)| self.tell(name, entries, is_again)).collect();
            if by_queue.is_empty() || self.tasks.is_closed() {
                return;
            }
            is_again = true;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Tells a queue what arrived; all of it back when that must be tried again.
    fn tell(&self, name: String, entries: Arrivals, is_again: bool) -> Option<(String, Arrivals)> {
        let mut queue = self.shards.queue(&name);
        if is_again && let Ok(known) = &queue {
            // The try before made it known, and may have found no supervisor to start it.
            queue = self.shards.start(known).map(|()| known.clone());
        }
        // A queue that is loading, or starts now, reads these jobs with its load, and hears of them again here: it
        // must not count them twice.
        match queue {
            Ok(queue) => {
                if !queue.tell(QueueOp::Arrived(entries)) {
                    tracing::warn!(queue.name = name, "no room for arrivals: the queue loads anew");
                    self.restart(&queue);
                }
                None
            }
            Err(AskError::Refused(why)) => {
                tracing::error!(queue.name = name, why, "a queue was not started");
                None
            }
            Err(error) => {
                tracing::warn!(queue.name = name, %error, "arrivals wait for their queue");
                Some((name, entries))
            }
        }
    }

    /// Has each queue of the shard read all it knows, also those that came into being with what was taken.
    async fn load_anew(&self) {
        for queue in self.shards.queues.all() {
            if queue.shard() == self.owner.shard {
                self.restart(&queue);
            }
        }
        let mut pause = PAUSE_MIN;
        while !self.tasks.is_closed() {
            match self.shards.parts.store.queues(self.owner.shard).await {
                Ok(rows) => {
                    for row in rows {
                        if let Err(error) = self.shards.queue(&row.name) {
                            tracing::warn!(queue.name = row.name, %error, "not started");
                        }
                    }
                    return;
                }
                Err(error) => tracing::warn!(shard = self.owner.shard.0, %error, "queues not read"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn restart(&self, queue: &crate::actors::queue::handle::QueueHandle) {
        if let Err(error) = self.shards.restart_queue(queue) {
            // Its supervisor is down, and starts it again.
            tracing::warn!(queue.name = %queue.name(), %error, "not restarted");
        }
    }
}
