//! The node's events, as they happen: over a WebSocket, or as server-sent events.
//!
//! ```text
//! stream.hello       first: the stream's id and its newest seq
//! job.snapshot …     next, for each job that a topic names: what it is, and the lines of its log (`follow`)
//! stream.reset       next, when the reader asked for a place that is gone: read the state anew
//! job.started …      events, seq dense unless topics narrow
//! stream.merged      how many there were of each kind, instead of events: there are too many for this reader
//! stream.heartbeat   when nothing happened for 15 s
//! ```
//! A reader reads the hub's ring at its own pace, so a slow one costs the node nothing. One that falls far
//! behind is told counts, and is closed when that happens again and again; one that takes nothing for 6 s is
//! closed, with a close frame if it reads on within 8 s more. What is kept for a reader is a place in the ring, a
//! buffer of 16 KiB (at most 1 MiB), and what its socket holds.

mod feed;
mod follow;
mod sse;
mod ws;

pub use feed::{Control, StreamMessage};
pub(in crate::http) use sse::__path_sse;
pub use sse::sse;
pub(in crate::http) use ws::__path_ws;
pub use ws::ws;
