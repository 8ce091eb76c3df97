//! The wake-up protocol of a [`Door`](super::Door): push, then ring once; answer first, then drain.
//!
//! ```text
//! sender    push(op)          if !rung.swap(true)  { bell() }
//! receiver  rung.swap(false)  drain
//! ```
//! Whoever of the two swaps comes first in the order of `rung`, no wake-up is lost: either the sender sees
//! `false` and rings again, or the receiver's swap reads the sender's `true`, and with it the push before it.
//! A plain store reads nothing: it can overwrite the sender's `true` and drain without having seen the push.
//! `tests/runtime_door_loom.rs` shows both.

use super::sync::{AtomicBool, Ordering};

/// Whether a wake-up is under way that its receiver has not answered yet.
#[derive(Debug)]
pub(super) struct Doorbell {
    pub(super) rung: AtomicBool,
}

impl Doorbell {
    /// A bell nobody has rung.
    pub(super) fn new() -> Self {
        Self { rung: AtomicBool::new(false) }
    }

    /// Calls `bell` unless a wake-up is already under way. To be called after the push.
    pub(super) fn ring(&self, bell: impl FnOnce()) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            bell();
        }
    }

    /// Calls `bell` even if a wake-up was under way: that one may have gone to a receiver that is dead.
    pub(super) fn ring_anew(&self, bell: impl FnOnce()) {
        self.rung.swap(true, Ordering::SeqCst);
        bell();
    }

    /// Takes the wake-up. To be called before the drain.
    pub(super) fn answer(&self) {
        self.rung.swap(false, Ordering::SeqCst);
    }
}
