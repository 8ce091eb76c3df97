//! Every bound of the HTTP layer, with its reason.

use std::time::Duration;

/// The most bytes of a body: a payload of 1 MiB, twice over for its escapes.
pub const BODY_BYTES_MAX: usize = 2 << 20;
/// The most that is read on of a body that is refused, so that its sender comes to read the answer.
pub const DISCARD_BYTES_MAX: usize = 16 << 20;
/// How long that may take.
pub const DISCARD_DEADLINE: Duration = Duration::from_secs(2);
/// How long a body may take to arrive: a slow writer must not hold a place among the requests.
pub const BODY_DEADLINE: Duration = Duration::from_secs(30);
/// How long a read of the store may take before the caller is told to come back.
pub const READ_DEADLINE: Duration = Duration::from_secs(5);
/// How long a change is waited for. It goes on behind the answer.
pub const CHANGE_DEADLINE: Duration = Duration::from_secs(30);
/// The size of a list's page when nothing is said.
pub const PAGE_DEFAULT: usize = 100;
/// The largest page.
pub const PAGE_MAX: usize = 1_000;
/// Jobs read at once while a page is put together.
pub const PAGE_STEP: usize = 200;
/// The most ids of a bulk operation: as many as are changed while the caller waits.
pub const BULK_IDS_MAX: usize = 10_000;
/// Rows of the audit log read at once: each may hold a payload before and after its change.
pub const AUDIT_STEP: usize = 50;
/// A page ends early past this many bytes of payloads and results: 1,000 jobs could hold 2 GiB.
pub const PAGE_BYTES_MAX: usize = 32 << 20;
/// The longest text of a filter.
pub const FILTER_BYTES_MAX: usize = 255;
/// The longest reason of a cancel.
pub const REASON_BYTES_MAX: usize = 1_000;
/// The longest path of an actor.
pub const ACTOR_PATH_BYTES_MAX: usize = 1_024;
/// The longest wait for a job's end.
pub const WAIT_SECONDS_MAX: f64 = 60.0;
/// The wait for a job's end when nothing is said.
pub const WAIT_SECONDS_DEFAULT: f64 = 30.0;
/// Live tickets: a console asks for one a connection, and they live 30 s.
pub const TICKETS_MAX: usize = 4_096;
/// How long a ticket holds.
pub const TICKET_TTL: Duration = Duration::from_secs(30);
/// How long the head of a request may take, and an idle connection is kept.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// The most bytes of a request's head.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// The most headers of a request.
pub const HEADERS_MAX: usize = 64;
/// How long a peer may take nothing of what is written to it.
pub const WRITE_STALL_MAX: Duration = Duration::from_secs(30);
/// Between two pings of a stream.
pub const PING_EVERY: Duration = Duration::from_secs(15);
/// A stream's peer that was not heard for this long is gone.
pub const SILENCE_MAX: Duration = Duration::from_secs(50);
/// The largest message a stream's reader may send: it has nothing to say.
pub const INBOUND_BYTES_MAX: usize = 4 << 10;
/// What is kept for a stream's reader before it is dropped.
pub const OUTBOUND_BYTES_MAX: usize = 1 << 20;

/// The bounds that a node or a test may set.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Requests that are worked on at once; beyond it, 503.
    pub requests_max: usize,
    /// Requests that wait for a job's end at once; they cost little, and must not crowd out the rest.
    pub waits_max: usize,
    /// Open streams; beyond it, 503.
    pub streams_max: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self { requests_max: 1_024, waits_max: 4_096, streams_max: 20_000 }
    }
}
