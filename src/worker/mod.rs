//! What a worker process needs: handlers, the attempt that runs them, and the built-in processors.
//!
//! In reading order: a [`Handler`] runs jobs of a type; a [`Registry`] knows them; a session hands over an
//! [`Assignment`], [`run_attempt`] runs it with a [`JobContext`] and answers an [`AttemptReport`]. The processors
//! of [`processors::builtin`] get what they need of the platform as the traits of [`Platform`], which `system`
//! implements; everything that leaves the process goes through the guard of [`Outbound`].
//!
//! Depends on `domain` only: no store, no actors, no HTTP server.

mod assignment;
mod attempt;
mod clock;
mod content;
mod context;
mod durable_file;
mod handler;
mod history;
mod job_error;
mod outbound;
mod outbox;
mod panics;
mod platform;
pub mod processors;
mod registry;
mod signature;
#[cfg(test)]
mod testing;

pub use assignment::Assignment;
pub use attempt::{
    AttemptControl, AttemptOutcome, AttemptReport, ERROR_MESSAGE_BYTES_MAX, RESULT_BYTES_MAX,
    STACK_TRACE_BYTES_MAX, TIMEOUT_MAX, run_attempt,
};
pub use clock::{Clock, system_clock};
pub use content::{
    ContentError, ContentHash, ContentReader, ContentRef, ContentStore, FileContent, sniff_content_type,
};
pub use context::{JobContext, JobNote, JobSink, LOG_LINE_BYTES_MAX, LogLevel, NullSink};
pub use handler::{Handler, JobOutput};
pub use history::{FinishedJob, History, HistoryError, HistoryFilter, HistoryPage, RemovalScope};
pub use job_error::JobError;
pub use outbound::{
    Download, GuardError, NameResolver, Outbound, OutboundAllow, OutboundAllowError, OutboundError,
    OutboundRequest, OutboundResponse, SystemResolver,
};
pub use outbox::{FileOutbox, Outbox};
pub use platform::{Platform, ProcessorSettings, SmtpSettings, SmtpUrlError};
pub use registry::Registry;
pub use signature::{WebhookSigner, WebhookSignerError};
