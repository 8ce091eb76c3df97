//! The overview and the dashboard of a real node: their shape, and that their numbers are true.

#[cfg(test)]
mod support;

#[cfg(test)]
mod dashboard {
    use std::{collections::BTreeMap, time::Duration};

    use serde_json::{Value, json};

    use super::support::{Api, NodeProcess, wait_for};

    const SOON: Duration = Duration::from_secs(30);
    const STATES: [&str; 9] = [
        "queued",
        "scheduled",
        "retrying",
        "blocked",
        "throttled",
        "active",
        "completed",
        "failed",
        "canceled",
    ];

    async fn submit(api: &Api, job: Value) -> String {
        let made = api.post("/api/v1/jobs", &job).await.expect(202);
        made["job"]["id"].as_str().expect("an id").to_owned()
    }

    /// How many jobs are listed in each state, counted page by page.
    async fn listed(api: &Api) -> BTreeMap<String, i64> {
        let mut counts: BTreeMap<String, i64> = STATES.map(|state| (state.to_owned(), 0)).into();
        let mut page = Some("/api/v1/jobs?limit=1000".to_owned());
        while let Some(path) = page {
            let answer = api.get(&path).await;
            page = answer.next_page();
            for job in answer.expect(200).as_array().expect("a list") {
                *counts.entry(job["state"].as_str().expect("a state").to_owned()).or_default() += 1;
            }
        }
        counts
    }

    fn shown(overview: &Value) -> BTreeMap<String, i64> {
        let count = |state: &str| overview[format!("{state}Jobs")].as_i64().expect("a count");
        STATES.map(|state| (state.to_owned(), count(state))).into()
    }

    /// Waits until all that can run has run, and the overview shows what is listed.
    async fn until_true(api: &Api) -> Value {
        wait_for("the overview is true", SOON * 2, || async {
            let (before, overview) = (listed(api).await, api.get("/api/v1/overview").await.expect(200));
            let after = listed(api).await;
            let shows = shown(&overview);
            let is_quiet = after["active"] == 0
                && overview["queueLengths"]
                    .as_object()
                    .is_some_and(|queues| queues.values().all(|length| length == 5));
            if is_quiet && before == after && shows == after {
                Ok(overview)
            } else {
                Err(format!("{shows:?} for {after:?}"))
            }
        })
        .await
    }

    /// A mix of all that can become of a job; what is random in it are the ids.
    async fn mix(api: &Api, queue: &str) {
        for n in 0..40 {
            let job = match n % 8 {
                0 => json!({"type":"noop","payload":{"forceError":true},"maxAttempts":1}),
                1 => json!({"type":"noop","delaySeconds":3600}),
                2 => json!({"type":"nobody.does"}),
                3 => {
                    json!({"type":"noop","payload":{"forceError":true},"retry":{"strategy":"fixed","baseSeconds":3600}})
                }
                _ => json!({"type":"noop","payload":{"durationMs":n % 5 * 10}}),
            };
            let mut job = job;
            job["queue"] = json!(queue);
            let id = submit(api, job).await;
            if n % 8 == 1 && n > 20 {
                api.post(&format!("/api/v1/jobs/{id}/cancel"), &json!({})).await.expect(202);
            }
            if n % 8 == 2 {
                submit(api, json!({"type":"noop","queue":queue,"dependencies":[id]})).await;
            }
        }
    }

    fn keys(value: &Value) -> Vec<&str> {
        let mut keys: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
        keys.sort_unstable();
        keys
    }

    #[tokio::test]
    async fn a_dashboard_is_whole_and_true() {
        let node = NodeProcess::builder().start().await;
        let api = node.api();
        node.wait_ready(SOON).await;
        for queue in ["mail", "reports"] {
            mix(&api, queue).await;
        }
        let overview = until_true(&api).await;
        assert_eq!(overview["totalJobs"], 90);
        assert_eq!(overview["delayedBacklog"], 8 + 10 - 2, "scheduled and retrying: {overview}");
        assert_eq!(overview["queueLengths"]["mail"], 5);
        let dashboard = wait_for("the lists are read", SOON, || async {
            let dashboard = api.get("/api/v1/dashboard").await.expect(200);
            let letters = dashboard["deadLetters"].as_array().map_or(0, Vec::len);
            if letters == 10 { Ok(dashboard) } else { Err(format!("{letters} dead letters")) }
        })
        .await;
        assert_eq!(
            keys(&dashboard),
            [
                "blockedJobs",
                "deadLetters",
                "leader",
                "listsReadAt",
                "metrics",
                "overview",
                "rateLimits",
                "throttledJobs",
                "trend",
                "workers"
            ]
        );
        assert_eq!(shown(&dashboard["overview"]), shown(&overview));
        let metrics = &dashboard["metrics"];
        assert_eq!(
            keys(metrics),
            [
                "deadLetterRate",
                "executionLatency",
                "jobsPerSecond",
                "maxWorkerHeartbeatAgeMs",
                "queueLatency",
                "retryRate"
            ]
        );
        for latency in ["executionLatency", "queueLatency"] {
            assert_eq!(keys(&metrics[latency]), ["p50Ms", "p95Ms", "p99Ms"]);
        }
        // 10 of 60 attempts are tried again, 10 of 50 jobs with an end are dead.
        let completed = shown(&overview)["completed"];
        let near = |value: &Value, truth: f64| (value.as_f64().expect("a number") - truth).abs() < 1e-6;
        assert!(near(&metrics["retryRate"], 10.0 / (20 + completed) as f64), "{metrics}");
        assert!(near(&metrics["deadLetterRate"], 10.0 / (10 + completed) as f64), "{metrics}");
        assert!(metrics["jobsPerSecond"].as_f64() > Some(0.0), "{metrics}");
        let work = &metrics["executionLatency"];
        assert!(
            work["p50Ms"].as_f64() <= work["p95Ms"].as_f64() && work["p95Ms"].as_f64() >= Some(20.0),
            "{work}"
        );
        let trend = &dashboard["trend"];
        for series in ["throughput", "executionP95Ms", "queueLatencyP95Ms", "retryRate", "deadLetterRate"] {
            let points = trend[series].as_array().expect("a series");
            assert_eq!(points.len(), 12, "{series}");
            assert!(points.iter().all(|point| keys(point) == ["timestamp", "value"]), "{series}");
        }
        let blocked = dashboard["blockedJobs"].as_array().expect("a list");
        assert_eq!(blocked.len(), 10);
        assert!(blocked.iter().all(|job| job["state"] == "blocked"));
        assert!(
            blocked.windows(2).all(|pair| pair[0]["id"].as_str() > pair[1]["id"].as_str()),
            "newest first"
        );
        let letter = &dashboard["deadLetters"][0];
        for field in
            ["jobId", "queue", "workerId", "errorType", "errorMessage", "failedAt", "lastAttempt", "job"]
        {
            assert!(!letter[field].is_null(), "{field}: {letter}");
        }
        assert_eq!(letter["attempts"].as_array().map(Vec::len), Some(1));
        assert_eq!((&dashboard["rateLimits"], &dashboard["throttledJobs"]), (&json!([]), &json!([])));
        assert_eq!(dashboard["workers"][0]["concurrency"], 2);
        assert_eq!(dashboard["leader"]["isLeaderHealthy"], true);
        assert!(
            dashboard["leader"]["lastHeartbeatAt"].is_string()
                && dashboard["leader"]["acquiredAt"].is_string()
        );

        for (bucket, points) in [("5", 720), ("60", 60), ("3600", 1)] {
            let path = format!("/api/v1/dashboard?bucketSeconds={bucket}");
            let dashboard = api.get(&path).await.expect(200);
            assert_eq!(dashboard["trend"]["retryRate"].as_array().map(Vec::len), Some(points), "{bucket}");
        }
        for bucket in ["4", "3601", "-5", "x"] {
            let answer = api.get(&format!("/api/v1/dashboard?bucketSeconds={bucket}")).await;
            assert_eq!(answer.status, 422, "{bucket:?}: {}", answer.body);
        }
        assert_eq!(api.with_token("").get("/api/v1/dashboard").await.status, 401);
    }

    /// Breaks a queue's counters in the database of a node that is down.
    async fn spoil(node: &NodeProcess, set: &'static str) {
        use sqlx::Connection;
        let file = format!("sqlite://{}", node.data_dir().join("ganger.db").display());
        let mut database = sqlx::SqliteConnection::connect(&file).await.expect("opens");
        let sql = format!("update counter set {set} where queue = 'mail'");
        let done = sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut database).await.expect("spoils");
        assert!(done.rows_affected() > 0);
        database.close().await.expect("closes");
    }

    #[tokio::test]
    async fn wrong_counters_are_healed_while_the_queue_is_at_work() {
        let mut node = NodeProcess::builder().start().await;
        let api = node.api();
        mix(&api, "mail").await;
        until_true(&api).await;
        node.kill9();
        spoil(&node, "queued = queued + 1000, scheduled = scheduled - 100").await;
        node.restart().await;
        let api = node.api();
        node.wait_ready(SOON).await;
        wait_for("the fault is in", SOON, || async {
            let overview = api.get("/api/v1/overview").await.expect(200);
            if overview["queuedJobs"].as_i64() > Some(900) { Ok(()) } else { Err(overview) }
        })
        .await;
        // The queue is never idle: submissions come as long as it takes.
        let stop = tokio_util::sync::CancellationToken::new();
        let mut flood = tokio::task::JoinSet::new();
        for _ in 0..24 {
            let (api, stop) = (api.clone(), stop.clone());
            flood.spawn(async move {
                // Each is written, and makes no job: the queue has always something under way.
                let repeat = json!({"type":"noop","queue":"mail","idempotencyKey":"same"});
                while !stop.is_cancelled() {
                    let answer = api.post("/api/v1/jobs", &repeat).await;
                    assert!(matches!(answer.status, 200 | 202), "{}", answer.body);
                }
            });
        }
        wait_for("the counters are healed", SOON * 2, || async {
            let overview = api.get("/api/v1/overview").await.expect(200);
            let (queued, scheduled) = (overview["queuedJobs"].as_i64(), overview["scheduledJobs"].as_i64());
            if queued < Some(500) && scheduled > Some(0) {
                Ok(())
            } else {
                Err(format!("{queued:?} {scheduled:?}"))
            }
        })
        .await;
        stop.cancel();
        // A submission that was not taken, or did not run, panics here.
        flood.join_all().await;
        until_true(&api).await;
        let metrics = api.get("/metrics").await.body;
        let metrics = metrics.as_str().expect("text");
        let healed = |place: &str| {
            let line = format!("ganger_counters_healed_total{{place=\"{place}\"}} ");
            metrics.lines().find_map(|text| text.strip_prefix(&line)).map(str::to_owned)
        };
        assert_eq!(healed("store").as_deref(), Some("2"), "{metrics}");
        assert_eq!(healed("memory").as_deref(), Some("2"), "{metrics}");
    }
}
