//! Reports about finished jobs, and forgetting them.

use chrono::{TimeDelta, Utc};
use ganger::worker::ContentHash;
use serde_json::json;

use super::support::{Bench, finished};

#[tokio::test]
async fn a_report_pages_through_all_jobs_of_its_tenant() {
    let bench = Bench::new().await;
    let now = Utc::now();
    {
        let mut jobs = bench.history.jobs.lock().unwrap();
        jobs.extend((0..2500).map(|n| finished("email.send", "completed", n, now)));
        let mut odd = finished("<script>", "failed", 9, now);
        odd.last_error = Some("=HYPERLINK(\"http://evil\")".to_owned());
        jobs.push(odd);
        let mut foreign = finished("secret.job", "completed", 1, now);
        foreign.tenant = "other".to_owned();
        jobs.push(foreign);
    }
    let report = bench.result("report.generate", json!({"reportId": "weekly/1"})).await;
    assert_eq!(report["rows"], 2501);
    assert_eq!(report["byState"], json!({"completed": 2500, "failed": 1}));
    assert_eq!(report["truncated"], false);

    let files = report["files"].as_array().unwrap();
    assert_eq!(files[0]["path"], "reports/default/weekly%2F1.csv");
    for file in files {
        assert_eq!(file["sha256"], ContentHash::of(&bench.file(&file["path"])).as_str());
    }
    let rows: Vec<csv::StringRecord> = csv::Reader::from_reader(bench.file(&files[0]["path"]).as_slice())
        .records()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(rows.len(), 2501);
    assert_eq!(&rows[2500][10], "'=HYPERLINK(\"http://evil\")");

    let html = String::from_utf8(bench.file(&files[1]["path"])).unwrap();
    assert!(html.contains("&lt;script&gt;") && !html.contains("<script>"));
    assert!(!html.contains("secret.job") && !html.contains("src=") && !html.contains("href="));
    let p50 = report["executionMs"]["p50"].as_u64().unwrap();
    assert!((1230..=1270).contains(&p50), "{p50}");
}

#[tokio::test]
async fn a_report_takes_its_filters_and_format_but_no_other_tenant() {
    let bench = Bench::new().await;
    bench
        .history
        .jobs
        .lock()
        .unwrap()
        .extend([finished("a", "completed", 1, Utc::now()), finished("a", "failed", 1, Utc::now())]);
    for payload in [
        json!({"reportId": "r", "format": "html", "filters": {"state": "failed"}}),
        json!({"reportId": "r", "format": "html", "state": "failed", "durationMs": 1}),
    ] {
        let report = bench.result("report.generate", payload).await;
        assert_eq!((&report["rows"], &report["files"][0]["format"]), (&json!(1), &json!("html")));
        assert_eq!(report["files"].as_array().unwrap().len(), 1);
    }
    let empty =
        bench.result("report.generate", json!({"reportId": "e", "state": "canceled", "format": "csv"})).await;
    assert_eq!(empty["rows"], 0);
    assert!(bench.file(&empty["files"][0]["path"]).starts_with(b"id,type,queue"));

    let payload = json!({"reportId": "r", "filters": {"tenantId": "other"}});
    assert_eq!(bench.error("report.generate", payload).await.error_type, "invalid_payload");
    let error = bench.error("report.generate", json!({"filters": {}})).await;
    assert_eq!((error.message.as_str(), error.retryable), ("missing field `reportId`", false));
}

#[tokio::test]
async fn a_cleanup_forgets_old_jobs_in_steps_and_spares_dead_letters() {
    let bench = Bench::new().await;
    let old = Utc::now() - TimeDelta::days(8);
    {
        let mut jobs = bench.history.jobs.lock().unwrap();
        jobs.extend((0..1200).map(|_| finished("a", "completed", 1, old)));
        jobs.push(finished("a", "failed", 1, old));
        jobs.push(finished("a", "completed", 1, Utc::now()));
        let mut foreign = finished("a", "completed", 1, old);
        foreign.tenant = "other".to_owned();
        jobs.push(foreign);
    }
    let some = bench.result("cleanup.run", json!({"limit": 100})).await;
    assert_eq!((&some["removed"], &some["limitReached"]), (&json!(100), &json!(true)));
    let rest = bench.result("cleanup.run", json!(null)).await;
    assert_eq!(
        (&rest["removed"], &rest["steps"], &rest["limitReached"]),
        (&json!(1100), &json!(3), &json!(false))
    );
    let dead = bench.result("cleanup.run", json!({"olderThanSeconds": 60, "states": ["failed"]})).await;
    assert_eq!(dead["removed"], 1);
    assert_eq!(bench.history.jobs.lock().unwrap().len(), 2);

    let error = bench.error("cleanup.run", json!({"states": ["active"]})).await;
    assert_eq!((error.error_type.as_str(), error.retryable), ("invalid_payload", false));
}
