//! How running jobs are stopped: told, then forced.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::rig::{Rig, SOON, TTL, of_kind};
use crate::support::wait_for;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cancel_is_told_within_a_second_and_its_receipts_are_shown() {
    let rig = Rig::start(2).await;
    let id = rig.running(json!({"type": "polite"})).await;
    let mut follower = rig.follow(&format!("topics=job:{id}")).await;
    let snapshot = follower.until("job.snapshot").await.pop().unwrap();
    assert_eq!((&snapshot["job"]["state"], &snapshot["job"]["id"]), (&json!("active"), &json!(id)));
    assert!(snapshot["job"].get("leaseToken").is_none(), "{snapshot}");
    let asked = Instant::now();
    let answer = rig.cancel(&id).await;
    let told = follower.until("job.cancel_delivered").await;
    assert!(asked.elapsed() < Duration::from_secs(1), "told after {:?}", asked.elapsed());
    assert!(answer["controls"][0]["requestedAt"].is_string(), "{answer}");
    let rest = follower.until("job.canceled").await;
    let all = [told, rest].concat();
    for kind in ["job.cancel_requested", "job.cancel_acknowledged"] {
        assert_eq!(of_kind(&all, kind).len(), 1, "{kind}: {all:#?}");
    }

    let job = rig.wait(&id, |job| job["state"] == "canceled").await;
    let control = job["controls"][0].clone();
    assert_eq!((&control["kind"], &control["reason"]), (&json!("cancel"), &json!("enough")));
    let times = ["requestedAt", "deliveredAt", "acknowledgedAt", "effectiveAt"].map(|at| {
        let at = control[at].as_str().unwrap_or_else(|| panic!("{at} is missing: {control}"));
        at.parse::<chrono::DateTime<chrono::Utc>>().unwrap()
    });
    assert!(times.is_sorted(), "{control}");
    let inspection = rig.api.get(&format!("/api/v1/jobs/{id}/inspection")).await.expect(200);
    assert_eq!(inspection["job"]["controls"], job["controls"]);
    assert_eq!(rig.attempts(&id).await[0]["status"], "canceled");
    rig.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_that_ignores_its_cancel_is_stopped_one_lease_time_later() {
    let rig = Rig::start(1).await;
    let id = rig.running(json!({"type": "deaf"})).await;
    let asked = Instant::now();
    rig.cancel(&id).await;
    let job = rig.job(&id).await;
    assert_eq!((&job["state"], &job["cancelRequested"]), (&json!("active"), &json!(true)));
    let job = rig.wait(&id, |job| job["state"] == "canceled").await;
    assert!(asked.elapsed() >= TTL - Duration::from_millis(100), "it has its time: {:?}", asked.elapsed());
    assert!(asked.elapsed() < TTL + Duration::from_secs(2), "forced after {:?}", asked.elapsed());
    let control = &job["controls"][0];
    assert!(control["effectiveAt"].is_string() && control.get("acknowledgedAt").is_none(), "{control}");
    wait_for("its task is stopped", SOON, || async {
        let inside = rig.signals.inside.load(Ordering::SeqCst);
        if inside == 0 { Ok(()) } else { Err(inside) }
    })
    .await;
    let next = rig.submit(json!({"type": "noop"})).await;
    rig.wait(&next, |job| job["state"] == "completed").await;
    rig.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_that_blocks_its_thread_is_canceled_by_force_and_its_slot_is_free_again() {
    let rig = Rig::start(1).await;
    let id = rig.running(json!({"type": "blocker"})).await;
    let asked = Instant::now();
    rig.cancel(&id).await;
    let job = rig.wait(&id, |job| job["state"] == "canceled").await;
    assert!(asked.elapsed() >= TTL - Duration::from_millis(100) && asked.elapsed() < TTL * 2);
    assert!(job["controls"][0]["effectiveAt"].is_string(), "{job}");
    let inspection = rig.api.get(&format!("/api/v1/jobs/{id}/inspection")).await.expect(200);
    assert!(inspection.get("deadLetter").is_none());
    let last = inspection["events"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["type"], "job.canceled");
    assert!(last["metadata"]["reason"].as_str().unwrap().contains("force"), "{last}");
    // The thread is still lost, the slot is not.
    assert_eq!(rig.signals.inside.load(Ordering::SeqCst), 1);
    let next = rig.submit(json!({"type": "noop"})).await;
    rig.wait(&next, |job| job["state"] == "completed").await;
    rig.signals.release.store(true, Ordering::SeqCst);
    wait_for("the handler returns", SOON, || async {
        let inside = rig.signals.inside.load(Ordering::SeqCst);
        if inside == 0 { Ok(()) } else { Err(inside) }
    })
    .await;
    assert_eq!(rig.job(&id).await["state"], "canceled", "its late end changes nothing");
    assert_eq!(rig.attempts(&id).await.len(), 1);
    rig.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_that_outlives_its_time_out_is_a_failure_one_lease_time_later() {
    let rig = Rig::start(1).await;
    let began = Instant::now();
    let id = rig.running(json!({"type": "blocker", "timeoutSeconds": 1, "maxAttempts": 1})).await;
    let job = rig.wait(&id, |job| job["state"] == "failed").await;
    let took = began.elapsed();
    assert!(took >= TTL + Duration::from_millis(900) && took < TTL + Duration::from_secs(3), "{took:?}");
    assert!(job["lastError"].as_str().unwrap().contains("time-out"), "{job}");
    let inspection = rig.api.get(&format!("/api/v1/jobs/{id}/inspection")).await.expect(200);
    assert_eq!(inspection["deadLetter"]["errorType"], "timeout");
    assert_eq!(inspection["attempts"][0]["status"], "failed");
    assert_eq!(inspection["attempts"][0]["leaseExpired"], false);
    rig.signals.release.store(true, Ordering::SeqCst);
    rig.node.shutdown().await.unwrap();
}
