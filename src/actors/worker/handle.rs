//! How others speak to the in-process worker: through its door, which outlives its incarnations.

use crate::actors::runtime::{Door, DoorReceiver, door};

use super::messages::SessionOp;

/// Room at a session's door beyond one assignment, one report and one acknowledgement for each slot.
const MARGIN: usize = 4_096;

/// A session's door, with room for everything that its slots can bring at once.
#[must_use]
pub fn session_door(concurrency: usize) -> (Door<SessionOp>, DoorReceiver<SessionOp>) {
    door(concurrency.saturating_mul(4).saturating_add(MARGIN))
}
