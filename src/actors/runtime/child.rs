//! One child as its supervisor keeps it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ractor::ActorCell;
use tokio::sync::oneshot;

use super::directory::Slot;
use super::restarts::RestartLog;
use super::spec::ChildSpec;
use super::supervisor::SupervisorError;

/// A supervisor gave up; its children are stopped.
#[derive(Debug, thiserror::Error)]
#[error("child \"{child}\" failed {failures} times in {window:?}: {reason}")]
pub(super) struct Escalated {
    pub(super) child: String,
    pub(super) failures: usize,
    pub(super) window: Duration,
    pub(super) reason: String,
}

/// Where the end of a child is told.
pub(super) type StopReply = oneshot::Sender<Result<(), SupervisorError>>;
/// A child, by its order, and why it failed.
pub(super) type Failure = (u64, String);

/// What a child is being stopped for.
pub(super) enum AfterStop {
    /// For good; these wait for it.
    Remove(Vec<StopReply>),
    /// For a fresh incarnation.
    Restart,
}

/// Where a child is in its life.
pub(super) enum Phase {
    /// Down, to be started: after a pause, or with the sibling it stands on.
    Waiting,
    /// Started.
    Up(ActorCell),
    /// Told to stop.
    Stopping(ActorCell, AfterStop),
    /// Down, failed too often.
    Quarantined,
}

/// One child, over all its incarnations.
pub(super) struct Child {
    pub(super) spec: ChildSpec,
    pub(super) slot: Arc<Slot>,
    pub(super) phase: Phase,
    pub(super) incarnation: u64,
    /// When the latest start began.
    pub(super) since: Instant,
    /// Failures in a row.
    pub(super) failures: u32,
    /// Times in a row it was quarantined.
    pub(super) quarantines: u32,
    pub(super) log: RestartLog,
    pub(super) last_failure: Option<String>,
}

impl Child {
    /// A child that has not been started yet.
    pub(super) fn new(spec: ChildSpec, slot: Arc<Slot>) -> Self {
        Self {
            spec,
            slot,
            phase: Phase::Waiting,
            incarnation: 0,
            since: Instant::now(),
            failures: 0,
            quarantines: 0,
            log: RestartLog::default(),
            last_failure: None,
        }
    }

    /// Forgets its failures.
    pub(super) fn forgive(&mut self) {
        self.failures = 0;
        self.quarantines = 0;
        self.log.clear();
    }
}
