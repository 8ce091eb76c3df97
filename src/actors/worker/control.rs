//! What operators want of a worker; outlives its sessions.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use serde::{Deserialize, Serialize};

/// What an operator can ask of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steer {
    /// Take jobs.
    Resume,
    /// Take no more jobs; what runs goes on.
    Cordon,
    /// The same, to be stopped when nothing runs any longer.
    Drain,
}

/// How a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WorkerStatus {
    /// Has no session yet.
    Starting,
    /// Takes jobs.
    Running,
    /// Takes none; what it runs goes on.
    Cordoned,
    /// Takes none, and stops when nothing runs any longer.
    Draining,
    /// Drained, and idle.
    Stopped,
    /// Its session ended, and none has come since.
    Lost,
}

/// What is wanted of a worker, and whether it has come to it.
#[derive(Debug, Default)]
pub struct WorkerControl {
    wish: AtomicU8,
    is_drained: AtomicBool,
    is_obeyed: AtomicBool,
}

impl WorkerControl {
    /// Asks something of the worker; its session hears so by a message, and looks here anyway.
    pub fn steer(&self, steer: Steer) {
        self.is_drained.store(false, Ordering::Release);
        self.is_obeyed.store(false, Ordering::Release);
        self.wish.store(steer as u8, Ordering::Release);
    }

    /// What is wanted.
    #[must_use]
    pub fn wish(&self) -> Steer {
        match self.wish.load(Ordering::Acquire) {
            1 => Steer::Cordon,
            2 => Steer::Drain,
            _ => Steer::Resume,
        }
    }

    /// Whether it takes no more jobs.
    #[must_use]
    pub fn is_cordoned(&self) -> bool {
        self.wish() != Steer::Resume
    }

    /// Its session does as is wanted: it takes jobs, or no queue has a slot of it any longer.
    pub fn note_obeyed(&self) {
        self.is_obeyed.store(true, Ordering::Release);
    }

    /// Whether its session does as is wanted.
    #[must_use]
    pub fn is_obeyed(&self) -> bool {
        self.is_obeyed.load(Ordering::Acquire)
    }

    /// It runs nothing any longer; whether that is what was asked, and new.
    pub fn note_idle(&self) -> bool {
        self.wish() == Steer::Drain && !self.is_drained.swap(true, Ordering::AcqRel)
    }

    /// How the worker is doing.
    #[must_use]
    pub fn status(&self) -> WorkerStatus {
        match self.wish() {
            Steer::Resume => WorkerStatus::Running,
            Steer::Cordon => WorkerStatus::Cordoned,
            Steer::Drain if self.is_drained.load(Ordering::Acquire) => WorkerStatus::Stopped,
            Steer::Drain => WorkerStatus::Draining,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drained_worker_is_stopped_until_it_is_resumed() {
        let control = WorkerControl::default();
        assert!(!control.note_idle(), "nobody asked");
        assert_eq!((control.status(), control.is_cordoned()), (WorkerStatus::Running, false));
        control.steer(Steer::Cordon);
        assert!(!control.note_idle());
        assert_eq!((control.status(), control.is_cordoned()), (WorkerStatus::Cordoned, true));
        control.steer(Steer::Drain);
        assert_eq!(control.status(), WorkerStatus::Draining);
        assert!(control.note_idle() && !control.note_idle(), "told once");
        assert_eq!((control.status(), control.is_cordoned()), (WorkerStatus::Stopped, true));
        control.steer(Steer::Resume);
        assert_eq!(control.status(), WorkerStatus::Running);
    }
}
