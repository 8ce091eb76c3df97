//! What is done to a node: every kind of write, at least once.

use reqwest::Method;
use serde_json::json;

use super::rig::{End, Rig};

/// Plays it; how the jobs must have ended.
pub(super) async fn play(rig: &mut Rig) -> Vec<End> {
    let mut ends = Vec::new();
    let mut end = |what, job: &str, states| ends.push(End { what, job: job.to_owned(), states });

    let done = rig.submit("done", json!({"type": "noop", "queue": "sweep-a"})).await;
    assert_eq!(rig.ended(&done).await, "completed");
    end("a job that just runs", &done, &["completed"]);

    // Dependents in another shard, and a batch whose jobs name one another.
    let parent = rig
        .submit("parent", json!({"type": "noop", "queue": "sweep-a", "payload": {"durationMs": 30}}))
        .await;
    let child =
        rig.submit("child", json!({"type": "noop", "queue": "sweep-b", "dependencies": [parent]})).await;
    let batch = rig
        .batch(json!([
            {"type": "noop", "queue": "sweep-b", "idempotencyKey": "batch-0"},
            {"type": "noop", "queue": "sweep-a", "idempotencyKey": "batch-1", "dependencies": ["#0"]},
        ]))
        .await;
    for job in [&parent, &child].into_iter().chain(&batch) {
        assert_eq!(rig.ended(job).await, "completed");
        end("a job of a graph", job, &["completed"]);
    }

    // Fails, is retried by itself, dead-lettered, retried by an operator, replayed.
    let letter = json!({"type": "noop", "queue": "sweep-a", "payload": {"forceError": true}, "maxAttempts": 2,
        "retry": {"strategy": "fixed", "baseSeconds": 0.05, "maxSeconds": 0.1}});
    let letter = rig.submit("letter", letter).await;
    assert_eq!(rig.ended(&letter).await, "failed");
    let retried = rig.send(Method::POST, &format!("/api/v1/jobs/{letter}/retry"), None).await;
    assert!([202, 409].contains(&retried.status), "retry: {} {}", retried.status, retried.body);
    assert_eq!(rig.ended(&letter).await, "failed");
    rig.send(Method::POST, "/api/v1/dlq/replay", Some(&json!({"jobIds": [letter], "priority": 9})))
        .await
        .expect(202);
    assert_eq!(rig.ended(&letter).await, "failed");
    end("a job that always fails", &letter, &["failed"]);

    // Changed while it waits, moved to another queue, canceled.
    let later = rig.submit("later", json!({"type": "noop", "queue": "sweep-a", "delaySeconds": 3600})).await;
    let patch = json!({"priority": 8, "queue": "sweep-b", "payload": {"changed": true}});
    rig.send(Method::PATCH, &format!("/api/v1/jobs/{later}"), Some(&patch)).await.expect(200);
    rig.cancel(&later).await;
    end("a job that was moved and canceled", &later, &["canceled"]);

    // Nobody handles it: it waits, and says so.
    let parked = rig.submit("parked", json!({"type": "nobody.handles-this", "queue": "sweep-a"})).await;
    end("a job without a worker", &parked, &["queued"]);

    // Forgotten.
    let gone = rig.submit("gone", json!({"type": "noop", "queue": "sweep-b"})).await;
    assert_eq!(rig.ended(&gone).await, "completed");
    rig.forget(&gone).await;
    end("a job that was forgotten", &gone, &["gone"]);

    // A paused queue, and a handler that says something.
    rig.send(Method::POST, "/api/v1/queues/sweep-c/pause", None).await.expect(200);
    let report = json!({"type": "report.generate", "queue": "sweep-c", "payload": {"reportId": "r1"}});
    let report = rig.submit("report", report).await;
    rig.send(Method::POST, "/api/v1/queues/sweep-c/resume", None).await.expect(200);
    assert_eq!(rig.ended(&report).await, "completed");
    end("a report", &report, &["completed"]);

    // Canceled while it runs.
    let long =
        json!({"type": "noop", "queue": "sweep-a", "payload": {"durationMs": 60_000}, "maxAttempts": 20});
    let running = rig.submit("running", long.clone()).await;
    assert!(rig.runs_again(&running, 0).await.is_some());
    rig.cancel(&running).await;
    assert_eq!(rig.ended(&running).await, "canceled");
    end("a job canceled while it ran", &running, &["canceled"]);

    // Renewed; given back when its session's actor is restarted; then its node dies under it until it is poison.
    let victim = rig.submit("victim", long).await;
    let mut under = rig.runs_again(&victim, 0).await.expect("it runs for a minute");
    rig.renewed(&victim).await;
    let path = json!({"path": "node/workers/local"});
    rig.send(Method::POST, "/api/v1/supervision/restart", Some(&path)).await;
    while let Some(fence) = rig.runs_again(&victim, under).await {
        under = fence;
        rig.kill().await;
    }
    assert_eq!(rig.ended(&victim).await, "failed");
    end("a job under which workers die", &victim, &["failed"]);

    // After everything the node still does what it is for.
    for queue in ["sweep-a", "sweep-b", "sweep-c"] {
        let last = rig.submit(&format!("last in {queue}"), json!({"type": "noop", "queue": queue})).await;
        assert_eq!(rig.ended(&last).await, "completed");
        end("a job after all the others", &last, &["completed"]);
    }
    ends
}
