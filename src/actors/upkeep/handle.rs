//! What upkeep knows of the store, for readiness.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use crate::domain::Timestamp;

/// Whether the store answers, and why not.
#[derive(Debug, Default)]
pub struct StoreHealth {
    fault: Mutex<Option<String>>,
    /// Microseconds of the store's clock; 0 before the first round.
    last_good: AtomicI64,
    /// A batch was not written, and since then nothing has shown that the next one would be.
    suspect: AtomicBool,
}

impl StoreHealth {
    /// Why the store is not ready, if it is not.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When a round, and with it a heartbeat, was last written.
    #[must_use]
    pub fn last_good(&self) -> Option<Timestamp> {
        Some(self.last_good.load(Ordering::Relaxed)).filter(|micros| *micros != 0).map(Timestamp)
    }

    pub(super) fn set(&self, fault: Option<String>, now: Timestamp) {
        if fault.is_none() {
            self.last_good.store(now.0, Ordering::Relaxed);
        }
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    pub(super) fn set_suspect(&self, is_suspect: bool) {
        self.suspect.store(is_suspect, Ordering::Relaxed);
    }
}
