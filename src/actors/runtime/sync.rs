//! The atomics of [`Doorbell`](super::doorbell): `tests/runtime_door_loom.rs` includes that file over loom's.

pub(super) use std::sync::atomic::{AtomicBool, Ordering};
