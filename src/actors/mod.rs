//! The supervised actors, and the one face they show to the layers above.

/// The console hub: every event of the node, in order.
pub mod console;
/// The face of the actors.
pub mod platform;
/// One queue.
pub mod queue;
