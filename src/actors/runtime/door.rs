//! The bounded way into an actor: a queue with a limit and a depth, and a bell that wakes the actor once a batch.
//!
//! ractor's mailbox has no bound and no length, so it carries control only. The queue belongs to whoever builds
//! the actor and outlives its incarnations: what waits when an actor panics is picked up by the next one.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::doorbell::Doorbell;

/// Ops taken in one handler call: enough for a good batch, few enough that control, supervision and stop get
/// their turn within a millisecond or two.
pub const DRAIN_MAX: usize = 1024;

type Bell = Arc<dyn Fn() + Send + Sync>;

/// Why an op did not get through a door; the op comes back to its sender.
#[derive(Debug, thiserror::Error)]
pub enum DoorError<Op> {
    /// As many ops wait as the door admits: shed load, or try again later.
    #[error("door is full")]
    Full(Op),
    /// The receiver was dropped for good: nobody will ever take the op.
    #[error("door is closed")]
    Closed(Op),
}

impl<Op> DoorError<Op> {
    /// The op that was refused.
    pub fn into_op(self) -> Op {
        match self {
            Self::Full(op) | Self::Closed(op) => op,
        }
    }
}

/// What one [`DoorReceiver::answer`] took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// How many ops were moved out.
    pub taken: usize,
    /// Ops are left; the bell has been rung again for them.
    pub more: bool,
}

struct Frame {
    doorbell: Doorbell,
    bell: Mutex<Option<Bell>>,
    high_water: AtomicUsize,
}

impl Frame {
    fn call_bell(&self) {
        // Cloned out of the lock: a bell may do anything, even send through this same door.
        let bell = lock(&self.bell).clone();
        if let Some(bell) = bell {
            bell();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here leaves its value half changed, so a panic elsewhere spoils nothing.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The sender's side: cheap to clone, never waits, stays valid while the actor behind it is restarted.
pub struct Door<Op> {
    queue: mpsc::Sender<Op>,
    frame: Arc<Frame>,
}

/// The receiver's side: kept by whoever builds the actor, lent to each of its incarnations.
pub struct DoorReceiver<Op> {
    queue: Arc<Mutex<mpsc::Receiver<Op>>>,
    frame: Arc<Frame>,
}

/// A door that admits `capacity` waiting ops (at least one).
pub fn door<Op>(capacity: usize) -> (Door<Op>, DoorReceiver<Op>) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    let frame = Arc::new(Frame {
        doorbell: Doorbell::new(),
        bell: Mutex::new(None),
        high_water: AtomicUsize::new(0),
    });
    let door = Door { queue: sender, frame: Arc::clone(&frame) };
    (door, DoorReceiver { queue: Arc::new(Mutex::new(receiver)), frame })
}

impl<Op> Door<Op> {
    /// Leaves `op` for the actor and wakes it if it is not already woken; never waits.
    ///
    /// # Errors
    /// The op comes back when the door is full, or closed for good.
    pub fn try_send(&self, op: Op) -> Result<(), DoorError<Op>> {
        self.queue.try_send(op).map_err(|error| match error {
            TrySendError::Full(op) => DoorError::Full(op),
            TrySendError::Closed(op) => DoorError::Closed(op),
        })?;
        let depth = self.depth();
        if depth > self.frame.high_water.load(Ordering::Relaxed) {
            self.frame.high_water.fetch_max(depth, Ordering::Relaxed);
        }
        self.ring();
        Ok(())
    }

    /// Ops waiting now.
    pub fn depth(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Ops the door admits.
    pub fn capacity(&self) -> usize {
        self.queue.max_capacity()
    }

    /// The most ops that ever waited.
    pub fn high_water(&self) -> usize {
        self.frame.high_water.load(Ordering::Relaxed)
    }

    /// How full the door is, from 0 to 1: bulk work is refused before single ops are.
    #[expect(clippy::cast_precision_loss, reason = "a ratio of two small counts")]
    pub fn fill(&self) -> f64 {
        self.depth() as f64 / self.capacity() as f64
    }

    /// Wakes the actor unless a wake-up is already under way.
    pub fn ring(&self) {
        self.frame.doorbell.ring(|| self.frame.call_bell());
    }
}

impl<Op> DoorReceiver<Op> {
    /// Makes `bell` the way to wake the actor, and rings it: what waited for, or was left by, an earlier
    /// incarnation is picked up. Called by each incarnation when it starts.
    pub fn attach(&self, bell: impl Fn() + Send + Sync + 'static) {
        *lock(&self.frame.bell) = Some(Arc::new(bell));
        self.frame.doorbell.ring_anew(|| self.frame.call_bell());
    }

    /// Takes the wake-up and moves up to `limit` ops into `into`, oldest first; rings again if ops are left, so
    /// that control messages get their turn in between.
    pub fn answer(&self, limit: usize, into: &mut Vec<Op>) -> Drained {
        self.frame.doorbell.answer();
        let mut queue = lock(&self.queue);
        let mut taken = 0;
        while taken < limit
            && let Ok(op) = queue.try_recv()
        {
            into.push(op);
            taken += 1;
        }
        let more = !queue.is_empty();
        drop(queue);
        if more {
            self.frame.doorbell.ring(|| self.frame.call_bell());
        }
        Drained { taken, more }
    }

    /// Ops waiting now.
    pub fn len(&self) -> usize {
        lock(&self.queue).len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        lock(&self.queue).is_empty()
    }
}

impl<Op> Clone for Door<Op> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), frame: Arc::clone(&self.frame) }
    }
}

impl<Op> Clone for DoorReceiver<Op> {
    fn clone(&self) -> Self {
        Self { queue: Arc::clone(&self.queue), frame: Arc::clone(&self.frame) }
    }
}

impl<Op> fmt::Debug for Door<Op> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door")
            .field("depth", &self.depth())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

impl<Op> fmt::Debug for DoorReceiver<Op> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DoorReceiver").field("len", &self.len()).finish_non_exhaustive()
    }
}
