//! What upkeep knows of the store, for readiness.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// Whether the store answers, and why not.
#[derive(Debug, Default)]
pub struct StoreHealth {
    fault: Mutex<Option<String>>,
    /// A batch was not written, and since then nothing has shown that the next one would be.
    suspect: AtomicBool,
}

impl StoreHealth {
    /// Why the store is not ready, if it is not.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, fault: Option<String>) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    pub(super) fn set_suspect(&self, is_suspect: bool) {
        self.suspect.store(is_suspect, Ordering::Relaxed);
    }
}
