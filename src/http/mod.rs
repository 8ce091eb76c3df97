//! The thin HTTP layer: checks what comes in, asks the actors, reads the store, says it in JSON.
//!
//! ```text
//! edge      request id, security headers, panics, log
//! frontier  secrets in URLs, origins, CORS
//! guard     credentials, rights, room for the request
//! handler   extract → one call → answer
//! ```
//! Changes run in tasks of their own, so that a caller that goes away does not stop them half-way;
//! reads have deadlines. Every error is a [`problem`].

/// Who may do what.
pub mod access;
/// The audit log.
pub mod audit;
/// The demo workflow.
pub mod demo;
/// Dead letters.
pub mod dlq;
mod docs;
mod edge;
/// What a request brings.
pub mod extract;
/// Jobs.
pub mod jobs;
/// Every bound, with its reason.
pub mod limits;
mod openapi;
/// Changes of many jobs.
pub mod operations;
/// The counts.
pub mod overview;
/// What orchestrators and monitors ask.
pub mod probes;
/// The one shape of an error.
pub mod problem;
/// Queues.
pub mod queues;
/// Every route.
pub mod router;
/// Connections.
pub mod serve;
/// What every handler works with.
pub mod state;
/// Events as they happen.
pub mod stream;
/// The supervision tree.
pub mod supervision;
/// Tickets for streams.
pub mod tickets;
/// Workers.
pub mod workers;

pub use access::{AuthConfig, Digest};
pub use limits::HttpLimits;
pub use router::app;
pub use serve::{listen, serve};
pub use state::{DemoWorkflow, HttpParts, HttpState, PayloadCheck};

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
