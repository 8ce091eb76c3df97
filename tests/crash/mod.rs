//! `kill -9` under load, again and again on the same data, and what must be true afterwards.
//!
//! ```text
//! round:  clients submit, repeat, cancel and retry ── 100 to 1,500 ms ──> kill -9 ──> restart on what is left
//! end:    every unknown outcome asked again ──> drain ──> dump ──> history::assert_sound
//! ```
//! A round's number is the seed of its choices; the machine's timing is not repeatable, so neither is a round.
//! Whatever a client could not know is `info` in the history, and is asked again with the same key after the restart.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    unreachable_pub,
    reason = "shared by two test binaries; a failed step fails the test"
)]

mod client;
mod submission;

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::support::history::{Dump, Operation, Outcome, Recorder, assert_sound, load, orphans};
use crate::support::wait::elapse;
use crate::support::{Api, NodeProcess, PgServer, nightly, wait_for};
use client::{Client, World};

/// Enough for several requests to be under way whenever the kill lands.
const CLIENTS: u64 = 8;
/// Rounds of the ordinary run: under a minute.
const ROUNDS: u64 = 5;
/// When a round's kill lands, in milliseconds after its load began.
const KILL_AFTER_MS: std::ops::Range<u64> = 100..1_500;
/// After a restart every recovered job runs again, before new ones of its priority.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// The longest of what is left: twenty short attempts of a forced error, two seconds of delay, the backlog.
const DRAIN_DEADLINE: Duration = Duration::from_secs(240);
/// Acknowledged submissions a round at least, on average; far fewer would prove little.
const ACKNOWLEDGED_MIN: usize = 20;

/// What keeps the node's data.
#[derive(Debug, Clone, Copy)]
pub enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    fn part(self) -> &'static str {
        match self {
            Self::Sqlite => "crash-sqlite",
            Self::Postgres => "crash-postgres",
        }
    }

    async fn node(self) -> NodeProcess {
        // As many as the load can keep busy: a kill should always find some running.
        let settings = NodeProcess::builder().env("WORKER_CONCURRENCY", 16).env("LOG_LEVEL", "warn");
        match self {
            Self::Sqlite => settings,
            Self::Postgres => settings.postgres(&PgServer::shared().create_database().await),
        }
        .start()
        .await
    }
}

/// Plays the rounds that were asked for, checks the whole history, and writes down what was reached.
pub async fn play(engine: Engine) {
    let folder = tempfile::tempdir().expect("make a folder for the history");
    let history = folder.path().join("history.jsonl");
    let world = World::new(Recorder::create(&history));
    let mut clients: Vec<Client> = (0..CLIENTS).map(Client::new).collect();
    let rounds = nightly::rounds(ROUNDS);
    let mut node = engine.node().await;
    let (mut kills, mut slowest_start) = (0_u64, Duration::ZERO);
    for round in rounds.clone() {
        node.wait_ready(READY_DEADLINE).await;
        let mut chance = StdRng::seed_from_u64(round);
        let load = world.load(clients, &node.api(), round);
        elapse(Duration::from_millis(chance.random_range(KILL_AFTER_MS))).await;
        node.kill9();
        // Each client ends with the first request that the kill cut or refused.
        clients = load.await;
        kills += 1;
        slowest_start = slowest_start.max(restart(&mut node).await);
        if chance.random_bool(0.2) {
            // While it still recovers what the first kill left.
            elapse(Duration::from_millis(chance.random_range(0..50))).await;
            kills += 1;
            slowest_start = slowest_start.max(restart(&mut node).await);
        }
    }
    node.wait_ready(READY_DEADLINE).await;
    let api = node.api();
    world.settle(clients, &api).await;
    let drain = Instant::now();
    let dump = drained(&api, &history).await;
    let drain = drain.elapsed();
    let history = load(&history);
    let found = Found::of(&history, &dump);
    report(engine, &found, rounds.clone().count(), kills, slowest_start, drain);
    assert_sound(&history, &dump);
    found.assert_not_vacuous(rounds.count());
}

/// Kills the node if it runs and starts it on what is left; how long it took to listen.
async fn restart(node: &mut NodeProcess) -> Duration {
    let began = Instant::now();
    node.restart().await;
    began.elapsed()
}

/// Waits until nothing moves any longer, and takes the dump.
async fn drained(api: &Api, history: &std::path::Path) -> Dump {
    const MOVING: &str =
        "/api/v1/jobs?limit=1&state=queued&state=active&state=retrying&state=scheduled&state=throttled";
    wait_for("the backlog drains", DRAIN_DEADLINE, || async {
        let moving = api.get(MOVING).await.expect(200);
        if moving != serde_json::json!([]) {
            return Err(format!("at least {moving}"));
        }
        // What a parent's end unblocks goes through an inbox: blocked jobs may be about to move, or did just now.
        let dump = Dump::fetch(api, true).await;
        let still = ["completed", "failed", "canceled", "blocked"];
        if let Some(job) = dump.jobs.iter().find(|job| !still.contains(&job.state())) {
            return Err(format!("job {} is {}", job.id(), job.state()));
        }
        match orphans(&load(history), &dump).first() {
            Some(orphan) => Err(orphan.to_string()),
            None => Ok(dump),
        }
    })
    .await
}

/// What a run reached, without which its soundness means nothing.
struct Found {
    acknowledged: usize,
    unknown: usize,
    canceled: usize,
    retried: usize,
    jobs: usize,
    completed: usize,
    failed: usize,
    blocked: usize,
    recovered: usize,
    poisoned: usize,
    dependent: usize,
}

impl Found {
    fn of(history: &[Operation], dump: &Dump) -> Self {
        let operations = |f: &str, outcome: Outcome| {
            history.iter().filter(|op| op.f == f && op.outcome == outcome).count()
        };
        let in_state = |state: &str| dump.jobs.iter().filter(|job| job.state() == state).count();
        let attempts = |field: &str, value: &str| {
            dump.jobs.iter().flat_map(|job| &job.attempts).filter(|row| row[field] == value).count()
        };
        let depends = |op: &&Operation| op.value["dependsOn"].as_array().is_some_and(|on| !on.is_empty());
        Self {
            acknowledged: operations("submit", Outcome::Ok),
            unknown: operations("submit", Outcome::Info),
            canceled: operations("cancel", Outcome::Ok),
            retried: operations("retry", Outcome::Ok),
            jobs: dump.jobs.len(),
            completed: in_state("completed"),
            failed: in_state("failed"),
            blocked: in_state("blocked"),
            recovered: attempts("status", "lease_expired"),
            poisoned: attempts("errorType", "poison"),
            dependent: history.iter().filter(|op| op.outcome == Outcome::Ok).filter(depends).count(),
        }
    }

    fn assert_not_vacuous(&self, rounds: usize) {
        assert!(self.recovered > 0, "vacuous: no kill hit a running job");
        assert!(self.unknown > 0, "vacuous: no outcome was unknown");
        assert!(
            self.dependent > 0 && self.canceled > 0 && self.retried > 0,
            "vacuous: a part of the load is missing"
        );
        let least = ACKNOWLEDGED_MIN * rounds;
        assert!(self.acknowledged >= least, "vacuous: {} acknowledged, not {least}", self.acknowledged);
    }
}

fn report(
    engine: Engine,
    found: &Found,
    rounds: usize,
    kills: u64,
    slowest_start: Duration,
    drain: Duration,
) {
    let figure = |name: &str, value: usize| nightly::figure(engine.part(), name, value);
    figure("kill_rounds", rounds);
    nightly::figure(engine.part(), "kills", kills);
    figure("submissions_acknowledged", found.acknowledged);
    figure("submissions_of_unknown_outcome", found.unknown);
    figure("submissions_with_dependencies", found.dependent);
    figure("cancels_acknowledged", found.canceled);
    figure("retries_acknowledged", found.retried);
    figure("jobs", found.jobs);
    figure("jobs_completed", found.completed);
    figure("jobs_failed", found.failed);
    figure("jobs_blocked_for_good", found.blocked);
    figure("attempts_recovered", found.recovered);
    figure("attempts_poisoned", found.poisoned);
    nightly::figure(engine.part(), "slowest_start_ms", slowest_start.as_millis() as u64);
    nightly::figure(engine.part(), "drain_ms", drain.as_millis() as u64);
}
