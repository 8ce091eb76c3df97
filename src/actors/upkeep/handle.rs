//! What upkeep knows of the store, for readiness.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicI64, Ordering},
};

use crate::domain::Timestamp;

/// Whether the store answers, and why not.
#[derive(Debug, Default)]
pub struct StoreHealth {
    fault: Mutex<Option<String>>,
    /// Microseconds of the store's clock; 0 before the first round.
    last_good: AtomicI64,
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
}
