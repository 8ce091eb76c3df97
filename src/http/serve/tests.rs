//! Real sockets: how connections end. No test pauses the time here: sockets do not follow it.

use std::time::{Duration, Instant};

use axum::{Router, routing::get};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::*;

struct Served {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

async fn served() -> Served {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let app = Router::new()
        .route("/", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }));
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    tasks.spawn(serve(listener, app, stop.clone(), Duration::from_millis(200)));
    Served { address, stop, tasks }
}

async fn ask(stream: &mut TcpStream, text: &str) -> String {
    stream.write_all(text.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 4_096];
    let read = stream.read(&mut answer).await.expect("answered");
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[tokio::test]
async fn a_silent_or_dribbling_socket_is_closed_within_ten_seconds() {
    let served = served().await;
    let started = Instant::now();
    let mut sockets = JoinSet::new();
    for first in ["", "G", "PRI * HT", "GET / HTTP/1.1\r\nhost: x\r\n"] {
        let address = served.address;
        sockets.spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            stream.write_all(first.as_bytes()).await.expect("sent");
            let mut rest = Vec::new();
            // An answer (408, 400) or none: it ends.
            drop(stream.read_to_end(&mut rest).await);
        });
    }
    while let Some(closed) = sockets.join_next().await {
        closed.expect("no panic");
    }
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
}

#[tokio::test]
async fn heads_are_bounded() {
    let served = served().await;
    let head = |headers: String| format!("GET / HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
    for (headers, status) in [
        (String::new(), "200"),
        ("a: b\r\n".repeat(HEADERS_MAX - 1), "200"),
        ("a: b\r\n".repeat(HEADERS_MAX), "431"),
        (format!("a: {}\r\n", "x".repeat(HEAD_BYTES_MAX)), "431"),
    ] {
        let mut stream = TcpStream::connect(served.address).await.expect("connected");
        let answer = ask(&mut stream, &head(headers)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
}

#[tokio::test]
async fn a_server_that_stops_ends_idle_connections() {
    let mut served = served().await;
    let mut idle = TcpStream::connect(served.address).await.expect("connected");
    let answer = ask(&mut idle, "GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.ends_with("127.0.0.1"), "{answer}");
    served.stop.cancel();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.expect("closed");
    served.tasks.join_next().await.expect("was running").expect("no panic");
    assert!(TcpStream::connect(served.address).await.is_err());
}
