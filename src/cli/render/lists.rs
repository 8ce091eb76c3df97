//! Lists of what is no job, as tables.

use serde_json::Value;

use super::{
    paint::Tone,
    table::Column,
    values::{Cell, ago, at, is, millis, number, plain, state, table, text},
};
use crate::cli::screen::View;

/// Whether a queue works, in a word.
pub(super) fn queue_status(queue: &Value) -> Cell {
    let (word, tone) = match (is(queue, "/paused"), is(queue, "/draining")) {
        (true, true) => ("drained", Tone::Waiting),
        (false, true) => ("draining", Tone::Waiting),
        (true, false) => ("paused", Tone::Waiting),
        (false, false) => ("open", Tone::Good),
    };
    (word.to_owned(), tone)
}

/// Queues.
pub(in crate::cli) fn queues(items: &[Value], titles: bool, view: &View) -> String {
    let columns = [
        Column::text("QUEUE", 0).at_least(16),
        Column::whole("STATUS", 0),
        Column::whole("QUEUED", 1).right(),
        Column::whole("ACTIVE", 1).right(),
        Column::whole("SCHEDULED", 6).right(),
        Column::whole("RETRYING", 5).right(),
        Column::whole("BLOCKED", 7).right(),
        Column::whole("FAILED", 4).right(),
        Column::whole("OLDEST", 2).right(),
        Column::whole("LIMIT", 8).right(),
        Column::text("OWNER", 9),
    ];
    table(columns, items, titles, view, |queue| {
        [
            plain(queue, "/name"),
            queue_status(queue),
            number(queue, "/counts/queued"),
            number(queue, "/counts/active"),
            number(queue, "/counts/scheduled"),
            number(queue, "/counts/retrying"),
            number(queue, "/counts/blocked"),
            number(queue, "/counts/failed"),
            millis(queue, "/oldestQueuedAgeMs"),
            number(queue, "/concurrency"),
            plain(queue, "/owner"),
        ]
    })
}

/// How many of a worker's slots are taken.
pub(super) fn slots(worker: &Value) -> Cell {
    (format!("{}/{}", or_none(worker, "/activeLeaseCount"), or_none(worker, "/concurrency")), Tone::Plain)
}

fn or_none(item: &Value, pointer: &str) -> String {
    let text = text(item, pointer);
    if text.is_empty() { "-".to_owned() } else { text }
}

/// Workers.
pub(in crate::cli) fn workers(items: &[Value], titles: bool, view: &View) -> String {
    let columns = [
        Column::text("WORKER", 0).at_least(24),
        Column::whole("STATUS", 0),
        Column::whole("BUSY", 0).right(),
        Column::text("QUEUES", 3),
        Column::whole("HEARTBEAT", 1).right(),
        Column::whole("OLDEST", 2).right(),
        Column::text("HOST", 5),
        Column::whole("VERSION", 7),
        Column::whole("TRANSPORT", 6),
    ];
    table(columns, items, titles, view, |worker| {
        [
            plain(worker, "/workerId"),
            state(worker, "/status"),
            slots(worker),
            plain(worker, "/queues"),
            millis(worker, "/heartbeatAgeMs"),
            millis(worker, "/oldestLeaseAgeMs"),
            plain(worker, "/hostname"),
            plain(worker, "/version"),
            plain(worker, "/transport"),
        ]
    })
}

/// Dead letters.
pub(in crate::cli) fn dead_letters(items: &[Value], titles: bool, view: &View) -> String {
    let columns = [
        Column::whole("ID", 0),
        Column::text("TYPE", 2),
        Column::text("QUEUE", 3),
        Column::text("ERROR", 0).at_least(12),
        Column::text("MESSAGE", 4),
        Column::whole("FAILED", 1).right(),
        Column::whole("REPLAYS", 5).right(),
    ];
    table(columns, items, titles, view, |dead| {
        [
            plain(dead, "/jobId"),
            plain(dead, "/job/type"),
            plain(dead, "/queue"),
            (text(dead, "/errorType"), Tone::Bad),
            plain(dead, "/errorMessage"),
            ago(dead, "/failedAt", view),
            number(dead, "/replayCount"),
        ]
    })
}

/// Dead letters by what went wrong.
pub(in crate::cli) fn error_groups(items: &[Value], titles: bool, view: &View) -> String {
    let columns = [
        Column::whole("COUNT", 0).right(),
        Column::text("ERROR", 0).at_least(12),
        Column::text("MESSAGE", 1).at_least(16),
        Column::whole("LAST", 2).right(),
        Column::whole("FIRST", 6).right(),
        Column::text("TYPES", 4),
        Column::text("QUEUES", 5),
        Column::whole("SAMPLE", 3),
        Column::text("FINGERPRINT", 7),
    ];
    table(columns, items, titles, view, |group| {
        [
            number(group, "/count"),
            (text(group, "/errorType"), Tone::Bad),
            plain(group, "/message"),
            ago(group, "/lastSeen", view),
            ago(group, "/firstSeen", view),
            plain(group, "/types"),
            plain(group, "/queues"),
            plain(group, "/sampleJobId"),
            plain(group, "/fingerprint"),
        ]
    })
}

/// Operations.
pub(in crate::cli) fn operations(items: &[Value], titles: bool, view: &View) -> String {
    let columns = [
        Column::whole("ID", 0),
        Column::whole("STATE", 0),
        Column::whole("ACTION", 1),
        Column::whole("MATCHED", 3).right(),
        Column::whole("CHANGED", 2).right(),
        Column::whole("SKIPPED", 4).right(),
        Column::whole("STARTED", 5).right(),
        Column::whole("FINISHED", 6).right(),
        Column::text("REASON", 7),
    ];
    table(columns, items, titles, view, |operation| {
        [
            plain(operation, "/id"),
            state(operation, "/state"),
            plain(operation, "/action"),
            number(operation, "/matched"),
            number(operation, "/changed"),
            number(operation, "/skipped"),
            ago(operation, "/startedAt", view),
            ago(operation, "/finishedAt", view),
            plain(operation, "/reason"),
        ]
    })
}

/// Who changed what.
pub(in crate::cli) fn audit(items: &[Value], titles: bool, view: &View) -> String {
    let columns = [
        Column::whole("AT", 0),
        Column::text("ACTOR", 1),
        Column::text("ACTION", 0).at_least(16),
        Column::text("OBJECT", 0).at_least(24),
        Column::text("REASON", 2),
        Column::text("REQUEST", 3),
    ];
    table(columns, items, titles, view, |change| {
        [
            at(change, "/at", view),
            plain(change, "/actor"),
            plain(change, "/action"),
            (format!("{} {}", text(change, "/objectType"), text(change, "/objectId")), Tone::Plain),
            plain(change, "/reason"),
            (text(change, "/requestId"), Tone::Dim),
        ]
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::{render::samples, text::corpus};

    fn queue() -> Value {
        json!({
            "name": "mail", "paused": true, "draining": false, "oldestQueuedAgeMs": 65_000, "owner": "node-1",
            "counts": { "queued": 1234, "active": 4, "failed": 0 }, "concurrency": 8, "throughput": { "a": 1 },
        })
    }

    #[test]
    fn queues_are_a_table() {
        let text = queues(&[queue(), json!({ "name": "bare" })], true, &samples::view(Some(100)));
        insta::assert_snapshot!(text, @r"
        QUEUE  STATUS  QUEUED  ACTIVE  FAILED  OLDEST  LIMIT  OWNER
        mail   paused   1,234       4       0  1m 05s      8  node-1
        bare   open
        ");
    }

    #[test]
    fn workers_are_a_table() {
        let worker = json!({
            "workerId": "n/local", "hostname": "h", "queues": ["a", "b"], "concurrency": 4, "status": "cordoned",
            "heartbeatAgeMs": 1200, "activeLeaseCount": 3, "version": "0.1.0", "transport": "local",
        });
        insta::assert_snapshot!(workers(&[worker], true, &samples::view(Some(120))), @r"
        WORKER   STATUS    BUSY  QUEUES  HEARTBEAT  HOST  VERSION  TRANSPORT
        n/local  cordoned   3/4  a, b         1.2s  h     0.1.0    local
        ");
    }

    #[test]
    fn an_empty_or_hostile_item_is_a_harmless_line() {
        type Table = fn(&[Value], bool, &View) -> String;
        let tables: [Table; 6] = [queues, workers, dead_letters, error_groups, operations, audit];
        for table in tables {
            for width in [None, Some(60), Some(200)] {
                assert!(table(&[json!({})], false, &samples::view(width)).lines().count() <= 1);
                for hostile in corpus::HOSTILE {
                    let fields = [
                        "name",
                        "owner",
                        "workerId",
                        "status",
                        "hostname",
                        "queues",
                        "version",
                        "jobId",
                        "queue",
                        "errorType",
                        "errorMessage",
                        "message",
                        "types",
                        "fingerprint",
                        "id",
                        "state",
                        "action",
                        "reason",
                        "at",
                        "actor",
                        "objectType",
                        "objectId",
                        "requestId",
                        "concurrency",
                    ];
                    let item: serde_json::Map<String, Value> =
                        fields.iter().map(|&field| (field.to_owned(), json!(hostile))).collect();
                    let text = table(&[item.into()], false, &samples::view(width));
                    corpus::assert_harmless(&text);
                    assert_eq!(text.lines().count(), 1, "{text:?}");
                }
            }
        }
    }
}
