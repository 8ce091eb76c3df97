//! Jobs as they are read.

use std::time::Duration;

use serde_json::json;

use crate::{
    domain::JobState,
    http::testing::{Stage, job, request},
};

fn next(answer: &crate::http::testing::Answer) -> Option<String> {
    let link = answer.header("link")?;
    Some(link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")?.to_owned())
}

#[tokio::test]
async fn payloads_and_results_come_back_byte_for_byte() {
    let stage = Stage::new();
    let text = r#"{ "big": 9007199254740993, "nul": "\u0000", "e": 1E+2, "b":1, "a":1, "a":2 }"#;
    let mut stored = job(JobState::Completed, text);
    stored.result = Some(crate::domain::RawJson::trusted(r#"[ 1.0 ,  10000000000000000000000000000000 ]"#));
    stage.store.put(stored.clone());
    for path in [format!("/api/v1/jobs/{}", stored.id), "/api/v1/jobs".into()] {
        let answer = stage.get(&path).await;
        assert!(answer.text.contains(&format!("\"payload\":{text},")), "{path}");
        assert!(answer.text.contains(r#""result":[ 1.0 ,  10000000000000000000000000000000 ],"#), "{path}");
    }
}

#[tokio::test]
async fn pages_are_stable_while_jobs_are_added() {
    let stage = Stage::new();
    let mut ids = Vec::new();
    for _ in 0..250 {
        let job = job(JobState::Queued, "null");
        ids.push(json!(job.id));
        stage.store.put(job);
    }
    ids.reverse();
    let mut seen = Vec::new();
    let mut path = Some("/api/v1/jobs?limit=60&state=queued&q=noop".to_owned());
    while let Some(at) = path {
        let answer = stage.get(&at).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(answer.header("x-search-scope").is_some());
        seen.extend(answer.json().as_array().expect("a list").iter().map(|job| job["id"].clone()));
        path = next(&answer);
        stage.store.put(job(JobState::Queued, "null"));
    }
    assert_eq!(seen, ids);
    assert_eq!(stage.get("/api/v1/jobs").await.json().as_array().map(Vec::len), Some(100));
    let all = stage.get("/api/v1/jobs?limit=1000").await;
    assert_eq!((all.json().as_array().map(Vec::len), next(&all)), (Some(255), None));
    let none = stage.get("/api/v1/jobs?state=failed,canceled").await;
    assert_eq!((none.text.as_str(), next(&none)), ("[]", None));
}

#[tokio::test]
async fn large_payloads_end_a_page_early_and_lose_nothing() {
    let stage = Stage::new();
    let payload = format!("\"{}\"", "x".repeat((1 << 20) - 2));
    for _ in 0..40 {
        stage.store.put(job(JobState::Queued, &payload));
    }
    let first = stage.get("/api/v1/jobs?limit=1000").await;
    let second = stage.get(&next(&first).expect("there is more")).await;
    let count = |answer: &crate::http::testing::Answer| answer.json().as_array().map_or(0, Vec::len);
    assert_eq!((count(&first), count(&second), next(&second)), (32, 8, None));
}

#[tokio::test]
async fn a_fault_of_the_store_s_is_told_without_its_text() {
    let stage = Stage::new();
    let answer = stage.get("/api/v1/jobs/01890000-0000-7000-8000-000000000000/inspection").await;
    assert_eq!((answer.status, answer.code().as_str()), (500, "internal_error"));
    assert!(!answer.text.contains("secret"));
    assert_eq!(answer.json()["requestId"].as_str(), answer.header("x-request-id"));
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_the_job_or_with_its_time() {
    let stage = Stage::new();
    let (ended, waiting) = (job(JobState::Canceled, "null"), job(JobState::Queued, "null"));
    stage.store.put(ended.clone());
    stage.store.put(waiting.clone());
    assert_eq!(stage.get(&format!("/api/v1/jobs/{}/wait", ended.id)).await.status, 200);
    let started = tokio::time::Instant::now();
    let answer = stage.get(&format!("/api/v1/jobs/{}/wait?timeoutSeconds=2.5", waiting.id)).await;
    assert_eq!((answer.status, answer.json()["state"].as_str()), (202, Some("queued")));
    assert_eq!(started.elapsed(), Duration::from_millis(2_500));
    stage.state.stop();
    let answer = stage.get(&format!("/api/v1/jobs/{}/wait", waiting.id)).await;
    assert_eq!(answer.status, 202, "a node that stops keeps nobody waiting");
}

#[tokio::test]
async fn an_admin_sees_the_lease_token() {
    let stage = Stage::new();
    let stored = job(JobState::Active, "null");
    stage.store.put(stored.clone());
    let answer = stage.get(&format!("/api/v1/jobs/{}", stored.id)).await;
    assert_eq!(answer.json()["leaseToken"], "17.1.x");
}

#[tokio::test]
async fn a_change_goes_on_when_its_caller_has_left() {
    let stage = Stage::new();
    let (done, seen) = tokio::sync::oneshot::channel();
    let state = stage.state.clone();
    let caller = state.change(async move {
        tokio::task::yield_now().await;
        done.send(()).expect("the test waits");
    });
    // Polled once, then dropped, as axum does when a client goes away.
    assert!(futures_util::FutureExt::now_or_never(caller).is_none());
    seen.await.expect("done all the same");
    assert!(stage.state.drained(Duration::from_secs(1)).await);
}

#[tokio::test]
async fn a_panic_in_a_change_is_a_500_without_its_text() {
    let stage = Stage::new();
    let answer = stage.state.change(async { panic!("secret") }).await;
    let error = answer.expect_err("panicked");
    assert!(!format!("{error:?}").contains("secret"));
    let head =
        stage.send(request("HEAD", "/api/v1/overview", &[("x-admin-token", "test-admin-key")], "")).await;
    assert_eq!(head.status, 200);
}
