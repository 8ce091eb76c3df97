//! Recorded answers in the contract's shapes.

use crate::{
    cli::{
        model::{Actor, Graph, Inspection, Overview},
        screen::View,
    },
    domain::{JobView, Timestamp},
};

/// A view without colours, in UTC, a quarter of an hour after the samples.
pub(super) fn view(width: Option<u16>) -> View {
    View { colour: false, width, utc: true, now: Timestamp(1_795_461_300_000_000) }
}

fn read<T: serde::de::DeserializeOwned>(json: &str) -> T {
    serde_json::from_str(json).expect("a sample")
}

pub(super) fn jobs() -> Vec<JobView> {
    read(JOBS)
}

pub(super) fn inspection() -> Inspection {
    let json = format!(
        r#"{{"job":{FAILED},"attempts":{ATTEMPTS},"events":{EVENTS},"graph":{GRAPH},"deadLetter":{DEAD}}}"#
    );
    read(&json)
}

pub(super) fn graph() -> Graph {
    read(GRAPH)
}

pub(super) fn actors() -> Actor {
    read(ACTORS)
}

pub(super) fn overview() -> Overview {
    read(OVERVIEW)
}

const FAILED: &str = r#"{"id":"019e1000-0000-7000-8000-000000000001","type":"email.send","queue":"mail",
"tenantId":"acme","payload":{"recipient": "ada@example.org"},"priority":7,"attempts":2,"maxAttempts":2,
"state":"failed","schemaVersion":1,"timeoutSeconds":300,"cancelRequested":false,
"createdAt":"2026-11-23T19:00:00.000000Z","updatedAt":"2026-11-23T19:00:12.500000Z",
"runAt":"2026-11-23T19:00:00.000000Z","executionMs":350,"idempotencyKey":"order-7","startedAt":
"2026-11-23T19:00:12.150000Z","finishedAt":"2026-11-23T19:00:12.500000Z","lastError":
"smtp: connection refused by mail.example.org after three tries","workerId":"node-1/worker-2","fence":9,
"tags":["welcome","eu"],"aNewFieldOfANewerNode":1}"#;

const JOBS: &str = r#"[{"id":"019e1000-0000-7000-8000-000000000001","type":"email.send","queue":"mail",
"tenantId":"acme","payload":null,"priority":7,"attempts":2,"maxAttempts":2,"state":"failed","schemaVersion":1,
"timeoutSeconds":300,"cancelRequested":false,"createdAt":"2026-11-23T19:00:00.000Z","updatedAt":
"2026-11-23T19:00:12.500Z","runAt":"2026-11-23T19:00:00.000Z","executionMs":350,"lastError":
"smtp: connection refused by mail.example.org after three tries"},
{"id":"019e1000-0000-7000-8000-000000000002","type":"image.thumbnail","queue":"default","tenantId":"default",
"payload":{"fileId":"f","size":"sm"},"priority":5,"attempts":1,"maxAttempts":5,"state":"active","schemaVersion":1,
"timeoutSeconds":300,"cancelRequested":false,"createdAt":"2026-11-23T19:14:18.000Z","updatedAt":
"2026-11-23T19:14:20.000Z","runAt":"2026-11-23T19:14:18.000Z","executionMs":0,"workerId":"node-1/worker-1",
"waitingFor":"worker"}]"#;

const ATTEMPTS: &str = r#"[{"id":"a:8","jobId":"019e1000-0000-7000-8000-000000000001","attempt":1,"fence":8,
"workerId":"node-1/worker-1","status":"retrying","errorType":"SmtpError","errorMessage":"connection refused",
"leaseExpired":false,"startedAt":"2026-11-23T19:00:00.004Z","finishedAt":"2026-11-23T19:00:00.204Z",
"stackTrace":"at send (mail.rs:7)\nat run (job.rs:3)"},
{"id":"a:9","jobId":"019e1000-0000-7000-8000-000000000001","attempt":2,"fence":9,"workerId":"node-1/worker-2",
"status":"failed","errorType":"SmtpError","errorMessage":"connection refused","leaseExpired":false,
"startedAt":"2026-11-23T19:00:12.150Z","finishedAt":"2026-11-23T19:00:12.500Z"}]"#;

const EVENTS: &str = r#"[{"jobId":"019e1000-0000-7000-8000-000000000001","seq":1,"type":"job.enqueued","message":
"submitted","occurredAt":"2026-11-23T19:00:00.000Z","state":"queued"},
{"jobId":"019e1000-0000-7000-8000-000000000001","seq":2,"type":"job.started","message":"attempt 1 of 2",
"occurredAt":"2026-11-23T19:00:00.004Z","state":"active","attempt":1,"fence":8,"workerId":"node-1/worker-1"},
{"jobId":"019e1000-0000-7000-8000-000000000001","seq":3,"type":"job.retrying","message":
"SmtpError: connection refused","occurredAt":"2026-11-23T19:00:00.204Z","state":"retrying","attempt":1},
{"jobId":"019e1000-0000-7000-8000-000000000001","seq":4,"type":"job.failed","message":
"SmtpError: connection refused","occurredAt":"2026-11-23T19:00:12.500Z","state":"failed","attempt":2,"fence":9,
"workerId":"node-1/worker-2"}]"#;

const DEAD: &str = r#"{"jobId":"019e1000-0000-7000-8000-000000000001","queue":"mail","workerId":"node-1/worker-2",
"errorType":"SmtpError","errorMessage":"connection refused","failedAt":"2026-11-23T19:00:12.500Z","lastAttempt":2,
"replayCount":0}"#;

/// The demo: ingest, three thumbnails, metadata, notify.
const GRAPH: &str = r#"{"rootJobId":"019e1000-0000-7000-8000-00000000000a","nodes":[
{"jobId":"019e1000-0000-7000-8000-00000000000a","type":"file.ingest","state":"completed","queue":"media",
"dependsOn":[],"dependents":["019e1000-0000-7000-8000-00000000000b","019e1000-0000-7000-8000-00000000000c",
"019e1000-0000-7000-8000-00000000000d"],"dependencyPolicy":"block"},
{"jobId":"019e1000-0000-7000-8000-00000000000b","type":"image.thumbnail","state":"completed","queue":"media",
"dependsOn":["019e1000-0000-7000-8000-00000000000a"],"dependents":["019e1000-0000-7000-8000-00000000000e"]},
{"jobId":"019e1000-0000-7000-8000-00000000000c","type":"image.thumbnail","state":"active","queue":"media",
"dependsOn":["019e1000-0000-7000-8000-00000000000a"],"dependents":["019e1000-0000-7000-8000-00000000000e"]},
{"jobId":"019e1000-0000-7000-8000-00000000000d","type":"image.thumbnail","state":"queued","queue":"media",
"dependsOn":["019e1000-0000-7000-8000-00000000000a"],"dependents":["019e1000-0000-7000-8000-00000000000e"]},
{"jobId":"019e1000-0000-7000-8000-00000000000e","type":"metadata.aggregate","state":"blocked","queue":"media",
"dependsOn":["019e1000-0000-7000-8000-00000000000b","019e1000-0000-7000-8000-00000000000c",
"019e1000-0000-7000-8000-00000000000d"],"dependents":["019e1000-0000-7000-8000-00000000000f"],
"blockedReason":"waits for 2 of 3 jobs"},
{"jobId":"019e1000-0000-7000-8000-00000000000f","type":"user.notify","state":"blocked","queue":"media",
"dependsOn":["019e1000-0000-7000-8000-00000000000e"],"dependents":[],"blockedReason":"waits for 1 job"}]}"#;

const ACTORS: &str = r#"{"id":"0.1","kind":"node","name":"node","path":"node","status":"running",
"startedAt":"2026-11-23T18:00:00Z","restarts":0,"mailbox":{"depth":0,"highWater":2},
"messages":{"handled":12,"perSecond":0.0,"meanMicros":8.0,"p99Micros":null},"childCount":3,"children":[
{"id":"0.2","kind":"queue","name":"mail","path":"node/mail","status":"running","startedAt":"2026-11-23T19:10:00Z",
"restarts":2,"lastRestart":{"at":"2026-11-23T19:10:00Z","reason":"panicked: index out of bounds"},
"mailbox":{"depth":14,"highWater":1024},"messages":{"handled":1234567,"perSecond":812.44,"meanMicros":41.7,
"p99Micros":2048.0},"childCount":5000,"children":[
{"id":"0.9","kind":"lease","name":"019e1000-0000-7000-8000-000000000002","path":"node/mail/019e1000",
"status":"running","startedAt":"2026-11-23T19:14:20Z","restarts":0,"mailbox":{"depth":0,"highWater":1},
"messages":{"handled":3,"perSecond":0.1,"meanMicros":5.0},"childCount":0,"children":[]}],"nextChild":117},
{"id":"0.3","kind":"journal","name":"journal-0","path":"node/journal-0","status":"quarantined",
"startedAt":"2026-11-23T18:00:00Z","restarts":9,"lastRestart":{"at":"2026-11-23T18:30:00Z","reason":"store away"},
"mailbox":{"depth":0,"highWater":0},"messages":{"handled":0,"perSecond":0.0,"meanMicros":0.0},"childCount":0,
"children":[]},
{"id":"0.4","kind":"workers","name":"workers","path":"node/workers","status":"running",
"startedAt":"2026-11-23T18:00:00Z","restarts":0,"mailbox":{"depth":0,"highWater":0},
"messages":{"handled":0,"perSecond":0.0,"meanMicros":0.0},"childCount":2,"children":[]}]}"#;

const OVERVIEW: &str = r#"{"totalJobs":123456,"queuedJobs":20,"blockedJobs":2,"throttledJobs":0,"activeJobs":4,
"failedJobs":1,"retryingJobs":3,"completedJobs":123400,"scheduledJobs":6,"canceledJobs":20,
"queueLengths":{"default":0,"mail":18,"media/eu":2},"averageExecMs":412.5,
"lastUpdatedAt":"2026-11-23T19:15:00.000000Z","activeWorkers":2,"delayedBacklog":9}"#;

/// What a stream says, its own messages included.
pub(super) const STREAM: [&str; 5] = [
    r#"{"kind":"stream.hello","streamId":"0199a1b2-0000-7000-8000-000000000001","seq":7,"timestamp":"2026-11-23T19:00:00.000Z"}"#,
    r#"{"kind":"job.started","seq":8,"timestamp":"2026-11-23T19:00:00.004Z","jobId":"019e1000-0000-7000-8000-000000000001","queue":"mail","workerId":"node-1/worker-1","tenantId":"acme","state":"active","message":"attempt 1 of 2"}"#,
    r#"{"kind":"actor.restarted","seq":9,"timestamp":"2026-11-23T19:00:01.000Z","queue":"mail","message":"panicked: index out of bounds"}"#,
    r#"{"kind":"stream.reset","streamId":"0199a1b2-0000-7000-8000-000000000001","seq":90,"timestamp":"2026-11-23T19:00:09.000Z"}"#,
    r#"{"kind":"stream.heartbeat","streamId":"0199a1b2-0000-7000-8000-000000000001","seq":90,"timestamp":"2026-11-23T19:00:15.000Z"}"#,
];
