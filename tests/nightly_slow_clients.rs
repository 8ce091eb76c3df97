//! Clients that say nothing, dribble, never send their body, or never read: closed within 10 s, and nobody else
//! notices. `tests/run --nightly slow-clients` plays the long form, which also holds a healthy client's latency
//! against its own of before.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed step fails the test"
)]

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::http::DEV_TOKEN;
use support::wait::elapse;
use support::{Api, NodeProcess, nightly, wait_for};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

const SOON: Duration = Duration::from_secs(30);
/// Within this each slow client is gone.
const GONE_DEADLINE: Duration = Duration::from_secs(10);
/// What a machine shared with other tests may add in the short form.
const BUSY: Duration = Duration::from_secs(3);
/// A healthy request's deadline in the short form.
const HEALTHY_DEADLINE: Duration = Duration::from_secs(2);
/// How long the healthy client is watched, alone and beside the slow ones.
const WATCHED: Duration = Duration::from_secs(6);
/// Of a healthy client, beside the slow ones and alone.
const LATENCY_RATIO_MAX: f64 = 2.0;
/// Larger than all buffers between us.
const LARGE_JOBS: usize = 12;

/// What is wrong with a client.
#[derive(Debug, Clone, Copy)]
enum Slow {
    Silent,
    DribblesHead,
    SendsNoBody,
    SendsHalfBody,
    ReadsNothing,
    ReadsNothingLarge,
}

const ALL: [Slow; 6] = [
    Slow::Silent,
    Slow::DribblesHead,
    Slow::SendsNoBody,
    Slow::SendsHalfBody,
    Slow::ReadsNothing,
    Slow::ReadsNothingLarge,
];

impl Slow {
    /// What it sends; a dribbler goes on.
    fn head(self) -> String {
        let request = |line: &str, rest: &str| {
            format!("{line} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {DEV_TOKEN}\r\n{rest}\r\n")
        };
        let body = "content-type: application/json\r\ncontent-length: 4096\r\n";
        match self {
            Self::Silent => String::new(),
            Self::DribblesHead => "GET /healthz HTTP/1.1\r\nx-dribble: ".to_owned(),
            Self::SendsNoBody => request("POST /api/v1/jobs", body),
            Self::SendsHalfBody => request("POST /api/v1/jobs", body) + "{\"type\":",
            Self::ReadsNothing => request("GET /api/v1/overview", ""),
            Self::ReadsNothingLarge => request("GET /api/v1/jobs?limit=20", ""),
        }
    }

    fn count(self) -> usize {
        match (self, nightly::is_long()) {
            // Each holds megabytes of its answer.
            (Self::ReadsNothingLarge, long) => {
                if long {
                    20
                } else {
                    4
                }
            }
            (_, long) => {
                if long {
                    500
                } else {
                    50
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_are_closed_and_nobody_else_notices() {
    for _ in nightly::rounds(1) {
        let node = NodeProcess::builder().env("LOG_LEVEL", "warn").start().await;
        node.wait_ready(SOON).await;
        let api = node.api();
        for _ in 0..LARGE_JOBS {
            let body =
                json!({"type": "noop", "delaySeconds": 3_600, "payload": {"large": "x".repeat(1_000_000)}});
            api.post("/api/v1/jobs", &body).await.expect(202);
        }
        if nightly::is_long() {
            for slow in ALL {
                beside(&node, &format!("{slow:?}"), &[slow]).await;
            }
        } else {
            beside(&node, "All", &ALL).await;
        }
    }
}

/// Lets slow clients of these kinds loose, and a healthy one before and beside them.
async fn beside(node: &NodeProcess, name: &str, kinds: &[Slow]) {
    let api = Api::new(node.base(), DEV_TOKEN);
    let watched = if nightly::is_long() { WATCHED } else { WATCHED / 6 };
    let alone = healthy(&api, watched).await;
    let sockets = open_sockets(node);
    let mut clients = JoinSet::new();
    let opened = Instant::now();
    for slow in kinds.iter().flat_map(|slow| std::iter::repeat_n(*slow, slow.count())) {
        clients.spawn(client(node.base().trim_start_matches("http://").to_owned(), slow));
    }
    let count = clients.len();
    wait_for("the clients are connected", SOON, || async {
        let more = open_sockets(node).saturating_sub(sockets);
        if more >= count * 9 / 10 { Ok(()) } else { Err(more) }
    })
    .await;
    let busy = healthy(&api, watched).await;
    wait_for(&format!("the node closes all that are {name}"), GONE_DEADLINE + BUSY, || async {
        let left = open_sockets(node).saturating_sub(sockets);
        if left <= 2 { Ok(()) } else { Err(left) }
    })
    .await;
    let gone = opened.elapsed();
    clients.abort_all();
    let figure = |what: &str, value: f64| nightly::figure("slow-clients", &format!("{name}_{what}"), value);
    figure("clients", count as f64);
    figure("gone_after_ms", gone.as_millis() as f64);
    let ratio = |of: usize| busy.quantile(of) / alone.quantile(of);
    figure("healthy_p50_us", busy.quantile(50));
    figure("healthy_p50_ratio", ratio(50));
    figure("healthy_p95_ratio", ratio(95));
    figure("healthy_p99_ratio", ratio(99));
    if nightly::is_long() {
        assert!(gone < GONE_DEADLINE + Duration::from_millis(500), "{name}: gone after {gone:?}");
        for of in [50, 95] {
            assert!(ratio(of) < LATENCY_RATIO_MAX, "{name}: {} times its p{of}", ratio(of));
        }
    }
}

async fn client(address: String, slow: Slow) {
    let socket = TcpSocket::new_v4().expect("a socket");
    if matches!(slow, Slow::ReadsNothing | Slow::ReadsNothingLarge) {
        socket.set_recv_buffer_size(4_096).expect("a small buffer");
    }
    let mut stream: TcpStream =
        socket.connect(address.parse().expect("an address")).await.expect("connected");
    stream.write_all(slow.head().as_bytes()).await.expect("sent");
    loop {
        elapse(Duration::from_secs(1)).await;
        // Closed at the other end: there is nothing more to say.
        if matches!(slow, Slow::DribblesHead) && stream.write_all(b"x").await.is_err() {
            break;
        }
    }
    std::future::pending::<()>().await;
}

/// How many sockets the node holds.
fn open_sockets(node: &NodeProcess) -> usize {
    let files = std::fs::read_dir(format!("/proc/{}/fd", node.pid())).expect("the node's files");
    let is_socket = |path: &std::path::Path| {
        std::fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"))
    };
    files.flatten().filter(|file| is_socket(&file.path())).count()
}

struct Latencies(Vec<Duration>);

impl Latencies {
    /// In microseconds.
    fn quantile(&self, of: usize) -> f64 {
        let index = (self.0.len() * of / 100).min(self.0.len() - 1);
        self.0[index].as_secs_f64() * 1e6
    }
}

/// A client as it should be: one request after the other.
async fn healthy(api: &Api, watched: Duration) -> Latencies {
    let mut all = Vec::new();
    let end = Instant::now() + watched;
    while Instant::now() < end || all.len() < 30 {
        let asked = Instant::now();
        if all.len() % 3 == 0 {
            api.post("/api/v1/jobs", &json!({"type": "noop", "delaySeconds": 3_600})).await.expect(202);
        } else {
            api.get("/api/v1/overview").await.expect(200);
        }
        let took = asked.elapsed();
        assert!(took < HEALTHY_DEADLINE, "a healthy client waited {took:?}");
        all.push(took);
    }
    all.sort_unstable();
    Latencies(all)
}
