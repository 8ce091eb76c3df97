//! The real `ganger-node`: its settings by flag, environment and file, and what it logs.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed step fails the test"
)]

mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use support::{NodeProcess, wait_for};

const SOON: Duration = Duration::from_secs(20);

fn node(args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ganger-node"));
    command.env_clear().envs(environment.iter().copied()).args(args).stdin(Stdio::null());
    command.output().expect("run the node")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn every_setting_is_shown_with_its_origin_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ganger.toml");
    std::fs::write(&file, "lease-ttl = \"40s\"\nworker_queues = [\"a\", \"b\"]\n").unwrap();
    let file = file.to_str().unwrap();
    let environment = [
        ("GANGER_CONFIG", file),
        ("ADMIN_TOKEN", "hunter2-hunter2"),
        ("POSTGRES_URL", "postgres://u:hunter2@db/a"),
        ("SMTP_URL", "smtps://u:hunter2@mail.example.com"),
        ("RESTORED", "1"),
    ];
    let shown = node(&["config", "--shutdown-grace", "9s"], &environment);
    let table = text(&shown.stdout);
    assert!(shown.status.success() && !table.contains("hunter2"), "{table}{}", text(&shown.stderr));
    let origin = format!("{file}:1");
    for parts in [
        ["LEASE_TTL", "40s", &origin],
        ["WORKER_QUEUES", "a,b", &format!("{file}:2")],
        ["ADMIN_TOKEN", "***", "environment variable ADMIN_TOKEN"],
        ["POSTGRES_URL", "postgres://u:***@db/a", "environment variable"],
        ["SHUTDOWN_GRACE", "9s", "flag --shutdown-grace"],
        ["RESTORED", "1", "environment variable RESTORED"],
        ["LOG_LEVEL", "info", "default"],
    ] {
        let line = table.lines().find(|line| line.split(' ').next() == Some(parts[0])).expect(parts[0]);
        assert!(parts.iter().all(|part| line.contains(part)), "{parts:?}: {line}");
    }
    let shown = node(&["config", "--json"], &environment);
    assert!(!text(&shown.stdout).contains("hunter2"));
    let rows: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    let lease = rows.as_array().unwrap().iter().find(|row| row["name"] == "LEASE_TTL").unwrap();
    assert_eq!(lease["origin"], json!({ "kind": "file", "path": file, "line": 1 }));
}

#[test]
fn a_bad_setting_stops_the_start_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ganger.toml");
    std::fs::write(&file, "\nlaese_ttl = \"40s\"\n").unwrap();
    let file = file.to_str().unwrap();
    for (args, environment, parts) in [
        (&[][..], ("LEASE_TTL", "5"), &["LEASE_TTL", "environment variable LEASE_TTL", "30s"][..]),
        (&["--log-level", "loud"], ("A", "b"), &["LOG_LEVEL", "flag --log-level", "debug"]),
        (&["--config", file], ("A", "b"), &["ganger.toml:2", "laese_ttl", "did you mean lease_ttl?"]),
        (&[], ("GANGER_CONFIG", "/nowhere.toml"), &["/nowhere.toml", "cannot be read"]),
        (&[], ("OUTBOUND_ALLOW", "a;b"), &["OUTBOUND_ALLOW", "environment variable", "a;b"]),
        (&[], ("HTTP_ADDR", "0.0.0.0:0"), &["HTTP_ADDR", "ADMIN_TOKEN", "ADMIN_TOKEN: default"]),
        (&[], ("REDIS_URL", "redis://x"), &["REDIS_URL", "POSTGRES_URL is missing"]),
    ] {
        for args in [args.to_vec(), [args, &["config"]].concat()] {
            let refused = node(&args, &[environment]);
            let said = text(&refused.stderr);
            assert_eq!(refused.status.code(), Some(2), "{args:?} {environment:?}: {said}");
            assert!(said.starts_with("ganger-node: ") && said.lines().count() == 1, "{said}");
            assert!(parts.iter().all(|part| said.contains(part)), "{parts:?}: {said}");
            assert!(refused.stdout.is_empty());
        }
    }
}

#[test]
fn help_and_version_start_nothing() {
    let version = text(&node(&["--version"], &[]).stdout);
    assert_eq!(version.trim(), format!("ganger-node {}", env!("CARGO_PKG_VERSION")));
    let help = text(&node(&["--help"], &[("ADMIN_TOKEN", "hunter2")]).stdout);
    for part in ["--http-addr", "HTTP_ADDR", "--config <FILE>", "GANGER_CONFIG", "config", "Exit status"] {
        assert!(help.contains(part), "{part}: {help}");
    }
    assert!(!help.contains("hunter2"), "{help}");
}

#[tokio::test]
async fn a_node_is_started_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ganger.toml");
    std::fs::write(&file, "admin_token = \"a-key-of-its-own\"\nworker_concurrency = 64\n").unwrap();
    let node = NodeProcess::builder().env("GANGER_CONFIG", file.display()).start().await;
    node.wait_ready(SOON).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let overview = client.get(format!("{}/api/v1/overview", node.base()));
    assert_eq!(overview.bearer_auth("a-key-of-its-own").send().await.unwrap().status(), 200);
}

/// Every line of a request, and what a stop waits for, in both forms of the log.
#[tokio::test]
async fn lines_have_no_colours_and_a_request_its_id() {
    for format in ["text", "json"] {
        let builder = NodeProcess::builder().env("LOG_FORMAT", format);
        let mut node = builder.env("LOG_LEVEL", "ganger=debug,info").start().await;
        node.wait_ready(SOON).await;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.get(format!("{}/api/v1/overview", node.base()));
        let request = request.bearer_auth(support::http::DEV_TOKEN).header("X-Request-Id", "one-of-a-kind");
        assert_eq!(request.send().await.unwrap().status(), 200);
        wait_for("the request is logged", SOON, || async {
            let log = node.log();
            if log.contains("one-of-a-kind") { Ok(()) } else { Err(log) }
        })
        .await;
        node.sigterm();
        assert!(node.wait_exit(SOON).await.success());
        let log = node.log();
        assert!(!log.contains('\x1b'), "{log}");
        assert!(log.contains("stopping: no new leases"), "{log}");
        if format == "json" {
            // What it prints for people goes to standard output; the log is one object a line.
            let lines = log.lines().filter(|line| line.starts_with('{'));
            let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).expect(line)).collect();
            let served = lines.iter().filter(|line| line["fields"]["http.path"] == "/api/v1/overview");
            let ids: Vec<&Value> = served.map(|line| &line["span"]["id"]).collect();
            assert_eq!(ids, [&json!("one-of-a-kind")], "{log}");
        }
    }
}

#[tokio::test]
async fn a_stop_says_what_it_waits_for() {
    let mut node = NodeProcess::builder().start().await;
    node.wait_ready(SOON).await;
    let body = json!({ "type": "noop", "payload": { "durationMs": 1_500 } });
    let id =
        node.api().post("/api/v1/jobs", &body).await.expect(202)["job"]["id"].as_str().unwrap().to_owned();
    wait_for("the job runs", SOON, || async {
        let job = node.api().get(&format!("/api/v1/jobs/{id}")).await.expect(200);
        if job["state"] == "active" { Ok(()) } else { Err(job) }
    })
    .await;
    node.sigterm();
    assert!(node.wait_exit(SOON).await.success());
    let log = node.log();
    let waits = log.lines().find(|line| line.contains("waiting for running jobs")).expect(&log);
    assert!(waits.contains("jobs.running=1") && waits.contains("SHUTDOWN_GRACE"), "{waits}");
}

/// The table of the handbook names every setting, with its default, as `ganger-node config` shows it.
#[test]
fn the_handbook_lists_every_setting_with_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let handbook = std::fs::read_to_string(path).unwrap();
    let rows: Value = serde_json::from_slice(&node(&["config", "--json"], &[]).stdout).expect("JSON");
    let rows = rows.as_array().unwrap();
    let listed: Vec<Vec<&str>> = handbook
        .lines()
        .skip_while(|line| *line != "## Settings")
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`')).collect())
        .collect();
    let names = |row: &Value| row["name"].as_str().unwrap().to_owned();
    let known: Vec<String> = rows.iter().map(names).collect();
    assert_eq!(listed.iter().map(|cells| cells[0]).collect::<Vec<_>>(), known, "in the code's order");
    for (cells, row) in listed.iter().zip(rows) {
        // What depends on the machine or on another setting is told in words.
        let computed = ["WORKER_CONCURRENCY", "INGEST_ROOT"].contains(&cells[0]);
        let default = row["value"].as_str().filter(|value| !value.is_empty() && !computed);
        match default {
            Some(default) => assert_eq!(cells[1], default, "{}", cells[0]),
            None => assert!(!cells[1].is_empty(), "{}", cells[0]),
        }
    }
}
