//! Bad requests to whatever changes what is there: jobs, batches, operations, queues, workers, dead letters.

use super::{
    Case,
    cases::{JOBS, JSON, List, UNKNOWN},
    request,
};

const LINES: &str = "content-type: application/x-ndjson\r\n";
const BATCH: &str = "/api/v1/jobs/batch";
const BULK: &str = "/api/v1/jobs/bulk";
const QUEUES: &str = "/api/v1/queues";
const WORKERS: &str = "/api/v1/workers";

/// Every bad request to a control, with the status that the contract gives it.
pub(super) fn bad() -> Vec<Case> {
    let mut all = List::default();
    changes(&mut all);
    batches(&mut all);
    lines(&mut all);
    bulk(&mut all);
    operations(&mut all);
    queues(&mut all);
    workers(&mut all);
    dead_letters(&mut all);
    reads(&mut all);
    all.0
}

fn json(all: &mut List, what: &str, method: &str, path: &str, bodies: &[(&str, &str, u16)]) {
    for (name, body, status) in bodies {
        all.raw(format!("{what} {name}"), request(method, path, JSON, body.as_bytes()), *status);
    }
}

fn changes(all: &mut List) {
    let unknown = format!("{JOBS}/{UNKNOWN}");
    let tags = format!(r#"{{"tags":[{}]}}"#, vec!["\"t\""; 1_001].join(","));
    let deep = format!(r#"{{"payload":{}{}}}"#, "[".repeat(65), "]".repeat(65));
    let large = format!(r#"{{"payload":"{}"}}"#, "x".repeat((1 << 20) - 1));
    json(
        all,
        "a change",
        "PATCH",
        &unknown,
        &[
            ("of an unknown job", r#"{"priority":1}"#, 404),
            ("of half a body", r#"{"priority":"#, 400),
            ("of nothing", "", 400),
            ("of nothing in it", "{}", 422),
            ("by a list", "[]", 422),
            ("of its state", r#"{"state":"completed"}"#, 422),
            ("to a priority that is too high", r#"{"priority":10}"#, 422),
            ("to half a priority", r#"{"priority":4.5}"#, 422),
            ("to a priority past 64 bits", r#"{"priority":99999999999999999999}"#, 422),
            ("to a queue that is none", r#"{"queue":"../q q"}"#, 422),
            ("to a time that is none", r#"{"runAt":"2026-02-30T00:00:00Z"}"#, 422),
            ("to a time past ten years", r#"{"runAt":"2999-01-01T00:00:00Z"}"#, 422),
            ("to no attempts", r#"{"maxAttempts":0}"#, 422),
            ("to too many attempts", r#"{"maxAttempts":101}"#, 422),
            ("to tags with blanks", r#"{"tags":["a b"]}"#, 422),
            ("to too many tags", &tags, 422),
            ("to a payload that is too deep", &deep, 422),
            ("to a payload that is too large", &large, 422),
            ("to a lone surrogate", r#"{"payload":"\ud800"}"#, 422),
            ("to a number too large for a double", r#"{"payload":1e999}"#, 422),
        ],
    );
    all.raw("a change without a type", request("PATCH", &unknown, "", br#"{"priority":1}"#), 415);
    let merge = "content-type: application/merge-patch+xml\r\n";
    all.raw("a change as XML", request("PATCH", &unknown, merge, br#"{"priority":1}"#), 415);
    json(all, "a change", "PATCH", &format!("{JOBS}/x"), &[("of no id", r#"{"priority":1}"#, 404)]);
    all.raw("forgetting an unknown job", request("DELETE", &unknown, "", b""), 404);
    all.raw("forgetting no id", request("DELETE", &format!("{JOBS}/%ff"), "", b""), 404);
    all.raw("putting a job", request("PUT", &unknown, JSON, b"{}"), 405);
}

fn batches(all: &mut List) {
    let many = format!(r#"{{"jobs":[{}]}}"#, vec![r#"{"type":"t"}"#; 10_001].join(","));
    let deep = format!(r#"{{"jobs":[{{"type":"t","payload":{}{}}}]}}"#, "[".repeat(65), "]".repeat(65));
    json(
        all,
        "a batch",
        "POST",
        BATCH,
        &[
            ("of half a body", r#"{"jobs":[{"#, 400),
            ("of nothing", "", 400),
            ("without jobs", "{}", 422),
            ("that is an array", r#"[{"type":"t"}]"#, 422),
            ("that is an array in an array", r#"[[{"type":"t"}]]"#, 422),
            ("of null", r#"{"jobs":null}"#, 422),
            ("of numbers", r#"{"jobs":[1,2]}"#, 422),
            ("with a bad job behind a good one", r#"{"jobs":[{"type":"t"},{"type":"a b"}]}"#, 422),
            ("of too many jobs", &many, 422),
            ("that is too deep", &deep, 422),
            ("with a job that names itself", r##"{"jobs":[{"type":"t","dependencies":["#0"]}]}"##, 422),
            (
                "with a circle",
                r##"{"jobs":[{"type":"t","dependencies":["#1"]},{"type":"t","dependencies":["#0"]}]}"##,
                422,
            ),
            ("with a place that is not there", r##"{"jobs":[{"type":"t","dependencies":["#9"]}]}"##, 422),
            ("with a place below zero", r##"{"jobs":[{"type":"t","dependencies":["#-1"]}]}"##, 422),
            (
                "with a place past 64 bits",
                r##"{"jobs":[{"type":"t","dependencies":["#18446744073709551616"]}]}"##,
                422,
            ),
            (
                "with one key for two contents",
                r#"{"jobs":[{"type":"a","idempotencyKey":"k"},{"type":"b","idempotencyKey":"k"}]}"#,
                409,
            ),
        ],
    );
    let keyed = format!("{JSON}idempotency-key: k\r\n");
    all.raw("a batch under one key", request("POST", BATCH, &keyed, br#"{"jobs":[{"type":"t"}]}"#), 422);
    all.raw("a batch of text", request("POST", BATCH, "content-type: text/plain\r\n", b"{}"), 415);
    all.raw(
        "a batch in UTF-16",
        request("POST", BATCH, &LINES.replace("\r", "; charset=utf-16\r"), b"{}"),
        415,
    );
    let announced = format!("{JSON}content-length: 33554433\r\n");
    all.raw("a batch one byte too large", request("POST", BATCH, &announced, b""), 413);
    all.raw("a batch read", request("GET", BATCH, "", b""), 405);
}

/// Lines are answered one by one; what is wrong with all of them is answered at once.
fn lines(all: &mut List) {
    let keyed = format!("{LINES}idempotency-key: k\r\n");
    all.raw("lines under one key", request("POST", BATCH, &keyed, b"{\"type\":\"t\"}\n"), 422);
    let packed = format!("{LINES}content-encoding: gzip\r\n");
    all.raw("packed lines", request("POST", BATCH, &packed, b"{\"type\":\"t\"}\n"), 415);
}

fn bulk(all: &mut List) {
    let ids =
        format!(r#"{{"action":"cancel","jobIds":[{}]}}"#, vec![format!("\"{UNKNOWN}\""); 10_001].join(","));
    let reason = format!(r#"{{"action":"cancel","filter":{{}},"reason":"{}"}}"#, "x".repeat(1_001));
    let text = format!(r#"{{"action":"cancel","filter":{{"q":"{}"}}}}"#, "x".repeat(256));
    json(
        all,
        "bulk",
        "POST",
        BULK,
        &[
            ("of half a body", r#"{"action""#, 400),
            ("by a list", r#"["cancel",{"queue":"q"},null,null,false,false,null]"#, 422),
            ("of a filter that is a list", r#"{"action":"cancel","filter":[]}"#, 422),
            ("of nothing in it", "{}", 422),
            ("of an unknown action", r#"{"action":"explode","filter":{}}"#, 422),
            ("of nobody", r#"{"action":"cancel"}"#, 422),
            ("of both ids and filter", r#"{"action":"cancel","filter":{},"jobIds":[]}"#, 422),
            ("of an unknown filter", r#"{"action":"cancel","filter":{"queu":"q"}}"#, 422),
            ("of an unknown state", r#"{"action":"cancel","filter":{"state":"lost"}}"#, 422),
            ("of a queue that is none", r#"{"action":"cancel","filter":{"queue":"a b"}}"#, 422),
            ("of a text with a zero", r#"{"action":"cancel","filter":{"q":"\u0000"}}"#, 422),
            ("of a text that is too long", &text, 422),
            ("of a time of words", r#"{"action":"cancel","filter":{"createdAfter":"noon"}}"#, 422),
            ("of ids that are none", r#"{"action":"cancel","jobIds":["x"]}"#, 422),
            ("of too many ids", &ids, 422),
            ("for too long a reason", &reason, 422),
            ("for a reason with a zero", r#"{"action":"cancel","filter":{},"reason":"\u0000"}"#, 422),
            ("of an update of nothing", r#"{"action":"update","filter":{}}"#, 422),
            ("of an empty update", r#"{"action":"update","filter":{},"patch":{}}"#, 422),
            ("of a bad update", r#"{"action":"update","filter":{},"patch":{"priority":11}}"#, 422),
            ("of a cancel with a change", r#"{"action":"cancel","filter":{},"patch":{"priority":1}}"#, 422),
            (
                "of a dry run in the background",
                r#"{"action":"cancel","filter":{},"dryRun":true,"async":true}"#,
                422,
            ),
            ("of a dry run of words", r#"{"action":"cancel","filter":{},"dryRun":"yes"}"#, 422),
        ],
    );
}

fn operations(all: &mut List) {
    for id in [UNKNOWN, "x", "%00", "%ff"] {
        all.get(&format!("operation {id}"), &format!("/api/v1/operations/{id}"), 404);
        let abort = request("POST", &format!("/api/v1/operations/{id}/abort"), JSON, b"");
        all.raw(format!("an abort of operation {id}"), abort, 404);
    }
    let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(1_001));
    let path = format!("/api/v1/operations/{UNKNOWN}/abort");
    json(all, "an abort", "POST", &path, &[("of garbage", "{", 400), ("for too long a reason", &long, 422)]);
}

fn queues(all: &mut List) {
    let long = "x".repeat(129);
    let put = format!("{QUEUES}/q");
    json(
        all,
        "settings",
        "PUT",
        &put,
        &[
            ("of half a body", "{", 400),
            ("of nothing", "", 400),
            ("by a list", "[]", 422),
            ("for nobody at once", r#"{"concurrency":0}"#, 422),
            ("for too many at once", r#"{"concurrency":100001}"#, 422),
            ("for half a job", r#"{"concurrency":1.5}"#, 422),
            ("of a negative depth", r#"{"maxDepth":-1}"#, 422),
            ("of a depth past 64 bits", r#"{"maxDepth":9223372036854775808}"#, 422),
            ("of no aging", r#"{"agingSeconds":0}"#, 422),
            ("of aging for ever", r#"{"agingSeconds":1e300}"#, 422),
            ("of a lease of no length", r#"{"leaseTtlSeconds":0}"#, 422),
            ("of a lease of days", r#"{"leaseTtlSeconds":86401}"#, 422),
            ("of too many partitions", r#"{"partitions":65}"#, 422),
            ("of no fairness at all", r#"{"fairness":{"by":"mood"}}"#, 422),
            ("of fairness without a word", r#"{"fairness":{}}"#, 422),
            ("of an unknown strategy", r#"{"retry":{"strategy":"hope"}}"#, 422),
            ("of more jitter than all", r#"{"retry":{"jitter":1.01}}"#, 422),
        ],
    );
    for (name, path) in [("too long", &*long), ("a path", "..%2fq"), ("a zero", "%00"), ("a blank", "a%20b")]
    {
        all.raw(
            format!("settings of a name: {name}"),
            request("PUT", &format!("{QUEUES}/{path}"), JSON, b"{}"),
            422,
        );
        all.raw(
            format!("a pause of a name: {name}"),
            request("POST", &format!("{QUEUES}/{path}/pause"), "", b""),
            422,
        );
        all.get(&format!("a queue of a name: {name}"), &format!("{QUEUES}/{path}"), 404);
    }
    all.raw("settings of bytes", request("PUT", &format!("{QUEUES}/%ff"), JSON, b"{}"), 404);
    for what in ["resume", "drain", "purge"] {
        let path = format!("{QUEUES}/nowhere/{what}");
        all.raw(format!("a {what} of no queue"), request("POST", &path, "", b""), 404);
        json(
            all,
            &format!("a {what}"),
            "POST",
            &path,
            &[("of garbage", "{", 400), ("for a number", r#"{"reason":7}"#, 422)],
        );
    }
    let reason = format!(r#"{{"reason":"{}"}}"#, "x".repeat(1_001));
    json(
        all,
        "a pause",
        "POST",
        &format!("{QUEUES}/q/pause"),
        &[("for too long a reason", &reason, 422), ("for a zero", r#"{"reason":"\u0000"}"#, 422)],
    );
    for query in ["limit=0", "limit=1001", "limit=x", "cursor=x", "cursor=cQ", "cursor=a&cursor=b"] {
        all.get(&format!("queues with {query}"), &format!("{QUEUES}?{query}"), 422);
    }
    all.raw("a queue deleted", request("DELETE", &put, "", b""), 405);
}

fn workers(all: &mut List) {
    for id in ["nobody", "%00", "%ff", "..%2fworkers"] {
        all.get(&format!("worker {id}"), &format!("{WORKERS}/{id}"), 404);
    }
    for what in ["cordon", "resume", "drain"] {
        all.raw(
            format!("a {what} of nobody"),
            request("POST", &format!("{WORKERS}/nobody/{what}"), "", b""),
            404,
        );
    }
    for query in ["limit=0", "limit=1001", "cursor=x", "cursor=d3g6eA"] {
        all.get(&format!("workers with {query}"), &format!("{WORKERS}?{query}"), 422);
    }
}

fn dead_letters(all: &mut List) {
    let ids = format!(r#"{{"jobIds":[{}]}}"#, vec![format!("\"{UNKNOWN}\""); 1_001].join(","));
    let actor = format!(r#"{{"filter":{{}},"actor":"{}"}}"#, "x".repeat(1_001));
    for what in ["replay", "delete"] {
        json(
            all,
            what,
            "POST",
            &format!("/api/v1/dlq/{what}"),
            &[
                ("of half a body", r#"{"filter":"#, 400),
                ("of nobody", "{}", 422),
                ("of both ids and filter", r#"{"jobIds":[],"filter":{}}"#, 422),
                ("of ids that are none", r#"{"jobIds":["x",7]}"#, 422),
                ("of an id that is none", r#"{"jobIds":["x"]}"#, 422),
                ("of too many ids", &ids, 422),
                ("of an unknown filter", r#"{"filter":{"queu":"q"}}"#, 422),
                ("of a tenant that is none", r#"{"filter":{"tenantId":"a b"}}"#, 422),
                ("of an error with a zero", r#"{"filter":{"errorType":"\u0000"}}"#, 422),
                ("of a time of words", r#"{"filter":{"failedAfter":"noon"}}"#, 422),
                ("by too long an actor", &actor, 422),
            ],
        );
    }
    json(
        all,
        "replay",
        "POST",
        "/api/v1/dlq/replay",
        &[
            ("into no queue", r#"{"filter":{},"queue":"a b"}"#, 422),
            ("as no type", r#"{"filter":{},"jobType":""}"#, 422),
            ("with a priority that is too high", r#"{"filter":{},"priority":10}"#, 422),
            ("with a lone surrogate", r#"{"filter":{},"payload":"\ud800"}"#, 422),
            ("with a payload that does not fit", r#"{"filter":{},"jobType":"email.send","payload":{}}"#, 422),
        ],
    );
    for query in ["limit=0", "cursor=x", "queue=a%20b", "errorType=%00", "failedAfter=noon", "type=a&type=b"]
    {
        all.get(&format!("dead letters with {query}"), &format!("/api/v1/dlq?{query}"), 422);
        all.get(&format!("their groups with {query}"), &format!("/api/v1/dlq/groups?{query}"), 422);
    }
}

fn reads(all: &mut List) {
    let logs = format!("{JOBS}/{UNKNOWN}/logs");
    all.get("an unknown job's log", &logs, 404);
    for query in ["limit=0", "after=-1", "after=x", "attempt=0", "attempt=2147483648", "level=loud"] {
        all.get(&format!("a log with {query}"), &format!("{logs}?{query}"), 422);
    }
    for id in [UNKNOWN, "x", "%00"] {
        all.get(&format!("an explanation of {id}"), &format!("{JOBS}/{id}/explain"), 404);
    }
    for query in
        ["bucketSeconds=4", "bucketSeconds=3601", "bucketSeconds=x", "bucketSeconds=5&bucketSeconds=5"]
    {
        all.get(&format!("a dashboard with {query}"), &format!("/api/v1/dashboard?{query}"), 422);
    }
    for query in ["limit=0", "cursor=x", "createdAfter=noon", "actor=%00", "action=a&action=b"] {
        all.get(&format!("an audit log with {query}"), &format!("/api/v1/audit?{query}"), 422);
    }
    for query in ["limit=1001", "cursor=x", "cursor=bw"] {
        all.get(&format!("operations with {query}"), &format!("/api/v1/operations?{query}"), 422);
    }
}
