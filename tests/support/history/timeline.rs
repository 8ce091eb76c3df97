//! Checks of one job's own rows: S3, S4, S5, F1, A1, A2 and T1.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{JobDump, Violation};

/// The contract's states and moves; moves to `canceled`, and a workflow's rerun, are in `is_legal`.
const MOVES: [(&str, &str); 17] = [
    ("queued", "active"),
    ("queued", "throttled"),
    ("queued", "scheduled"),
    ("active", "completed"),
    ("active", "retrying"),
    ("active", "failed"),
    ("active", "queued"),
    ("active", "scheduled"),
    ("retrying", "queued"),
    ("retrying", "scheduled"),
    ("blocked", "queued"),
    ("blocked", "scheduled"),
    ("throttled", "queued"),
    ("throttled", "scheduled"),
    ("scheduled", "queued"),
    ("failed", "queued"),
    ("", "queued"),
];
/// Where else a timeline may begin.
const BIRTHS: [&str; 2] = ["scheduled", "blocked"];
/// Rows that note something and move nothing.
const NOTES: [&str; 4] = ["job.cancel_requested", "job.updated", "job.duplicate_suppressed", "job.retried"];
/// Rows that leave the job in one state only.
const STATES_OF: [(&str, &str); 6] = [
    ("job.started", "active"),
    ("job.completed", "completed"),
    ("job.failed", "failed"),
    ("job.canceled", "canceled"),
    ("job.throttled", "throttled"),
    ("job.blocked", "blocked"),
];
/// Rows by which an operator gives a job new attempts: each begins an epoch.
const EPOCHS: [&str; 2] = ["job.retried", "job.replayed"];
/// Worker deaths under a job that make it poison.
const DEATHS_MAX: usize = 3;
/// Ends of an attempt that use it up.
const CHARGED: [&str; 4] = ["completed", "retrying", "failed", "lease_expired"];

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_default()
}

fn is_legal(from: &str, to: &str, of_workflow: bool) -> bool {
    MOVES.contains(&(from, to))
        || (from.is_empty() && BIRTHS.contains(&to))
        || (to == "canceled" && !["", "completed", "canceled"].contains(&from))
        || (of_workflow && (from, to) == ("completed", "queued"))
}

/// Everything wrong with this job's rows.
pub(super) fn check(dump: &JobDump, drained: bool) -> Vec<Violation> {
    let mut found = Findings { dump, violations: Vec::new() };
    found.moves();
    found.ends();
    found.fences();
    found.attempts();
    found.deaths();
    found.agreement(drained);
    found.violations
}

struct Findings<'a> {
    dump: &'a JobDump,
    violations: Vec<Violation>,
}

impl<'a> Findings<'a> {
    fn report(&mut self, check: &'static str, detail: String, rows: &[&Value]) {
        let rows = rows.iter().map(|row| (*row).clone()).collect();
        self.violations.push(Violation { check, job: self.dump.id().to_owned(), detail, rows });
    }

    /// S4: the sequence is dense from 1 and each change of state is one of the contract's moves.
    fn moves(&mut self) {
        let of_workflow = self.dump.job.get("workflowId").is_some();
        let (mut before, mut last) = ("", &Value::Null);
        for (row, due) in self.dump.events.iter().zip(1u64..) {
            if row["seq"].as_u64() != Some(due) {
                self.report("S4", format!("seq {} where {due} was due", row["seq"]), &[last, row]);
            }
            let (state, kind) = (text(row, "state"), text(row, "type"));
            let stays = state == before && NOTES.contains(&kind);
            if !stays && !is_legal(before, state, of_workflow) {
                self.report("S4", format!("`{kind}` moved it {before:?} → {state:?}"), &[last, row]);
            }
            if STATES_OF.iter().any(|(of, only)| *of == kind && *only != state) {
                self.report("S4", format!("`{kind}` with state {state:?}"), &[row]);
            }
            (before, last) = (state, row);
        }
    }

    /// S3, S5: within an epoch one end, which only a cancel of a failed job may follow; a completion carries the
    /// newest fence.
    fn ends(&mut self) {
        let mut ended: Option<&Value> = None;
        let mut newest = 0;
        let mut completions: BTreeMap<u64, Vec<&Value>> = BTreeMap::new();
        for (row, epoch) in self.dump.events.iter().zip(self.epochs()) {
            let (state, kind) = (text(row, "state"), text(row, "type"));
            if kind == "job.started" {
                newest = newest.max(row["fence"].as_u64().unwrap_or(0));
            }
            if kind == "job.completed" {
                completions.entry(epoch).or_default().push(row);
                if row["fence"].as_u64().is_some_and(|fence| fence != newest) {
                    self.report("S5", format!("completed without its newest fence, {newest}"), &[row]);
                }
            }
            if EPOCHS.contains(&kind) || (text(row, "state") == "queued" && self.reran(ended)) {
                ended = None;
            }
            if NOTES.contains(&kind) {
                continue;
            }
            match ended {
                Some(end) if (text(end, "state"), state) != ("failed", "canceled") => {
                    self.report("S3", "moved after its end".to_owned(), &[end, row]);
                }
                _ if ["completed", "failed", "canceled"].contains(&state) => ended = Some(row),
                _ => {}
            }
        }
        for (epoch, rows) in &completions {
            if rows.len() > 1 {
                self.report("S5", format!("completed {} times in epoch {epoch}", rows.len()), rows);
            }
        }
        let rows: usize = completions.values().map(Vec::len).sum();
        let attempts = self.attempts_in(&["completed"]);
        if attempts.len() > rows {
            self.report(
                "S5",
                format!("{} completed attempts for {rows} completions", attempts.len()),
                &attempts,
            );
        }
    }

    /// A workflow's rerun begins anew after a completion.
    fn reran(&self, ended: Option<&Value>) -> bool {
        self.dump.job.get("workflowId").is_some()
            && ended.is_some_and(|end| text(end, "state") == "completed")
    }

    /// F1: each lease has a greater fence than all before it, and each attempt is one lease's.
    fn fences(&mut self) {
        let started = self.started();
        for pair in started.windows(2) {
            if pair[1]["fence"].as_u64() <= pair[0]["fence"].as_u64() {
                self.report("F1", "its fence did not grow".to_owned(), &[pair[0], pair[1]]);
            }
        }
        let issued: BTreeSet<u64> = started.iter().filter_map(|row| row["fence"].as_u64()).collect();
        let mut used = BTreeSet::new();
        for attempt in &self.dump.attempts {
            match attempt["fence"].as_u64() {
                Some(fence) if !used.insert(fence) => {
                    self.report("F1", format!("two attempts with fence {fence}"), &[attempt]);
                }
                Some(fence) if issued.contains(&fence) => {}
                _ => self.report(
                    "F1",
                    "an attempt whose fence no `job.started` row has".to_owned(),
                    &[attempt],
                ),
            }
        }
    }

    /// A1: attempts used up in an epoch, and the job's own count, stay within its limit.
    fn attempts(&mut self) {
        let Some(limit) = self.dump.job["maxAttempts"].as_u64() else { return };
        // The limit may have been another one when the attempts were made.
        if self.dump.events.iter().any(|row| text(row, "type") == "job.updated") {
            return;
        }
        if self.dump.job["attempts"].as_u64().is_some_and(|attempts| attempts > limit) {
            self.report("A1", format!("more attempts than {limit}"), &[&self.dump.job]);
        }
        for (epoch, attempts) in self.by_epoch(self.attempts_in(&CHARGED)) {
            if attempts.len() as u64 > limit {
                self.report(
                    "A1",
                    format!("{} of {limit} attempts used up in epoch {epoch}", attempts.len()),
                    &attempts,
                );
            }
        }
    }

    /// A2: the third worker death under a job in an epoch, and no earlier one, makes it poison.
    fn deaths(&mut self) {
        let expired = self.dump.attempts.iter().filter(|attempt| attempt["leaseExpired"] == true).collect();
        for (epoch, deaths) in self.by_epoch(expired) {
            let poisoned = deaths.iter().filter(|attempt| text(attempt, "errorType") == "poison").count();
            if deaths.len() > DEATHS_MAX || poisoned != deaths.len() / DEATHS_MAX {
                let detail = format!("{} deaths in epoch {epoch}, {poisoned} of them poison", deaths.len());
                self.report("A2", detail, &deaths);
            }
        }
    }

    /// These attempts by the epoch that they were started in; one without a lease is F1's.
    fn by_epoch(&self, attempts: Vec<&'a Value>) -> BTreeMap<u64, Vec<&'a Value>> {
        let events = self.dump.events.iter().zip(self.epochs());
        let epoch_of: BTreeMap<u64, u64> = events
            .filter(|(row, _)| text(row, "type") == "job.started")
            .filter_map(|(row, epoch)| Some((row["fence"].as_u64()?, epoch)))
            .collect();
        let mut by_epoch: BTreeMap<u64, Vec<&Value>> = BTreeMap::new();
        for attempt in attempts {
            let epoch = attempt["fence"].as_u64().and_then(|fence| epoch_of.get(&fence));
            if let Some(epoch) = epoch {
                by_epoch.entry(*epoch).or_default().push(attempt);
            }
        }
        by_epoch
    }

    /// T1: the timeline ends in the job's state, starts and attempts are as many, and none is open without reason.
    fn agreement(&mut self, drained: bool) {
        let last = self.dump.events.last().unwrap_or(&Value::Null);
        if text(last, "state") != self.dump.state() {
            self.report("T1", format!("the timeline ends, the job is {}", self.dump.state()), &[last]);
        }
        let (started, attempts) = (self.started(), &self.dump.attempts);
        if started.len() != attempts.len() {
            let detail = format!("{} `job.started` rows, {} attempts", started.len(), attempts.len());
            self.report("T1", detail, &attempts.iter().collect::<Vec<_>>());
        }
        let open = self.attempts_in(&["started"]);
        if open.len() > 1 || (drained && self.dump.state() != "active" && !open.is_empty()) {
            self.report("T1", format!("{} open attempts, state {}", open.len(), self.dump.state()), &open);
        }
    }

    /// Each row's epoch: how often the job was retried or replayed, that row included.
    fn epochs(&self) -> Vec<u64> {
        let counted = self.dump.events.iter().scan(0, |epoch, row| {
            *epoch += u64::from(EPOCHS.contains(&text(row, "type")));
            Some(*epoch)
        });
        counted.collect()
    }

    fn started(&self) -> Vec<&'a Value> {
        self.dump.events.iter().filter(|row| text(row, "type") == "job.started").collect()
    }

    fn attempts_in(&self, statuses: &[&str]) -> Vec<&'a Value> {
        self.dump.attempts.iter().filter(|attempt| statuses.contains(&text(attempt, "status"))).collect()
    }
}
