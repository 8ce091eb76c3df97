//! One batch, from the ops to the answers.
//!
//! Built with `--cfg ganger_broken="ack_before_commit"`, submissions are acknowledged before they are durable: the
//! crash tests must notice it (`tests/run --broken`).

use std::{sync::Arc, time::Duration};

use rand::RngExt as _;

use super::{
    handle::LaneHealth,
    messages::{Entry, Outcome},
};
use crate::{
    actors::platform::AskError,
    store::{CommitError, Op, OpResult, Settled, Store, StoreError},
};

/// The most bytes of payloads and results in one transaction: beyond it the commit, not the round trip,
/// is what takes time.
pub(super) const BATCH_BYTES_MAX: usize = 4 << 20;

/// How long a lane waits between two questions about a lost commit.
const SETTLE_PAUSE: Duration = Duration::from_millis(100);

/// How long it may be open what became of a commit before the lane turns away what it is sent: most are settled at
/// the first question, and the rest within a few, while the server ends the lost connection.
const SETTLE_PATIENCE: Duration = Duration::from_secs(1);

/// What a passing failure of the store tells its callers to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Writes the entries, in one transaction unless they are too large for one, and answers them. Ends only
/// when every entry has its answer: a commit whose answer was lost is asked after until it is known.
pub(super) async fn run_batch(store: Arc<dyn Store>, lane: u16, health: LaneHealth, entries: Vec<Entry>) {
    let mut part: Vec<Entry> = Vec::with_capacity(entries.len());
    let mut bytes = 0;
    for entry in entries {
        let size = entry.op.as_ref().map_or(0, weight);
        if !part.is_empty() && bytes + size > BATCH_BYTES_MAX {
            write(&store, lane, &health, std::mem::take(&mut part)).await;
            bytes = 0;
        }
        bytes += size;
        part.push(entry);
    }
    write(&store, lane, &health, part).await;
}

async fn write(store: &Arc<dyn Store>, lane: u16, health: &LaneHealth, mut entries: Vec<Entry>) {
    #[cfg(ganger_broken = "ack_before_commit")]
    acknowledge_early(&mut entries);
    let ops: Vec<Op> = entries.iter_mut().filter_map(|entry| entry.op.take()).collect();
    let results = if ops.is_empty() { Ok(Vec::new()) } else { commit(store, lane, health, &ops).await };
    match results {
        Ok(results) => {
            let mut results = results.into_iter();
            for mut entry in entries.drain(..) {
                if let Some(barrier) = entry.barrier.take() {
                    let _gone = barrier.send(());
                } else if let Some(result) = results.next() {
                    entry.answer(outcome_of(result));
                }
                // A store that answers fewer results than ops leaves entries to be dropped: their queues
                // hear that the outcome is not known.
            }
        }
        Err(error) => {
            tracing::warn!(%error, ops = ops.len(), "a batch was not written");
            if let StoreError::Unavailable(why) = &error {
                health.failed(why.clone());
            }
            for mut entry in entries.drain(..) {
                match entry.barrier.take() {
                    Some(barrier) => {
                        let _gone = barrier.send(());
                    }
                    None => entry.answer(Err(ask_error(&error))),
                }
            }
        }
    }
}

/// Tells submitters that their jobs were made, which is about to become true. Repeats of a key that this process knows
/// are left alone: their answer is the first job, and a wrong one would be noticed for another reason.
#[cfg(ganger_broken = "ack_before_commit")]
fn acknowledge_early(entries: &mut [Entry]) {
    use super::messages::Reply;
    use crate::{
        domain::{Clock, JobState},
        store::ops::{LiveEntry, Submitted},
    };
    static KNOWN: std::sync::Mutex<std::collections::BTreeSet<String>> =
        std::sync::Mutex::new(std::collections::BTreeSet::new());
    let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for entry in entries {
        let Some(Op::Submit(submit)) = &entry.op else { continue };
        let keys = submit.jobs.iter().filter_map(|job| job.idempotency.as_ref());
        let is_repeat = keys.fold(false, |repeat, key| !known.insert(key.key.clone()) || repeat);
        if is_repeat || !matches!(entry.reply, Some(Reply::Caller(_))) {
            continue;
        }
        let made = submit.jobs.iter().map(|job| {
            let (state, at) = (JobState::Queued, Clock::local());
            let (queue, kind) = (job.queue.clone(), job.kind.clone());
            let entry = LiveEntry { job: job.id, queue, kind, state, priority: job.priority, run_at: at };
            Submitted::Made { entry, created_at: at, blocked_reason: None }
        });
        let made = made.collect();
        if let Some(reply) = entry.reply.take() {
            reply.send(Ok(OpResult::Submitted(made)));
        }
    }
}

fn outcome_of(result: OpResult) -> Outcome {
    match result {
        OpResult::Refused(why) => Err(AskError::Refused(why)),
        other => Ok(other),
    }
}

/// A store's error as its caller's caller hears it.
pub(crate) fn ask_error(error: &StoreError) -> AskError {
    match error {
        StoreError::Unavailable(_) | StoreError::Conflict(_) => {
            AskError::Unavailable { reason: "the store is out of reach".to_owned(), retry_after: RETRY_AFTER }
        }
        StoreError::Refused(why) => AskError::Refused(why.clone()),
    }
}

async fn commit(
    store: &Arc<dyn Store>,
    lane: u16,
    health: &LaneHealth,
    ops: &[Op],
) -> Result<Vec<OpResult>, StoreError> {
    let told = ops.iter().try_for_each(|op| crate::crash_point::pass("before_commit", op.name()));
    told.map_err(|injected| StoreError::Unavailable(injected.to_string()))?;
    loop {
        let began = std::time::Instant::now();
        let done = store.commit(lane, ops).await;
        crate::metrics::batch(ops.len(), began.elapsed(), done.is_ok());
        match done {
            Ok(results) => return Ok(results),
            Err(CommitError::Failed(error)) => return Err(error),
            Err(CommitError::Unknown(unknown)) => {
                tracing::warn!(cause = %unknown.cause, "the answer of a commit was lost");
                let lost_at = std::time::Instant::now();
                let _free = Freed(health);
                loop {
                    match store.settle(&unknown).await {
                        Ok(Settled::Committed) => return Ok(unknown.results),
                        Ok(Settled::RolledBack) => break,
                        Err(error) => {
                            health.set_stuck(lost_at.elapsed() > SETTLE_PATIENCE);
                            tracing::warn!(%error, "not yet known what became of a commit");
                            let jitter = rand::rng().random_range(0.5..1.5);
                            tokio::time::sleep(SETTLE_PAUSE.mul_f64(jitter)).await;
                        }
                    }
                }
            }
        }
    }
}

/// Sees to it that a lane that knows again, or whose batch has panicked, takes what it is sent.
struct Freed<'a>(&'a LaneHealth);

impl Drop for Freed<'_> {
    fn drop(&mut self) {
        self.0.set_stuck(false);
    }
}

/// About how many bytes an op brings into a transaction.
fn weight(op: &Op) -> usize {
    match op {
        Op::Submit(submit) => submit.jobs.iter().map(|job| job.payload.text().len() + 400).sum(),
        Op::End(end) => match &end.kind {
            crate::store::ops::EndKind::Completed { result: Some(result) } => result.text().len() + 200,
            _ => 400,
        },
        Op::Update(op) => op.patch.payload.as_ref().map_or(0, |payload| payload.text().len()) + 400,
        Op::Replay(op) => op.patch.payload.as_ref().map_or(0, |payload| payload.text().len()) + 400,
        Op::Log(op) => op.lines.iter().map(|line| line.message.len() + 200).sum(),
        Op::Settings(_) | Op::Audit(_) => 1_000,
        Op::Grant(_)
        | Op::Cancel(_)
        | Op::Retry(_)
        | Op::Forget(_)
        | Op::Inbox(_)
        | Op::Park(_)
        | Op::Unpark(_) => 200,
    }
}
