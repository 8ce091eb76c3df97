//! A store that goes away under load, and what must be true while it is gone and when it is back.
//!
//! ```text
//! round:  clients submit, repeat, cancel, retry and read ── fault … store back ──> jobs dispatched within 10 s
//! during: every answer is a success or a 503 with `Retry-After`; `/readyz` names the store; no actor restarts
//! end:    every unknown outcome asked again ──> drain ──> counters against rows ──> history::assert_sound
//! ```
//! The node is never restarted: it has to come through all of it by itself.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    unreachable_pub,
    reason = "shared by several test binaries, each of which uses a part; a failed step fails the test"
)]

mod client;
#[path = "../crash/submission.rs"]
mod submission;
mod verdict;
mod watch;

use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::support::history::{Recorder, load};
use crate::support::wait::elapse;
use crate::support::{NodeBuilder, NodeProcess, nightly, wait_for};
pub use client::{Clients, World};
pub use watch::Watch;

/// Dispatch goes on within this after the store's return: the contract's bound.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(10);
/// `/readyz` names a store that is gone within this: a heartbeat's deadline of 3 s, its second, and a busy machine.
const NAMED_DEADLINE: Duration = Duration::from_secs(6);
/// Load before and after each fault.
const BREATH: Duration = Duration::from_millis(700);
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// Several shards; as the submissions have them.
const QUEUES: [&str; 4] = ["mail", "images", "reports", "default"];

/// What a fault tells of itself: when it was over.
#[derive(Debug, Clone, Copy)]
pub struct Returned(pub Instant);

/// A node under load, and everything that is seen of it.
pub struct Rig {
    part: &'static str,
    folder: TempDir,
    pub node: NodeProcess,
    world: World,
    clients: Clients,
    watch: Watch,
    restarts: watch::Restarts,
    probes: u64,
    recoveries: Vec<Duration>,
    names: Vec<Duration>,
}

impl Rig {
    /// Starts the node and the load on it.
    pub async fn start(part: &'static str, settings: NodeBuilder, seed: u64) -> Self {
        let folder = tempfile::tempdir().expect("make a folder for the history");
        let settings = settings.env("WORKER_CONCURRENCY", 16).env("LOG_LEVEL", "warn");
        let node = settings.start().await;
        node.wait_ready(READY_DEADLINE).await;
        let world = World::new(Recorder::create(&folder.path().join("history.jsonl")), node.base());
        // Each queue has its actors before they are counted.
        let (clients, watch) = (world.load(seed), Watch::start(&node.api()));
        let mut rig = Self {
            part,
            folder,
            restarts: watch::Restarts::default(),
            node,
            world,
            clients,
            watch,
            probes: 0,
            recoveries: Vec::new(),
            names: Vec::new(),
        };
        rig.dispatched("at the start", Instant::now()).await;
        rig.restarts = watch::Restarts::of(&rig.node.api()).await;
        rig
    }

    /// One fault. It must end with the store back; a `long` one is one that `/readyz` must have named.
    pub async fn round(&mut self, name: &str, long: bool, fault: impl Future<Output = Returned>) {
        elapse(BREATH).await;
        let began = Instant::now();
        let Returned(back) = fault.await;
        let named = self.watch.named_after(began);
        if long {
            let named = named.unwrap_or_else(|| panic!("{name}: /readyz never named the store"));
            assert!(named < NAMED_DEADLINE, "{name}: /readyz named the store after {named:?}");
            self.names.push(named);
        }
        let recovery = self.dispatched(name, back).await;
        assert!(recovery < RECOVERY_DEADLINE, "{name}: dispatch went on {recovery:?} after the return");
        self.recoveries.push(recovery);
        self.node.wait_ready(RECOVERY_DEADLINE).await;
        println!("{name}: store named after {named:?}, dispatched {recovery:?} after the return");
        elapse(BREATH).await;
        self.unharmed(name).await;
    }

    /// For what a fault does to the node by itself.
    pub fn world(&self) -> World {
        self.world.clone()
    }

    /// Waits until a new job of each queue is completed; how long after `since`.
    async fn dispatched(&mut self, name: &str, since: Instant) -> Duration {
        let api = self.node.api();
        for queue in QUEUES {
            self.probes += 1;
            let key = format!("probe-{}", self.probes);
            let body = json!({"type": "noop", "queue": queue, "priority": 9, "idempotencyKey": key});
            let what = format!("{name}: a new job of {queue} is completed");
            let id = wait_for(&what, RECOVERY_DEADLINE * 2, || self.world.probe(&api, &key, &body)).await;
            let path = format!("/api/v1/jobs/{id}");
            wait_for(&what, RECOVERY_DEADLINE * 2, || async {
                let answer = api.get(&path).await;
                if answer.body["state"] == "completed" { Ok(()) } else { Err(answer.body) }
            })
            .await;
        }
        since.elapsed()
    }

    /// No violation so far, the node lives, nothing was restarted, nothing is set aside.
    async fn unharmed(&mut self, name: &str) {
        self.world.assert_unbroken(name);
        self.watch.assert_unbroken(name);
        assert!(self.node.is_running(), "{name}: the node ended");
        let api = self.node.api();
        // The next heartbeat may find its own connection ended, a second after everything else went on.
        wait_for(&format!("{name}: every part is ready"), RECOVERY_DEADLINE, || async {
            let ready = api.get("/readyz?verbose").await;
            let parts = ready.body["parts"].as_array().cloned().unwrap_or_default();
            let is_whole = !parts.is_empty() && parts.iter().all(|part| part["ready"] == true);
            if ready.status == 200 && is_whole { Ok(()) } else { Err(ready.body) }
        })
        .await;
        let now = watch::Restarts::of(&api).await;
        assert_eq!(self.restarts.to(&now), Vec::<String>::new(), "{name}: actors were restarted");
    }

    /// Ends the load, drains, and holds the history against the rows; `database` is where PostgreSQL keeps them.
    pub async fn finish(mut self, rounds: usize, database: Option<&str>) {
        let clients = self.clients.stop().await;
        let api = self.node.api();
        self.world.settle(clients, &api).await;
        self.unharmed("at the end").await;
        let path = self.folder.path().join("history.jsonl");
        let dump = verdict::drained(&api, &path).await;
        if let Some(url) = database {
            verdict::stored_counters_agree(url, &dump).await;
        }
        verdict::counters_agree(&api, &dump).await;
        let history = load(&path);
        self.report(rounds, &history, dump.jobs.len());
        verdict::assert_not_vacuous(&history, rounds);
        crate::support::history::assert_sound(&history, &dump);
    }

    fn report(&self, rounds: usize, history: &[crate::support::history::Operation], jobs: usize) {
        let slowest = |of: &[Duration]| of.iter().max().map_or(0, |slowest| slowest.as_millis() as u64);
        let figure = |name: &str, value: u64| nightly::figure(self.part, name, value);
        figure("fault_rounds", rounds as u64);
        figure("jobs", jobs as u64);
        for (name, count) in verdict::counts(history) {
            figure(&name, count);
        }
        for (status, count) in self.world.statuses() {
            figure(&format!("answers_{status}"), count);
        }
        figure("slowest_answer_ms", self.world.slowest().as_millis() as u64);
        figure("slowest_named_ms", slowest(&self.names));
        figure("slowest_recovery_ms", slowest(&self.recoveries));
    }
}
