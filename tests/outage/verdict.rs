//! After the last fault: nothing moves, the counters are the rows', and the history is one that the promises allow.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use sqlx::{Connection, PgConnection};

use crate::support::history::{Dump, Operation, Outcome, load, orphans};
use crate::support::{Api, wait_for};

/// The longest of what is left: twenty short attempts of a forced error, two seconds of delay, the backlog.
const DRAIN_DEADLINE: Duration = Duration::from_secs(120);
/// A queue counts its rows anew when nothing is under way.
const COUNT_DEADLINE: Duration = Duration::from_secs(10);
/// Acknowledged submissions a round at least, on average; far fewer would prove little.
const ACKNOWLEDGED_MIN: usize = 20;
const STATES: [(&str, &str); 9] = [
    ("queued", "queuedJobs"),
    ("blocked", "blockedJobs"),
    ("throttled", "throttledJobs"),
    ("active", "activeJobs"),
    ("failed", "failedJobs"),
    ("retrying", "retryingJobs"),
    ("completed", "completedJobs"),
    ("scheduled", "scheduledJobs"),
    ("canceled", "canceledJobs"),
];

/// Waits until nothing moves any longer, and takes the dump.
pub(super) async fn drained(api: &Api, history: &Path) -> Dump {
    const MOVING: &str =
        "/api/v1/jobs?limit=1&state=queued&state=active&state=retrying&state=scheduled&state=throttled";
    wait_for("the backlog drains", DRAIN_DEADLINE, || async {
        let moving = api.get(MOVING).await.expect(200);
        if moving != json!([]) {
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

/// The overview, which comes from the queues' memory, says what the rows say.
pub(super) async fn counters_agree(api: &Api, dump: &Dump) {
    let rows = |state: &str| dump.jobs.iter().filter(|job| job.state() == state).count() as u64;
    let due: BTreeMap<&str, u64> = STATES.iter().map(|(state, field)| (*field, rows(state))).collect();
    wait_for("the counters agree with the rows", COUNT_DEADLINE, || async {
        let overview = api.get("/api/v1/overview").await.expect(200);
        let told = STATES.iter().map(|(_, field)| (*field, overview[*field].as_u64().unwrap_or(u64::MAX)));
        let told: BTreeMap<&str, u64> = told.collect();
        if told == due { Ok(()) } else { Err(format!("told {told:?}, rows {due:?}")) }
    })
    .await;
}

/// The counters that the store keeps, on PostgreSQL, say what the rows say.
pub(super) async fn stored_counters_agree(url: &str, dump: &Dump) {
    let sums = STATES.map(|(state, _)| format!("sum({state})::bigint")).join(", ");
    let sql = sqlx::AssertSqlSafe(format!("select array[{sums}] from counter"));
    let mut connection = PgConnection::connect(url).await.expect("connect");
    let stored: Vec<i64> =
        sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("read the counters");
    let rows = STATES.map(|(state, _)| dump.jobs.iter().filter(|job| job.state() == state).count() as i64);
    assert_eq!(stored, rows, "the store's counters against the rows, by {STATES:?}");
}

/// How many operations ended how.
pub(super) fn counts(history: &[Operation]) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for operation in history.iter().filter(|op| op.outcome != Outcome::Invoke) {
        let how = match operation.outcome {
            Outcome::Ok => "acknowledged",
            Outcome::Fail => "refused",
            Outcome::Info | Outcome::Invoke => "unknown",
        };
        *all.entry(format!("{}_{how}", operation.f)).or_default() += 1;
    }
    all
}

/// Without these a sound history means nothing.
pub(super) fn assert_not_vacuous(history: &[Operation], rounds: usize) {
    let counts = counts(history);
    let count = |name: &str| counts.get(name).copied().unwrap_or(0) as usize;
    assert!(count("submit_acknowledged") >= rounds * ACKNOWLEDGED_MIN, "vacuous: {counts:?}");
    assert!(count("cancel_acknowledged") > 0 && count("retry_acknowledged") > 0, "vacuous: {counts:?}");
}
