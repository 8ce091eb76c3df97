//! What running jobs show and say, and how one is followed.

use serde_json::{Value, json};

use crate::rig::{Rig, of_kind};
use crate::support::PgServer;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_running_job_shows_its_progress_its_heartbeats_and_its_actor() {
    let rig = Rig::start(2).await;
    let id = rig.running(json!({"type": "polite"})).await;
    let job =
        rig.wait(&id, |job| job["progress"] == json!({"percent": 40}) && job["actor"].is_string()).await;
    assert!(job["leaseToken"].is_string() && job["leaseExpiresAt"].is_string());
    let before = job["lastHeartbeatAt"].as_str().unwrap().to_owned();
    rig.wait(&id, |job| job["lastHeartbeatAt"].as_str().unwrap() > before.as_str()).await;
    let listed = rig.api.get("/api/v1/jobs?state=active").await.expect(200);
    assert_eq!(listed[0]["progress"], json!({"percent": 40}));

    let actor = rig.api.get(&format!("/api/v1/supervision?job={id}")).await.expect(200);
    assert_eq!((&actor["path"], &actor["kind"]), (&job["actor"], &json!("lease")));
    assert_eq!(
        (&actor["detail"]["jobId"], &actor["detail"]["progress"]["percent"]),
        (&json!(id), &json!(40))
    );
    rig.cancel(&id).await;
    rig.wait(&id, |job| job["state"] == "canceled" && job.get("actor").is_none()).await;
    assert_eq!(rig.api.get(&format!("/api/v1/supervision?job={id}")).await.status, 404);
    assert_eq!(rig.api.get("/api/v1/supervision?job=x").await.status, 422);
    assert_eq!(rig.api.get(&format!("/api/v1/supervision?job={id}&path=node")).await.status, 422);
    rig.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_jobs_log_is_read_by_pages_and_found_by_level() {
    let rig = Rig::start(2).await;
    let id = rig.submit(json!({"type": "talker", "payload": 25})).await;
    rig.wait(&id, |job| job["state"] == "completed").await;
    let all = rig.logs(&id, "limit=1000").await;
    let said: Vec<&str> = all.iter().map(|line| line["message"].as_str().unwrap()).collect();
    assert_eq!(said, (1..=25).map(|n| format!("line {n}")).collect::<Vec<_>>(), "written before its end");
    assert!(all.iter().zip(1..).all(|(line, seq)| line["seq"] == seq && line["attempt"] == 1));
    let (mut seen, mut page) = (Vec::new(), Some(format!("/api/v1/jobs/{id}/logs?limit=10&level=debug")));
    while let Some(path) = page {
        let answer = rig.api.get(&path).await;
        page = answer.next_page();
        seen.extend(answer.expect(200).as_array().unwrap().clone());
    }
    assert_eq!(seen, all);
    assert_eq!(rig.logs(&id, "level=warn").await.len(), 2);
    assert_eq!(rig.logs(&id, "after=20&attempt=1").await.len(), 5);
    assert_eq!(rig.logs(&id, "attempt=2").await.len(), 0);
    for bad in ["level=loud", "after=-1", "attempt=0", "attempt=x", "limit=1001"] {
        assert_eq!(rig.api.get(&format!("/api/v1/jobs/{id}/logs?{bad}")).await.status, 422, "{bad}");
    }
    let unknown = "/api/v1/jobs/01890000-0000-7000-8000-000000000000/logs";
    assert_eq!(rig.api.get(unknown).await.status, 404);
    rig.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_that_logs_in_a_hot_loop_is_bounded_and_what_is_dropped_is_counted() {
    let rig = Rig::start(2).await;
    let id = rig.submit(json!({"type": "flood", "payload": 300_000})).await;
    let beside = rig.submit(json!({"type": "noop"})).await;
    rig.wait(&beside, |job| job["state"] == "completed").await;
    rig.wait(&id, |job| job["state"] == "completed").await;
    let first = rig.logs(&id, "limit=1000").await;
    assert_eq!(first.len(), 1_000);
    let rest = rig.logs(&id, "after=1000").await;
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert!(rest[0]["message"].as_str().unwrap().starts_with("299000 more lines"), "{rest:?}");
    rig.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_joins_a_job_late_gets_every_line_exactly_once() {
    const LINES: usize = 200;
    let rig = Rig::start(4).await;
    let id = rig.running(json!({"type": "talker", "payload": LINES})).await;
    let other = rig.running(json!({"type": "talker", "payload": LINES})).await;
    rig.wait(&id, |job| job["progress"].as_u64() >= Some(60)).await;
    let mut whole = rig.follow("topics=kind:job.completed").await;
    let mut late = rig.follow(&format!("topics=job:{id}")).await;
    let messages = late.until("job.completed").await;
    assert_eq!(messages[0]["kind"], "stream.hello");
    assert_eq!(messages[1]["kind"], "job.snapshot", "{:#?}", &messages[1]);
    let lines = |messages: &[Value]| -> Vec<String> {
        let lines = of_kind(messages, "job.log");
        lines.iter().map(|event| event["log"]["message"].as_str().unwrap().to_owned()).collect()
    };
    let all: Vec<String> = (1..=LINES).map(|n| format!("line {n}")).collect();
    assert_eq!(lines(&messages), all);
    assert!(messages.iter().all(|message| message.get("jobId").is_none_or(|job| *job == json!(id))));
    let seqs: Vec<u64> = messages[1..].iter().map(|message| message["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted(), "{seqs:?}");
    let told = of_kind(&messages, "job.progress").len();
    assert!((1..=12).contains(&told), "progress is told now and then: {told}");

    // After its end, from a line on, and over server-sent events of other topics none at all.
    let mut after = rig.follow(&format!("topics=job:{id}&logsAfter=190")).await;
    let mut messages = Vec::new();
    while lines(&messages).len() < 10 {
        messages.push(after.next().await);
    }
    assert_eq!(messages[1]["job"]["state"], "completed");
    assert_eq!(lines(&messages), all[190..]);
    rig.wait(&other, |job| job["state"] == "completed").await;
    let mut completed = whole.until("job.completed").await;
    completed.extend(whole.until("job.completed").await);
    assert!(lines(&completed).is_empty());
    rig.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_stream_without_topics_has_no_lines_and_no_gaps() {
    let rig = Rig::start(2).await;
    let mut all = rig.follow("").await;
    let id = rig.submit(json!({"type": "talker", "payload": 60})).await;
    let messages = all.until("job.completed").await;
    assert!(
        messages[1..].iter().all(|message| message["jobId"] == json!(id) && message.get("log").is_none())
    );
    let seqs: Vec<u64> = messages.iter().map(|message| message["seq"].as_u64().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{seqs:?}");
    rig.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_that_more_is_told_than_waits_for_it_misses_no_line() {
    let rig = Rig::start(2).await;
    let id = rig.submit(json!({"type": "flood", "payload": 1_500})).await;
    // Its lines are told all at once, four times as many as may wait; or read, when they were before us.
    let mut follower = rig.follow(&format!("topics=job:{id}&logsAfter=0")).await;
    let mut seen = Vec::new();
    while seen.len() < 1_001 {
        let message = follower.next().await;
        seen.extend(message["log"]["seq"].as_u64());
    }
    assert_eq!(seen, (1..=1_001).collect::<Vec<u64>>());
    rig.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_queue_that_is_restarted_while_its_job_talks_loses_and_repeats_no_line() {
    let rig = Rig::start(2).await;
    let id = rig.running(json!({"type": "talker", "queue": "talk", "payload": 150})).await;
    let mut follower = rig.follow(&format!("topics=job:{id}")).await;
    let shard = ganger::domain::ShardId::of_queue("talk").0;
    for said in [20_u64, 60, 100] {
        rig.wait(&id, |job| job["progress"].as_u64() >= Some(said)).await;
        rig.node.platform().restart(&format!("node/shards/{shard}/talk/queue")).unwrap();
    }
    let messages = follower.until("job.completed").await;
    let seqs: Vec<u64> =
        of_kind(&messages, "job.log").iter().filter_map(|event| event["log"]["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=150).collect::<Vec<u64>>());
    assert_eq!(rig.logs(&id, "limit=1000").await.len(), 150);
    assert_eq!(rig.attempts(&id).await.len(), 1);
    rig.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_postgres_a_job_is_followed_and_stopped_alike() {
    let url = PgServer::shared().create_database().await;
    let rig = Rig::start_on(4, &["--postgres-url", &url]).await;
    let deaf = rig.running(json!({"type": "deaf"})).await;
    rig.cancel(&deaf).await;
    let id = rig.running(json!({"type": "talker", "payload": 80})).await;
    rig.wait(&id, |job| job["progress"].as_u64() >= Some(20)).await;
    let messages = rig.follow(&format!("topics=job:{id}")).await.until("job.completed").await;
    let seqs: Vec<u64> =
        of_kind(&messages, "job.log").iter().filter_map(|event| event["log"]["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=80).collect::<Vec<u64>>());
    let job = rig.wait(&deaf, |job| job["state"] == "canceled").await;
    assert!(job["controls"][0]["effectiveAt"].is_string(), "{job}");
    rig.node.shutdown().await.unwrap();
}
