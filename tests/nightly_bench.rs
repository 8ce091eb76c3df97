//! The benchmark runs, drains every job it made, and on a release build keeps its share of the server's own
//! limit. Ratios of one run only: absolute times say more of the machine than of the node.
//!
//! Short form: few jobs, whatever the build; it shows that the benchmark works and loses nothing. Full form
//! (`tests/run --nightly bench`): 100,000 jobs on a release build, three rounds, at least 0.2 of the limit.
#![allow(clippy::allow_attributes, clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::{collections::HashMap, process::Command};

use serde_json::Value;
use support::PgServer;

mod support;

/// What a drain keeps of the limit that bare batches of the same rows reach in the same run.
const DRAIN_OF_RAW_MIN: f64 = 0.2;

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_keeps_its_share_of_the_servers_own_limit() {
    for round in support::nightly::rounds(1) {
        let jobs = if support::nightly::is_long() { "100000" } else { "3000" };
        let url = PgServer::shared().create_database().await;
        let (submits, seconds) = if support::nightly::is_long() { ("20000", "5") } else { ("200", "1") };
        let output = Command::new(env!("CARGO_BIN_EXE_ganger-bench"))
            .env("POSTGRES_URL", url)
            .args(["--jobs", jobs, "--submits", submits, "--latency-seconds", seconds, "--rate", "50"])
            .output()
            .expect("the benchmark starts");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "round {round}: {out}\n{err}");
        let figures: HashMap<String, Value> = out
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("a JSON line a figure"))
            .map(|figure| (figure["figure"].as_str().expect("named").to_owned(), figure))
            .collect();
        for name in ["raw_drain", "submit_bulk", "drain", "submit_single", "start_latency_p99"] {
            assert!(figures[name]["value"].as_f64().expect("a number") > 0.0, "{name}: {out}");
        }
        for (name, figure) in &figures {
            support::nightly::figure("bench", name, figure.clone());
        }
        if support::nightly::is_long() {
            let ratio = figures["drain"]["ofRaw"].as_f64().expect("a ratio");
            assert!(ratio >= DRAIN_OF_RAW_MIN, "drained at {ratio} of the limit: {out}");
        }
    }
}
