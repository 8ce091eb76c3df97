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
/// The most jobs of a batch that is an array.
pub const BATCH_JOBS_MAX: usize = 10_000;
/// The most bytes of such a batch.
pub const BATCH_BYTES_MAX: usize = 32 << 20;
/// The most dependencies of all its jobs together: their rows are written in one transaction, within seconds.
pub const BATCH_EDGES_MAX: usize = 200_000;
/// The most faults of a batch that are told: who has more has the same one in every job.
pub const BATCH_FAULTS_MAX: usize = 100;
/// How long its body may take to arrive: 32 MiB at 270 kB/s.
pub const BATCH_BODY_DEADLINE: Duration = Duration::from_secs(120);
/// Arrays that are worked on at once: each may take some hundred MiB while it is.
pub const BATCHES_MAX: usize = 8;
/// Batches of lines that are open at once: each holds a few MiB.
pub const LINE_BATCHES_MAX: usize = 64;
/// The most bytes of a line.
pub const LINE_BYTES_MAX: usize = BODY_BYTES_MAX;
/// How long a line may take to arrive: a silent client must not hold a place for ever.
pub const LINE_DEADLINE: Duration = Duration::from_secs(30);
/// The most lines that are written in one transaction.
pub const LINES_AT_ONCE: usize = 1_000;
/// About how many bytes are.
pub const LINES_BYTES_AT_ONCE: usize = 1 << 20;
/// Fewer are written when no more have come for so long: somebody may wait for the answer.
pub const LINES_FLUSH_AFTER: Duration = Duration::from_millis(10);
/// Answers that wait for their reader, each to at most [`LINES_AT_ONCE`] lines; then no more lines are read. Some MiB,
/// for clients that send all before they read.
pub const LINES_ANSWERS_MAX: usize = 32;
/// How far back a line may name another by its place.
pub const LINES_REACH: usize = 10_000;
/// The pauses, in milliseconds, before lines are tried again that found the journal full; then they are refused.
pub const LINES_PATIENCE: [u64; 8] = [20, 50, 100, 200, 400, 800, 1_600, 3_200];
/// How long nothing of a body may arrive: as for a head, so that a client that stops half-way is gone within 10 s.
pub const BODY_STALL_MAX: Duration = Duration::from_secs(9);
/// How long a read of the store may take before the caller is told to come back.
pub const READ_DEADLINE: Duration = Duration::from_secs(5);
/// How long a change is waited for. It goes on behind the answer.
pub const CHANGE_DEADLINE: Duration = Duration::from_secs(30);
/// The size of a list's page when nothing is said.
pub const PAGE_DEFAULT: usize = 100;
/// The largest page.
pub const PAGE_MAX: usize = 1_000;
/// How long a page of jobs that few match is searched for before it is answered as it is.
pub const SEARCH_TIME: Duration = Duration::from_secs(1);
/// Jobs that the first step of such a search looks at: some milliseconds' worth.
pub const SEARCH_FIRST: i64 = 1_000;
/// Each further step looks at so many times as many,
pub const SEARCH_GROWTH: i64 = 4;
/// but at no more: a tenth of a second's worth.
pub const SEARCH_STEP_MAX: i64 = 16_000;
/// Jobs read at once while a page is put together.
pub const PAGE_STEP: usize = 200;
/// The most ids of a bulk operation: as many as are changed while the caller waits.
pub const BULK_IDS_MAX: usize = 10_000;
/// Rows of the audit log read at once: each may hold a payload before and after its change.
pub const AUDIT_STEP: usize = 50;
/// A page ends early past this many bytes of payloads and results: 1,000 jobs could hold 2 GiB.
pub const PAGE_BYTES_MAX: usize = 32 << 20;
/// Dead letters read at once while a page is put together: each comes with its errors and attempts.
pub const LETTERS_STEP: usize = 50;
/// The most jobs that a request names.
pub const JOB_IDS_MAX: usize = 1_000;
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
/// How long the head of a request may take, and an idle connection is kept. With the time a busy node takes to notice,
/// a silent socket is gone within 10 s.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(9);
/// The most bytes of a request's head.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// The most headers of a request.
pub const HEADERS_MAX: usize = 64;
/// How long a peer may take nothing of what is written to it, once the system's own buffers, which hold megabytes, are
/// full.
pub const WRITE_STALL_MAX: Duration = Duration::from_secs(9);
/// Between two pings of a stream.
pub const PING_EVERY: Duration = Duration::from_secs(15);
/// A stream's peer that was not heard for this long is gone.
pub const SILENCE_MAX: Duration = Duration::from_secs(50);
/// The largest message a stream's reader may send: it has nothing to say.
pub const INBOUND_BYTES_MAX: usize = 4 << 10;
/// How many messages a stream's reader may send between two pings before it is closed.
pub const INBOUND_MESSAGES_MAX: u32 = 16;
/// What is kept for a stream's reader before it is dropped.
pub const OUTBOUND_BYTES_MAX: usize = 1 << 20;
/// What is gathered for a stream's reader before it is written: some fifty events a system call.
pub const OUTBOUND_BUFFER_BYTES: usize = 16 << 10;
/// The most events of one write.
pub const OUTBOUND_BATCH_MAX: usize = 256;
/// How long a stream's reader may take nothing, before it is closed as too slow: the shorter deadline, so
/// that it finds a close when it reads on before `WRITE_STALL_MAX`.
pub const STREAM_STALL_MAX: Duration = Duration::from_secs(6);
/// How long it then has to take what was written, and the close.
pub const STREAM_CLOSE_MAX: Duration = Duration::from_secs(2);

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
