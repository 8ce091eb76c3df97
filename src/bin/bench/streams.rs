//! `ganger-bench streams`: what readers of the event stream cost the jobs.
//!
//! Jobs are run without readers, then with many and with some that read nothing, then without again; the figure is
//! the ratio. The readers' own work (on a runtime with one thread, reading and throwing away) is in it: on a node of
//! its own the ratio is better.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use futures_util::{StreamExt, stream};
use ganger::{system::Node, worker::Registry};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

use super::{Args, figure, job, start};

/// What is opened, and what is run.
#[derive(Debug, clap::Args)]
pub(crate) struct StreamsArgs {
    /// Readers that read.
    #[arg(long, default_value_t = 1_000)]
    readers: usize,
    /// Readers that read nothing.
    #[arg(long, default_value_t = 50)]
    stalled: usize,
    /// Jobs of a run; each makes three events.
    #[arg(long, default_value_t = 20_000)]
    run_jobs: usize,
}

/// Longer than any run should take.
const DEADLINE: Duration = Duration::from_secs(300);

/// What a peer that does not read holds: next to nothing.
const SMALL_BYTES: u32 = 4 << 10;

pub(crate) async fn measure(args: &Args, streams: &StreamsArgs, engine: &str, data_dir: &Path) -> Result<()> {
    let node = start(args, data_dir, args.concurrency.min(256), Registry::new()).await?;
    run(args, &node, streams.run_jobs / 4).await.context("the warm-up")?;
    let before = run(args, &node, streams.run_jobs).await?;

    let clients = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let resident = resident_kib()?;
    let bytes = Arc::new(AtomicU64::new(0));
    let mut held = Vec::new();
    for index in 0..streams.readers + streams.stalled {
        let (address, is_stalled) = (node.address(), index >= streams.readers);
        let mut socket = clients.spawn(open(address, is_stalled)).await??;
        let bytes = bytes.clone();
        if is_stalled {
            held.push(socket);
        } else {
            clients.spawn(async move {
                let mut chunk = vec![0; 16 << 10];
                while let Ok(count @ 1..) = socket.read(&mut chunk).await {
                    bytes.fetch_add(count as u64, Ordering::Relaxed);
                }
            });
        }
    }
    let count = (streams.readers + streams.stalled).max(1) as f64;
    let opened = resident_kib()?.saturating_sub(resident) as f64 / count;
    let with = run(args, &node, streams.run_jobs).await?;
    let used = resident_kib()?.saturating_sub(resident) as f64 / count;
    // The runtime's tasks end with it; it must not be dropped within another.
    clients.shutdown_background();
    drop(held);
    let after = run(args, &node, streams.run_jobs).await?;

    let on = json!({ "store": engine, "readers": streams.readers, "stalled": streams.stalled });
    figure("streams_none", f64::midpoint(before, after), "jobs/s", on.clone());
    figure("streams_with", with, "jobs/s", on.clone());
    figure("streams_ratio", with / f64::midpoint(before, after), "", on.clone());
    figure("streams_open", opened, "KiB/connection, both ends", on.clone());
    figure("streams_used", used, "KiB/connection, both ends and the ring", on.clone());
    figure("streams_sent", bytes.load(Ordering::Relaxed) as f64 / 1e6, "MB", on);
    node.shutdown().await
}

/// Makes and runs so many jobs; how many a second.
async fn run(args: &Args, node: &Node, jobs: usize) -> Result<f64> {
    let completed = || usize::try_from(node.platform().overview().completed_jobs).unwrap_or(0);
    let (began, goal) = (Instant::now(), completed() + jobs);
    let births = stream::iter(0..jobs.div_ceil(500)).map(|index| {
        let count = (jobs - index * 500).min(500);
        let made = (0..count).map(|_| job(args, "noop", "bench-streams")).collect::<Result<Vec<_>>>();
        async move { node.platform().births(made?).await.context("births") }
    });
    let mut births = births.buffer_unordered(4);
    while let Some(made) = births.next().await {
        made?;
    }
    while completed() < goal {
        if began.elapsed() > DEADLINE {
            bail!("only {} of {goal} jobs were run", completed());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(jobs as f64 / began.elapsed().as_secs_f64())
}

/// Opens a stream; what comes on it is not looked at.
async fn open(address: SocketAddr, is_stalled: bool) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if is_stalled {
        socket.set_recv_buffer_size(SMALL_BYTES)?;
    }
    let mut stream = socket.connect(address).await?;
    let request = format!(
        "GET /ws/events HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Admin-Token: {}\r\n\r\n",
        ganger::config::DEVELOPMENT_KEY
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    if answer != *b"HTTP/1.1 101" {
        bail!("not upgraded: {}", String::from_utf8_lossy(&answer));
    }
    Ok(stream)
}

/// The process's resident memory.
fn resident_kib() -> Result<u64> {
    let status =
        std::fs::read_to_string("/proc/self/status").context("the memory in use is read on Linux alone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.trim().trim_end_matches(" kB").parse().context("VmRSS")
}
