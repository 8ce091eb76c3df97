//! Counters are compared with the rows that they count, for as long as the node runs.
//!
//! Unfinished jobs one queue at a time, so that a node with many queues reads as much as one with few; finished
//! jobs all together and seldom, because that reads the whole of `outcome`. A wrong counter is put right in the
//! store, and the queue reads its counts anew.

use tokio::time::{Duration, Instant, sleep, timeout};

use super::state::Round;
use crate::{
    actors::queue::handle::QueueHandle,
    store::{StoreError, reconcile::Healed},
};

/// How long a round over all queues takes at least.
const ROUND_MIN: Duration = Duration::from_secs(10);
/// Between two queues.
const PAUSE: Duration = Duration::from_millis(200);
/// And as many times as long as counting the last one took: a fiftieth of a reader's time at most.
const PAUSE_SHARE: u32 = 50;
/// A queue that cannot be counted in this time is left until the next round.
const COUNT_DEADLINE: Duration = Duration::from_secs(20);
/// Each queue's memory is read anew once in so many rounds, whether or not something was wrong: a queue that is
/// never idle stands still for some milliseconds for it.
const MEMORY_ROUNDS: u64 = 60;
/// How often finished jobs are counted, and how long after the start first.
const ENDED_EVERY: Duration = Duration::from_hours(6);
const ENDED_FIRST: Duration = Duration::from_mins(10);

impl Round {
    /// Compares and heals until the node ends.
    pub(super) async fn reconcile(self) {
        let mut ended_at = Instant::now() + ENDED_FIRST;
        // A node that starts has enough to read.
        sleep(ROUND_MIN).await;
        for round in 0_u64.. {
            let began = Instant::now();
            for queue in self.shards.queues().all() {
                let began = Instant::now();
                self.reconcile_queue(&queue).await;
                if round % MEMORY_ROUNDS == MEMORY_ROUNDS - 1 {
                    queue.doubt_counts();
                }
                sleep(PAUSE.max(began.elapsed() * PAUSE_SHARE)).await;
            }
            if Instant::now() >= ended_at {
                ended_at = Instant::now() + ENDED_EVERY;
                let counted = timeout(COUNT_DEADLINE, self.store.reconcile_ended(self.shards.epochs())).await;
                self.healed(counted.unwrap_or_else(|_| Err(too_long())));
            }
            sleep(ROUND_MIN.saturating_sub(began.elapsed())).await;
        }
    }

    async fn reconcile_queue(&self, queue: &QueueHandle) {
        let Some(owner) = self.shards.epochs().iter().find(|owned| owned.shard == queue.shard()) else {
            return;
        };
        let counted = timeout(COUNT_DEADLINE, self.store.reconcile_live(*owner, queue.name())).await;
        self.healed(counted.unwrap_or_else(|_| Err(too_long())));
    }

    fn healed(&self, counted: Result<Vec<Healed>, StoreError>) {
        let healed = match counted {
            Ok(healed) => healed,
            Err(error) => {
                tracing::warn!(%error, "counters were not compared with their jobs");
                return;
            }
        };
        crate::metrics::counters_healed("store", healed.len() as u64);
        for one in healed {
            tracing::warn!(
                queue.name = one.queue,
                state = one.state.name(),
                by = one.by,
                "a wrong counter was healed"
            );
            if let Some(queue) = self.shards.queues().get(&one.queue) {
                queue.doubt_counts();
            }
        }
    }
}

fn too_long() -> StoreError {
    StoreError::Unavailable("counting took too long".to_owned())
}
