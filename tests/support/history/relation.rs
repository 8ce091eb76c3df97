//! Checks over what clients asked of jobs together: D1, D3 and K1.
//!
//! They read `dependsOn` and `dependencyPolicy` of `submit`, and `cancel` (`{"jobId", "state"}`, the state that the
//! acknowledgement showed).

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Dump, JobDump, Operation, Outcome, Violation};

const TERMINAL: [&str; 3] = ["completed", "failed", "canceled"];

/// What jobs depend on, as acknowledged submissions said, with the dump's rows of both.
struct Dependency<'a> {
    child: &'a JobDump,
    parents: Vec<&'a JobDump>,
    allows_failed: bool,
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn dependencies<'a>(history: &'a [Operation], dump: &'a Dump) -> Vec<Dependency<'a>> {
    let jobs: BTreeMap<&str, &JobDump> = dump.jobs.iter().map(|job| (job.id(), job)).collect();
    let acknowledged = history.iter().filter(|op| op.f == "submit" && op.outcome == Outcome::Ok);
    let dependency = |op: &'a Operation| {
        let parents = op.value["dependsOn"].as_array()?;
        Some(Dependency {
            child: jobs.get(text(&op.value, "jobId"))?,
            parents: parents.iter().filter_map(|id| jobs.get(id.as_str()?).copied()).collect(),
            allows_failed: text(&op.value, "dependencyPolicy") == "allow_failed",
        })
    };
    acknowledged.filter_map(dependency).collect()
}

impl Dependency<'_> {
    /// The row since which this parent does not stand in the way; a completed job never runs again.
    fn met_by<'a>(&self, parent: &'a JobDump) -> Option<&'a Value> {
        let meets = |row: &&Value| match text(row, "state") {
            "completed" => true,
            state => self.allows_failed && TERMINAL.contains(&state),
        };
        parent.events.iter().find(meets)
    }
}

/// D3: blocked jobs whose parents are all met.
pub fn orphans(history: &[Operation], dump: &Dump) -> Vec<Violation> {
    let dependencies = dependencies(history, dump).into_iter();
    let blocked = dependencies.filter(|dependency| dependency.child.state() == "blocked");
    // Met now, not once: a failed parent that an operator runs again stands in the way again.
    let is_met = |dependency: &Dependency, parent: &JobDump| {
        parent.state() == "completed" || (dependency.allows_failed && TERMINAL.contains(&parent.state()))
    };
    let orphaned =
        blocked.filter(|dependency| dependency.parents.iter().all(|parent| is_met(dependency, parent)));
    let violation = |dependency: Dependency| Violation {
        check: "D3",
        job: dependency.child.id().to_owned(),
        detail: "blocked, and none of its parents stands in the way".to_owned(),
        rows: dependency.parents.iter().map(|parent| parent.job.clone()).collect(),
    };
    orphaned.map(violation).collect()
}

/// D1: no job starts before its parents are met.
pub(super) fn early(history: &[Operation], dump: &Dump) -> Vec<Violation> {
    let mut violations = Vec::new();
    for dependency in dependencies(history, dump) {
        let started = dependency.child.events.iter().find(|row| text(row, "type") == "job.started");
        let Some(started) = started else { continue };
        for parent in &dependency.parents {
            let met = dependency.met_by(parent);
            // RFC 3339 in UTC: the order of the texts is the order of the times.
            if met.is_none_or(|met| text(met, "occurredAt") > text(started, "occurredAt")) {
                let rows =
                    [Some(started), met.or(Some(&parent.job))].into_iter().flatten().cloned().collect();
                let detail = format!("started before its parent {} was met", parent.id());
                let job = dependency.child.id().to_owned();
                violations.push(Violation { check: "D1", job, detail, rows });
            }
        }
    }
    violations
}

/// K1: an acknowledged cancel holds. What was shown as canceled stays so; what ran then may still complete, and
/// never runs again.
pub(super) fn uncanceled(history: &[Operation], dump: &Dump) -> Vec<Violation> {
    let jobs: BTreeMap<&str, &JobDump> = dump.jobs.iter().map(|job| (job.id(), job)).collect();
    let canceled = history.iter().filter(|op| op.f == "cancel" && op.outcome == Outcome::Ok);
    let mut violations = Vec::new();
    for operation in canceled {
        let Some(job) = jobs.get(text(&operation.value, "jobId")) else { continue };
        let shown = text(&operation.value, "state");
        let holds = match job.state() {
            "canceled" => true,
            "completed" => shown != "canceled",
            "active" => !dump.drained && shown == "active",
            _ => false,
        };
        if !holds {
            let detail = format!("canceled, shown as {shown} then, and now {}", job.state());
            let rows = job.events.clone();
            violations.push(Violation { check: "K1", job: job.id().to_owned(), detail, rows });
        }
    }
    violations
}
