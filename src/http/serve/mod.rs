//! Connections: accepted, bounded, and closed when they stall.
//!
//! `axum::serve` sets no deadline for a request's head, so a socket that sends nothing would stay for
//! ever. Here a head has `HEAD_DEADLINE` from the connection's first moment, and again after every
//! answer. HTTP/1.1 alone is spoken: telling it from HTTP/2 takes an untimed read first.

mod stall;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo, http::Request};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use self::stall::Unstalled;
use super::limits::{HEAD_BYTES_MAX, HEAD_DEADLINE, HEADERS_MAX, WRITE_STALL_MAX};

/// Open connections; others wait in the listener's backlog. Above the bound of streams, so that streams
/// alone cannot use them up.
const CONNECTIONS_MAX: usize = 32_768;

/// After an `accept` that failed (out of file descriptors, mostly): the next would fail too.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that the system holds until they are accepted. The usual 128 are fewer than may come at one instant;
/// those beyond it try again a second later.
const BACKLOG: u32 = 4_096;

/// Listens on `address`.
///
/// # Errors
/// It is taken, or not this machine's.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A node that was just stopped has left connections that wait for their end.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves `app` until `stop`; then lets open requests end for at most `drain`, and closes the rest.
pub async fn serve(listener: TcpListener, app: Router, stop: CancellationToken, drain: Duration) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener) => accepted,
        };
        let place = tokio::select! {
            () = stop.cancelled() => break,
            // Never closed.
            Ok(place) = Arc::clone(&places).acquire_owned() => place,
        };
        let (app, stop, cut) = (app.clone(), stop.clone(), cut.clone());
        connections.spawn(async move {
            tokio::select! {
                served = connection(stream, peer, app, stop) => if let Err(error) = served {
                    tracing::debug!(%peer, %error, "a connection ended early");
                },
                () = cut.cancelled() => (),
            }
            drop(place);
        });
    }
    // New connections are refused from here on.
    drop(listener);
    connections.close();
    if tokio::time::timeout(drain, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "closed connections that did not end in time");
        cut.cancel();
        connections.wait().await;
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            // The peer's own doing: the next is another's.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => (),
            Err(error) => {
                tracing::error!(%error, "failed to accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    app: Router,
    stop: CancellationToken,
) -> hyper::Result<()> {
    // Answers are written whole; waiting for more of them only delays.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "failed to set TCP_NODELAY");
    }
    let service = app.map_request(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        request
    });
    let io = TokioIo::new(Unstalled::new(stream, WRITE_STALL_MAX));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(io, TowerToHyperService::new(service))
        .with_upgrades();
    tokio::pin!(connection);
    tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

#[cfg(test)]
mod tests;
