//! The checker, over the whole history and dump.
//!
//! | check | promise |
//! | --- | --- |
//! | S1 | no acknowledged job is lost: it is there, and after a drain it is terminal or waits for a lasting reason |
//! | S2 | no job without a submission that may have made it; none from one that certainly failed |
//! | S3 | one terminal row an epoch, nothing after it |
//! | S4 | only the contract's moves; `seq` dense from 1 |
//! | S5 | completed at most once an epoch, with the newest fence |
//! | F1 | fences strictly grow over a job's attempts |
//! | A1 | attempts used up in an epoch within `maxAttempts` |
//! | I1 | submissions with one key made one job |
//! | T1 | the timeline, the attempts and the job's state agree |
//! | D1 | no job starts before what it depends on has ended as its policy wants |
//! | D3 | after a drain no job is blocked by parents that do not stand in its way |
//! | K1 | an acknowledged cancel holds |

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Dump, JobDump, Operation, Outcome, Violation, relation, timeline};

/// What a job may wait for at the end of a drain. Not `worker` and `turn`: those are there.
const LASTING: [&str; 7] =
    ["rate_limit", "concurrency_limit", "dependency", "time", "backoff", "pause", "hold"];

/// A tenant's idempotency key.
type Key<'a> = (&'a str, &'a str);

/// What all the operations with one key add up to.
#[derive(Default)]
struct Submission<'a> {
    /// Ids that acknowledgements named.
    acknowledged: BTreeSet<&'a str>,
    invoked: u64,
    failed: u64,
}

/// All violations, in the order of the checks.
pub fn check(history: &[Operation], dump: &Dump) -> Vec<Violation> {
    let submissions = submissions(history);
    let mut violations = lost(history, dump, &submissions);
    violations.extend(phantoms(history, dump, &submissions));
    violations.extend(repeated(dump, &submissions));
    violations.extend(dump.jobs.iter().flat_map(|job| timeline::check(job, dump.drained)));
    violations.extend(relation::early(history, dump));
    if dump.drained {
        violations.extend(relation::orphans(history, dump));
    }
    violations.extend(relation::uncanceled(history, dump));
    violations
}

/// Fails the test with every violation in its message. A history in which nothing was acknowledged proves nothing
/// and fails too.
pub fn assert_sound(history: &[Operation], dump: &Dump) {
    let acknowledged = history.iter().filter(|op| op.f == "submit" && op.outcome == Outcome::Ok).count();
    assert!(acknowledged > 0, "vacuous: no submission was acknowledged");
    let violations = check(history, dump);
    let text: String = violations.iter().map(ToString::to_string).collect();
    assert!(violations.is_empty(), "{} violations over {} jobs:\n{text}", violations.len(), dump.jobs.len());
}

/// The jobs that one `submit` operation names, one or a batch.
fn named(value: &Value) -> impl Iterator<Item = &Value> {
    let batch = value["jobs"].as_array();
    batch.into_iter().flatten().chain(batch.is_none().then_some(value))
}

fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value[field].as_str()
}

fn submissions(history: &[Operation]) -> BTreeMap<Key<'_>, Submission<'_>> {
    let mut all: BTreeMap<Key, Submission> = BTreeMap::new();
    for operation in history.iter().filter(|op| op.f == "submit") {
        for job in named(&operation.value) {
            let key = (text(job, "tenantId").unwrap_or("default"), text(job, "key").unwrap_or_default());
            let submission = all.entry(key).or_default();
            match operation.outcome {
                Outcome::Invoke => submission.invoked += 1,
                Outcome::Ok => submission.acknowledged.extend(text(job, "jobId")),
                Outcome::Fail => submission.failed += 1,
                Outcome::Info => {}
            }
        }
    }
    all
}

/// S1.
fn lost(
    history: &[Operation],
    dump: &Dump,
    submissions: &BTreeMap<Key<'_>, Submission<'_>>,
) -> Vec<Violation> {
    let present: BTreeMap<&str, &JobDump> = dump.jobs.iter().map(|job| (job.id(), job)).collect();
    // A delete whose outcome is unknown may have happened.
    let deleted = |op: &&Operation| op.f == "delete" && op.outcome != Outcome::Fail;
    let deleted: BTreeSet<&str> =
        history.iter().filter(deleted).filter_map(|op| text(&op.value, "jobId")).collect();
    let mut violations = Vec::new();
    for (key, submission) in submissions {
        for id in submission.acknowledged.iter().filter(|id| !deleted.contains(*id)) {
            let violation = |detail: String, rows| Violation { check: "S1", job: (*id).into(), detail, rows };
            match present.get(id) {
                None => {
                    let row = json!({"tenantId": key.0, "key": key.1, "jobId": id});
                    violations.push(violation("acknowledged, and not there".into(), vec![row]));
                }
                Some(job) if dump.drained && !is_settled(job) => {
                    let detail = format!("still {} after the drain, for no lasting reason", job.state());
                    violations.push(violation(detail, vec![job.job.clone()]));
                }
                Some(_) => {}
            }
        }
    }
    violations
}

fn is_settled(job: &JobDump) -> bool {
    match job.state() {
        "completed" | "failed" | "canceled" => true,
        "active" => false,
        _ => LASTING.contains(&job.text("waitingFor")),
    }
}

/// S2.
fn phantoms(
    history: &[Operation],
    dump: &Dump,
    submissions: &BTreeMap<Key<'_>, Submission<'_>>,
) -> Vec<Violation> {
    let acknowledged: BTreeSet<&str> =
        submissions.values().flat_map(|submission| &submission.acknowledged).copied().collect();
    let invoked = |f: &str| history.iter().any(|op| op.f == f);
    let made_by_others = |job: &JobDump| {
        [("scheduleId", "schedule"), ("workflowId", "workflow"), ("parentJobId", "spawn")]
            .iter()
            .any(|(field, f)| job.job.get(*field).is_some() && invoked(f))
    };
    let mut violations = Vec::new();
    for job in dump.jobs.iter().filter(|job| !acknowledged.contains(job.id()) && !made_by_others(job)) {
        let key = (text(&job.job, "tenantId").unwrap_or("default"), job.text("idempotencyKey"));
        let detail = match submissions.get(&key).filter(|_| !key.1.is_empty()) {
            None => "nobody asked for it",
            Some(submission) if submission.failed >= submission.invoked => "every submission of it failed",
            Some(_) => continue,
        };
        let rows = vec![job.job.clone()];
        violations.push(Violation { check: "S2", job: job.id().into(), detail: detail.into(), rows });
    }
    violations
}

/// I1. Holds within the key's window, which outlasts a test.
fn repeated(dump: &Dump, submissions: &BTreeMap<Key<'_>, Submission<'_>>) -> Vec<Violation> {
    let mut ids: BTreeMap<Key, BTreeSet<&str>> = BTreeMap::new();
    for (key, submission) in submissions {
        ids.entry(*key).or_default().extend(&submission.acknowledged);
    }
    for job in &dump.jobs {
        let key = (text(&job.job, "tenantId").unwrap_or("default"), job.text("idempotencyKey"));
        ids.entry(key).or_default().insert(job.id());
    }
    let repeated = ids.into_iter().filter(|(key, ids)| !key.1.is_empty() && ids.len() > 1);
    let violation = |(key, ids): (Key, BTreeSet<&str>)| Violation {
        check: "I1",
        job: key.1.to_owned(),
        detail: format!("{} jobs for one key of tenant {}", ids.len(), key.0),
        rows: ids.into_iter().map(|id| json!({ "jobId": id })).collect(),
    };
    repeated.map(violation).collect()
}
