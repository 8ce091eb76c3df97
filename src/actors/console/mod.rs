//! The console hub: every event of the node in one dense order, kept for a while for those who resume.
//!
//! Owns the order and the ring. Does not own readers: each walks the ring at its own pace, so a slow one
//! costs nothing and is told to start anew when the ring has passed it. A lost message costs one event,
//! and readers are told of the gap. Restart policy: permanent; the ring outlives the actor.

/// What only those who follow a job hear.
pub mod details;
/// The face of the hub.
pub mod handle;
/// What is told.
pub mod messages;

mod actor;
mod pace;
mod state;
mod topics;

pub use actor::{HubActor, HubArgs};
pub use details::{DetailEvent, DetailReader};
pub use handle::{HubHandle, Merged, StreamItem, Subscription, hub};
pub use messages::StreamEvent;
pub use pace::{Pace, Paced};
pub use state::Told;
pub use topics::Topics;
