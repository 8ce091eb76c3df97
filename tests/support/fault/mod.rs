//! A proxy in front of PostgreSQL that breaks links in chosen ways and counts what it broke.
//!
//! ```text
//! client ── accept ── startup ──┬── client → server: bytes as they come
//!                               └── server → client: message by message, so that one answer can be lost
//! ```
//! TLS and GSS are declined on the server's behalf: the messages must be readable.

mod disk;
mod link;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::{TcpListener, lookup_host};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use disk::SmallDisk;
use link::Link;

/// What happens to links now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Bytes pass.
    Pass,
    /// Nothing passes and nothing is closed: a partition. What is under way arrives after `heal`.
    Hold,
    /// New connections are closed at once.
    Refuse,
}

/// A running proxy; every link through it ends on drop.
#[derive(Debug)]
pub struct PgProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    mode: watch::Sender<Mode>,
    /// Links of an older generation end.
    generation: watch::Sender<u64>,
    /// How many more matching answers are to be lost, and which tag they carry.
    lose: std::sync::Mutex<(u64, String)>,
    /// How many more COMMITs are to be lost on their way to the server.
    swallow: AtomicU64,
    /// Faults really applied to a link, without which a test proves nothing.
    links_cut: AtomicU64,
    answers_lost: AtomicU64,
    commits_swallowed: AtomicU64,
    links_held: AtomicU64,
    links_refused: AtomicU64,
}

/// How often each fault was applied to a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    pub links_cut: u64,
    pub answers_lost: u64,
    pub commits_swallowed: u64,
    pub links_held: u64,
    pub links_refused: u64,
}

impl PgProxy {
    /// A proxy to the server of this PostgreSQL URL, on a free loopback port.
    pub async fn start(postgres_url: &str) -> Self {
        let url = url::Url::parse(postgres_url).expect("a PostgreSQL URL");
        let target = (url.host_str().expect("a host in the URL"), url.port().unwrap_or(5432));
        let upstream = lookup_host(target).await.expect("resolve the server").next().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind the proxy");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            upstream,
            mode: watch::Sender::new(Mode::Pass),
            generation: watch::Sender::new(0),
            lose: std::sync::Mutex::default(),
            swallow: AtomicU64::new(0),
            links_cut: AtomicU64::new(0),
            answers_lost: AtomicU64::new(0),
            commits_swallowed: AtomicU64::new(0),
            links_held: AtomicU64::new(0),
            links_refused: AtomicU64::new(0),
        });
        #[expect(clippy::disallowed_methods, reason = "owned by the proxy, which aborts it on drop")]
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Self { address, shared, accepting }
    }

    /// The same database, reached through this proxy.
    pub fn url(&self, postgres_url: &str) -> String {
        let mut url = url::Url::parse(postgres_url).expect("a PostgreSQL URL");
        url.set_host(Some("127.0.0.1")).expect("a URL with a host");
        url.set_port(Some(self.address.port())).expect("a URL with a port");
        url.into()
    }

    /// Ends every present link; new ones pass.
    pub fn cut_all(&self) {
        self.shared.generation.send_modify(|generation| *generation += 1);
    }

    /// Ends every present link and closes new ones at once, until `heal`.
    pub fn refuse(&self) {
        self.shared.mode.send_replace(Mode::Refuse);
        self.cut_all();
    }

    /// Lets nothing through either way, without closing anything, until `heal`.
    pub fn black_hole(&self) {
        self.shared.mode.send_replace(Mode::Hold);
    }

    /// Ends `black_hole` and `refuse`; what they held goes on.
    pub fn heal(&self) {
        self.shared.mode.send_replace(Mode::Pass);
    }

    /// The next `times` answers to a COMMIT are lost and their links cut: the transaction is durable, and the client
    /// cannot know.
    pub fn lose_commits(&self, times: u64) {
        self.lose_answers("COMMIT", times);
    }

    /// As `lose_commits`, for command tags that start with `tag`. Outside a transaction the server sends the tag
    /// *before* it commits, so only for `COMMIT` does a lost answer prove durability.
    pub fn lose_answers(&self, tag: &str, times: u64) {
        *self.shared.lose.lock().expect("no holder panics") = (times, tag.to_owned());
    }

    /// The next `times` COMMITs never reach the server, and their links are cut: the transaction is undone, and the
    /// client cannot know. Sees COMMITs sent as simple queries, `commit` in lower case.
    pub fn swallow_commits(&self, times: u64) {
        self.shared.swallow.store(times, Ordering::SeqCst);
    }

    /// The faults applied so far.
    pub fn faults(&self) -> Faults {
        let read = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        Faults {
            links_cut: read(&self.shared.links_cut),
            answers_lost: read(&self.shared.answers_lost),
            commits_swallowed: read(&self.shared.commits_swallowed),
            links_held: read(&self.shared.links_held),
            links_refused: read(&self.shared.links_refused),
        }
    }
}

impl Drop for PgProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Accepts links and owns them: they end with it.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut links = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { return };
                if *shared.mode.borrow() == Mode::Refuse {
                    shared.links_refused.fetch_add(1, Ordering::SeqCst);
                } else {
                    links.spawn(Link::new(shared.clone()).run(client));
                }
            }
            Some(_) = links.join_next() => {}
        }
    }
}
