//! Tests of the checks that hold jobs against one another and against their clients: each must bite.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed step fails the test"
)]

mod support;

use serde_json::{Value, json};
use support::history::{Dump, JobDump, Operation, check};

/// A job whose timeline is `(type, state, second)`.
fn job(id: &str, events: &[(&str, &str, u32)]) -> JobDump {
    let row = |(seq, (kind, state, second)): (usize, &(&str, &str, u32))| {
        let mut row = json!({
            "jobId": id, "seq": seq + 1, "type": format!("job.{kind}"), "state": state,
            "occurredAt": format!("2026-01-01T00:00:{second:02}.000000Z"),
        });
        if ["started", "completed", "failed"].contains(kind) {
            row["fence"] = json!(1);
        }
        row
    };
    let state = events.last().unwrap().1;
    let started = events.iter().any(|(kind, ..)| *kind == "started");
    let attempts =
        if started { vec![json!({"attempt": 1, "fence": 1, "status": state})] } else { Vec::new() };
    let mut of_job = json!({"id": id, "idempotencyKey": id, "state": state, "attempts": 1, "maxAttempts": 5});
    if state == "blocked" {
        of_job["waitingFor"] = json!("dependency");
    }
    JobDump { job: of_job, events: events.iter().enumerate().map(row).collect(), attempts }
}

fn ended(id: &str, state: &str, from: u32) -> JobDump {
    job(id, &[("enqueued", "queued", from), ("started", "active", from), (state, state, from + 2)])
}

fn child(started: u32) -> JobDump {
    let events =
        [("blocked", "blocked", 0), ("unblocked", "queued", started), ("started", "active", started)];
    job("child", &[&events[..], &[("completed", "completed", started + 1)]].concat())
}

/// `parent` was submitted, and `child`, which depends on it.
fn submitted(policy: &str, more: &[Value]) -> Vec<Operation> {
    let child =
        json!({"key": "child", "jobId": "child", "dependsOn": ["parent"], "dependencyPolicy": policy});
    let mut lines = Vec::new();
    for value in [json!({"key": "parent", "jobId": "parent"}), child] {
        lines.push(json!({"type": "invoke", "f": "submit", "value": value}));
        lines.push(json!({"type": "ok", "f": "submit", "value": value}));
    }
    lines.extend_from_slice(more);
    let operation = |mut line: Value| {
        (line["proc"], line["mono_ns"]) = (json!(1), json!(1));
        serde_json::from_value(line).unwrap()
    };
    lines.into_iter().map(operation).collect()
}

fn found(history: &[Operation], jobs: [JobDump; 2]) -> Vec<&'static str> {
    let dump = Dump { jobs: jobs.to_vec(), drained: true };
    check(history, &dump).iter().map(|violation| violation.check).collect()
}

#[test]
fn a_child_that_starts_after_its_parent_is_sound() {
    assert!(found(&submitted("block", &[]), [ended("parent", "completed", 1), child(3)]).is_empty());
    assert!(found(&submitted("allow_failed", &[]), [ended("parent", "failed", 1), child(3)]).is_empty());
}

#[test]
fn d1_reports_a_child_that_starts_too_early_or_in_spite_of_its_policy() {
    assert_eq!(found(&submitted("block", &[]), [ended("parent", "completed", 1), child(2)]), ["D1"]);
    assert_eq!(found(&submitted("block", &[]), [ended("parent", "failed", 1), child(4)]), ["D1"]);
    let still_blocked = job("parent", &[("blocked", "blocked", 0)]);
    assert_eq!(found(&submitted("allow_failed", &[]), [still_blocked, child(4)]), ["D1"]);
}

#[test]
fn d3_reports_a_child_that_nothing_blocks() {
    let blocked = || job("child", &[("blocked", "blocked", 0)]);
    assert_eq!(found(&submitted("block", &[]), [ended("parent", "completed", 1), blocked()]), ["D3"]);
    assert_eq!(found(&submitted("allow_failed", &[]), [ended("parent", "failed", 1), blocked()]), ["D3"]);
    assert!(found(&submitted("block", &[]), [ended("parent", "failed", 1), blocked()]).is_empty());
}

#[test]
fn k1_reports_a_cancel_that_did_not_hold() {
    let canceled = |shown: &str| {
        let cancel = json!({"type": "ok", "f": "cancel", "value": {"jobId": "parent", "state": shown}});
        submitted("allow_failed", &[cancel])
    };
    assert!(found(&canceled("active"), [ended("parent", "completed", 1), child(3)]).is_empty());
    assert!(found(&canceled("canceled"), [ended("parent", "canceled", 1), child(3)]).is_empty());
    assert_eq!(found(&canceled("canceled"), [ended("parent", "completed", 1), child(3)]), ["K1"]);
    assert_eq!(found(&canceled("active"), [ended("parent", "failed", 1), child(3)]), ["K1"]);
}
