//! The face of the journal.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::oneshot;

use super::messages::{Entry, Outcome, QueueTicket, Reply};
use crate::{
    actors::{
        platform::AskError,
        runtime::{Door, DoorError},
    },
    store::Op,
};

/// The most ops that wait at one lane: eight full batches. Beyond it callers hear `Overloaded`.
pub const LANE_DOOR_MAX: usize = 8_192;

/// Sends ops to the lanes.
#[derive(Debug, Clone)]
pub struct JournalHandle {
    lanes: Arc<[Door<Entry>]>,
    health: Arc<[LaneHealth]>,
}

/// What a lane has found out of the store. Cheap to clone; the same for each incarnation of the lane.
#[derive(Debug, Clone, Default)]
pub struct LaneHealth(Arc<(AtomicBool, Mutex<Option<String>>)>);

impl LaneHealth {
    /// Whether it asks in vain what became of a commit: what it is sent meanwhile would wait as long as the store is
    /// away, so it is refused at once.
    pub(super) fn set_stuck(&self, is_stuck: bool) {
        self.0.0.store(is_stuck, Ordering::Relaxed);
    }

    fn is_stuck(&self) -> bool {
        self.0.0.load(Ordering::Relaxed)
    }

    /// A batch was not written because of the store.
    pub(super) fn failed(&self, why: String) {
        *self.0.1.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    fn take_fault(&self) -> Option<String> {
        self.0.1.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl JournalHandle {
    /// Over these lanes; at least one.
    #[must_use]
    pub fn new(lanes: Vec<Door<Entry>>) -> Self {
        let health = lanes.iter().map(|_| LaneHealth::default()).collect();
        Self { lanes: lanes.into(), health }
    }

    /// Where the lane of this number tells what it found out of the store.
    #[must_use]
    pub fn health(&self, lane: usize) -> LaneHealth {
        self.health.get(lane).cloned().unwrap_or_default()
    }

    /// Why the store has not taken what it was given since this was asked last, if it has not. A heartbeat may find
    /// room where a batch finds none.
    #[must_use]
    pub fn take_fault(&self) -> Option<String> {
        let stuck = || "it is not known what became of a commit".to_owned();
        let of_lane = |lane: &LaneHealth| lane.take_fault().or_else(|| lane.is_stuck().then(stuck));
        self.health.iter().filter_map(of_lane).reduce(|first, _| first)
    }

    /// How full the fullest lane is, from 0 to 1.
    #[must_use]
    pub fn fill(&self) -> f64 {
        self.lanes.iter().map(Door::fill).fold(0.0, f64::max)
    }

    /// The lane that has least to do: ops of one drain go together, which makes good batches.
    #[must_use]
    pub fn idlest(&self) -> usize {
        let lanes = self.lanes.iter().zip(self.health.iter()).enumerate();
        let idlest = lanes.min_by_key(|(_, (door, health))| (health.is_stuck(), door.depth()));
        idlest.map_or(0, |(lane, _)| lane)
    }

    /// The lane of an idempotency key: repeats of one submission never race one another.
    #[must_use]
    pub fn lane_of_key(&self, tenant: &str, key: &str) -> usize {
        let mut hash = DefaultHasher::new();
        (tenant, key).hash(&mut hash);
        usize::try_from(hash.finish() % self.lanes.len().max(1) as u64).unwrap_or(0)
    }

    /// Writes an op of a queue. It always gets an answer, at `ticket`.
    pub fn write(&self, lane: usize, op: Op, reply: Option<Reply>, ticket: Option<QueueTicket>) {
        let entry = Entry { op: Some(op), reply, ticket, barrier: None };
        let lane = lane % self.lanes.len().max(1);
        if self.health.get(lane).is_some_and(LaneHealth::is_stuck) {
            return entry.answer(Err(away()));
        }
        let refused = match self.lanes.get(lane) {
            Some(door) => door.try_send(entry).err().map(DoorError::into_op),
            None => Some(entry),
        };
        if let Some(entry) = refused {
            entry.answer(Err(overloaded()));
        }
    }

    /// Writes an op that no queue waits for, and waits for its outcome.
    ///
    /// # Errors
    /// [`AskError::TimedOut`] after `deadline`: it may have been written.
    pub async fn ask(&self, lane: usize, op: Op, deadline: Duration) -> Outcome {
        let (caller, answer) = oneshot::channel();
        self.write(lane, op, Some(Reply::Caller(caller)), None);
        match tokio::time::timeout(deadline, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(AskError::TimedOut),
        }
    }

    /// Writes an op whose answer must not be missed, and waits for its outcome however long it takes. `None` when
    /// the op was dropped unanswered: it may have been written.
    pub async fn ask_until_answered(&self, lane: usize, op: Op) -> Option<Outcome> {
        let (caller, answer) = oneshot::channel();
        self.write(lane, op, Some(Reply::Caller(caller)), None);
        answer.await.ok()
    }

    /// Waits until everything that was sent before is answered, on every lane.
    ///
    /// # Errors
    /// [`AskError::TimedOut`] after `deadline`, [`AskError::Overloaded`] when a lane's door is full.
    pub async fn barrier(&self, deadline: Duration) -> Result<(), AskError> {
        let mut answers = Vec::with_capacity(self.lanes.len());
        for door in self.lanes.iter() {
            let (barrier, answer) = oneshot::channel();
            let entry = Entry { op: None, reply: None, ticket: None, barrier: Some(barrier) };
            door.try_send(entry).map_err(|_| overloaded())?;
            answers.push(answer);
        }
        let all = futures_util::future::join_all(answers);
        tokio::time::timeout(deadline, all).await.map_err(|_| AskError::TimedOut)?;
        Ok(())
    }
}

fn away() -> AskError {
    AskError::Unavailable {
        reason: "it is not known what became of a commit, and the store is out of reach".to_owned(),
        retry_after: Duration::from_secs(1),
    }
}

fn overloaded() -> AskError {
    AskError::Overloaded { retry_after: Duration::from_secs(1) }
}
