//! ```text
//! round:  a node with one crash point armed ── script ──> (it dies? start it again, disarmed, and go on)
//! end:    drain ──> dump ──> history::assert_sound, every job of the script ended as it should, counts agree with
//!         rows, every actor runs; the same once more after another start
//! ```
//!
//! A round lasts 2 to 4 s, and more for a reason: a `stall` stands still for 3.5 s; after a `panic` that took the
//! answer of a report or of log lines with it, the session brings them again after its 5 s (`REPORT_AGAIN`).
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    unreachable_pub,
    reason = "of a test binary; a failed step fails the test"
)]

mod rig;
mod script;

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use futures_util::FutureExt as _;

use crate::support::nightly;
use rig::{Engine, Rig};

/// Rounds of the ordinary run.
const ROUNDS: u64 = 12;

/// What is written through the journal in the script, by the name of its operation. Not in it: `snooze` (no
/// built-in handler asks for it) and `unpark` (a worker that learns a new type comes with the worker protocol).
const WRITES: [&str; 19] = [
    "submit",
    "births",
    "grant",
    "complete",
    "fail",
    "dead_letter",
    "release",
    "recover",
    "poison",
    "cancel_running",
    "cancel",
    "retry",
    "inbox",
    "park",
    "update",
    "replay",
    "forget",
    "settings",
    "log",
];
/// Around each of them; all of these can fail.
const WRITE_SITES: [&str; 3] = ["before_commit", "in_transaction", "after_commit"];
/// Elsewhere on a job's way, and whether the site can fail.
const OTHER_POINTS: [(&str, bool); 10] = [
    ("queue_hears.submit", false),
    ("queue_hears.grant", false),
    ("queue_hears.end", false),
    ("queue_hears.interfere", false),
    ("queue_hears.park", false),
    ("queue.load", true),
    ("queue.renew", false),
    ("lease.start", true),
    ("worker.assign", false),
    ("worker.done", false),
];
/// What has found a defect before is played first, and so in every run: a queue whose load panicked never loaded.
const FOUND: [(&str, &str); 1] = [("queue.load", "panic")];
const ACTIONS: [&str; 4] = ["kill", "error", "panic", "stall"];

/// One round: where, what, and on which engine.
#[derive(Debug, Clone)]
struct Fault {
    point: String,
    action: &'static str,
    engine: Engine,
}

fn points() -> Vec<(String, bool)> {
    let writes =
        WRITE_SITES.iter().flat_map(|site| WRITES.iter().map(move |kind| (format!("{site}.{kind}"), true)));
    writes.chain(OTHER_POINTS.iter().map(|(name, fails)| ((*name).to_owned(), *fails))).collect()
}

/// Every fault, in an order of chance that is the same each time: any few of them are of all kinds.
fn faults() -> Vec<Fault> {
    let mut faults = Vec::new();
    for engine in [Engine::Sqlite, Engine::Postgres] {
        for (point, fails) in points() {
            for action in ACTIONS.into_iter().filter(|action| fails || *action != "error") {
                faults.push(Fault { point: point.clone(), action, engine });
            }
        }
    }
    faults.sort_by_cached_key(|fault| {
        let is_new = !FOUND.contains(&(fault.point.as_str(), fault.action));
        let text = format!("{fault:?}");
        let chance = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        (is_new, chance)
    });
    faults
}

/// Plays the script without a fault on both engines: it passes every point, and ends as it should.
pub async fn pass_all() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let mut rig = Rig::start(engine, None).await;
        let ends = script::play(&mut rig).await;
        rig.check(&ends).await;
        let passed = rig.passed();
        let missed: Vec<String> =
            points().into_iter().map(|(name, _)| name).filter(|name| !passed.contains(name)).collect();
        assert!(missed.is_empty(), "{engine:?}: the script does not pass {missed:?}");
    }
}

/// Plays the rounds that were asked for: all of them, whichever fail.
pub async fn play() {
    let faults = faults();
    let (mut deaths, mut played) = (0_u64, 0_u64);
    let mut failed = Vec::new();
    let began = Instant::now();
    for round in nightly::rounds(ROUNDS) {
        let Some(fault) = usize::try_from(round).ok().and_then(|round| faults.get(round)) else { break };
        println!("round {round} of {}: {fault:?}", faults.len());
        let started = Instant::now();
        // What went wrong is printed as it happens, the node's log with it.
        match AssertUnwindSafe(play_one(fault)).catch_unwind().await {
            Ok(died) => deaths += died,
            Err(_) => failed.push(format!("round {round}: {fault:?}")),
        }
        println!("  {:.1} s", started.elapsed().as_secs_f64());
        played += 1;
    }
    nightly::figure("sweep", "faults_in_all", faults.len());
    nightly::figure("sweep", "faults_played", played);
    nightly::figure("sweep", "deaths_by_crash_point", deaths);
    nightly::figure("sweep", "seconds", began.elapsed().as_secs());
    assert!(failed.is_empty(), "{} of {played} rounds failed:\n{}", failed.len(), failed.join("\n"));
}

/// One round; how often the node died.
async fn play_one(fault: &Fault) -> u64 {
    let mut rig = Rig::start(fault.engine, Some((&fault.point, fault.action))).await;
    let ends = script::play(&mut rig).await;
    rig.check(&ends).await;
    assert!(rig.passed().contains(&fault.point), "{} was not passed", fault.point);
    assert_eq!(rig.deaths() > 0, fault.action == "kill", "deaths at {}", fault.point);
    rig.deaths()
}
