//! A node in this process, with handlers as bad as need be, and a reader of its streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use clap::Parser;
use futures_util::StreamExt;
use ganger::config::Config;
use ganger::system::{Node, NodeBuilder};
use ganger::worker::{JobContext, JobError, LogLevel, Registry};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::{connect_async, tungstenite::Message};

use crate::support::wait::elapse;
use crate::support::{self, Api, wait_for};

pub(crate) const SOON: Duration = Duration::from_secs(20);
/// Short, so that what is forced is forced soon.
pub(crate) const TTL: Duration = Duration::from_secs(2);

/// What the handlers share with their test.
#[derive(Default)]
pub(crate) struct Signals {
    /// Blocked handlers return.
    pub(crate) release: AtomicBool,
    /// Handlers that are in the middle.
    pub(crate) inside: AtomicUsize,
}

/// Counts a handler while it lives.
pub(crate) struct Inside(Arc<Signals>);

impl Inside {
    fn new(signals: &Arc<Signals>) -> Self {
        signals.inside.fetch_add(1, Ordering::SeqCst);
        Self(signals.clone())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(crate) fn handlers(signals: &Arc<Signals>) -> Registry {
    let mut handlers = Registry::new();
    handlers.handle_fn("polite", |ctx: JobContext, _: Value| async move {
        ctx.progress(&json!({"percent": 40}));
        ctx.cancelled().cancelled().await;
        Err::<(), _>(JobError::retryable("stopped", "as asked"))
    });
    let shared = signals.clone();
    handlers.handle_fn("deaf", move |_: JobContext, _: Value| {
        let inside = Inside::new(&shared);
        async move {
            let _inside = inside;
            std::future::pending::<()>().await;
            Ok::<_, JobError>(())
        }
    });
    let shared = signals.clone();
    handlers.handle_fn("blocker", move |_: JobContext, _: Value| {
        let inside = Inside::new(&shared);
        async move {
            // Never at an await: nothing can stop it.
            while !inside.0.release.load(Ordering::SeqCst) {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            Ok::<_, JobError>(())
        }
    });
    handlers.handle_fn("talker", |ctx: JobContext, lines: u64| async move {
        for line in 1..=lines {
            let level = if line % 10 == 0 { LogLevel::Warn } else { LogLevel::Debug };
            ctx.log(level, format!("line {line}"));
            ctx.progress(&line);
            elapse(Duration::from_millis(5)).await;
        }
        Ok::<_, JobError>(())
    });
    handlers.handle_fn("flood", |ctx: JobContext, lines: u64| async move {
        for line in 0..lines {
            ctx.log(LogLevel::Info, format!("line {line}"));
        }
        Ok::<_, JobError>(())
    });
    handlers
}

pub(crate) struct Rig {
    pub(crate) node: Node,
    pub(crate) api: Api,
    pub(crate) signals: Arc<Signals>,
    _folder: TempDir,
}

impl Rig {
    pub(crate) async fn start(concurrency: usize) -> Self {
        Self::start_on(concurrency, &[]).await
    }

    /// With these arguments besides.
    pub(crate) async fn start_on(concurrency: usize, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let slots = concurrency.to_string();
        let arguments = ["ganger-node", "--http-addr", "127.0.0.1:0", "--worker-concurrency", &slots];
        let leases = ["--lease-ttl", "2s", "--heartbeat-interval", "250ms", "--node-id", "one"];
        let arguments = arguments.into_iter().chain(leases).chain(["--data-dir", data.to_str().unwrap()]);
        let arguments = arguments.chain(more.iter().copied());
        let signals = Arc::new(Signals::default());
        let node = NodeBuilder::new(Config::parse_from(arguments)).handlers(handlers(&signals)).start();
        let node = node.await.unwrap();
        let api = Api::new(&format!("http://{}", node.address()), support::http::DEV_TOKEN);
        Self { node, api, signals, _folder: folder }
    }

    pub(crate) async fn submit(&self, body: Value) -> String {
        let made = self.api.post("/api/v1/jobs", &body).await.expect(202);
        made["job"]["id"].as_str().unwrap().to_owned()
    }

    /// A job that runs.
    pub(crate) async fn running(&self, body: Value) -> String {
        let id = self.submit(body).await;
        self.wait(&id, |job| job["state"] == "active").await;
        id
    }

    pub(crate) async fn job(&self, id: &str) -> Value {
        self.api.get(&format!("/api/v1/jobs/{id}")).await.expect(200)
    }

    pub(crate) async fn wait(&self, id: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        wait_for("the job is as it should be", SOON, || async {
            let job = self.job(id).await;
            if is_it(&job) { Ok(job) } else { Err(job) }
        })
        .await
    }

    pub(crate) async fn cancel(&self, id: &str) -> Value {
        self.api.post(&format!("/api/v1/jobs/{id}/cancel"), &json!({"reason": "enough"})).await.expect(202)
    }

    pub(crate) async fn attempts(&self, id: &str) -> Vec<Value> {
        self.api.get(&format!("/api/v1/jobs/{id}/attempts")).await.expect(200).as_array().unwrap().clone()
    }

    pub(crate) async fn logs(&self, id: &str, query: &str) -> Vec<Value> {
        self.api.get(&format!("/api/v1/jobs/{id}/logs?{query}")).await.expect(200).as_array().unwrap().clone()
    }

    pub(crate) async fn worker(&self) -> Value {
        self.api.get("/api/v1/workers/one:local").await.expect(200)
    }

    pub(crate) async fn follow(&self, query: &str) -> Follower {
        let ticket = self.api.post("/api/v1/tickets", &json!({})).await.expect(201)["ticket"].clone();
        let base = self.api.base().replacen("http", "ws", 1);
        let url = format!("{base}/ws/events?ticket={}&{query}", ticket.as_str().unwrap());
        Follower(connect_async(&url).await.expect("a stream").0)
    }
}

pub(crate) struct Follower(
    tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>,
);

impl Follower {
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(SOON, self.0.next()).await.expect("a message in time");
            if let Message::Text(text) = message.expect("goes on").expect("is whole") {
                return serde_json::from_str(&text).expect("is JSON");
            }
        }
    }

    /// All messages up to one of `kind`, that one included.
    pub(crate) async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut messages = Vec::new();
        loop {
            messages.push(self.next().await);
            if messages.last().unwrap()["kind"] == kind {
                return messages;
            }
        }
    }
}

pub(crate) fn of_kind<'a>(messages: &'a [Value], kind: &str) -> Vec<&'a Value> {
    messages.iter().filter(|message| message["kind"] == kind).collect()
}
