//! The composition root: the only place that knows everything. Builds a node from its settings, and takes
//! it down again.
//!
//! ```text
//! node (rest_for_one) ─ store ─ lane-0 … lane-n, upkeep
//!                     ─ shards ─ 0 … 127 ─ inbox, queue "mail" ─ leases-0 … leases-3 ─ a lease per active job
//!                     │                                        ─ queue
//!                     ─ workers ─ local
//!                     ─ console, the last: nothing stands on it, so its end disturbs nobody
//! ```

mod demo;
mod history;
mod identity;
mod node;
mod tree;

pub use demo::{Demo, follow_demo};
pub use node::{Node, NodeBuilder};
