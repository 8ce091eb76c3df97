//! The supervision tree over HTTP: its numbers, its pages, and what a restart leaves behind.

#[cfg(test)]
mod support;

#[cfg(test)]
mod supervision {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::support::{Api, NodeProcess, wait_for};

    const SOON: Duration = Duration::from_secs(30);

    fn walk<'t>(node: &'t Value, seen: &mut Vec<&'t Value>) {
        seen.push(node);
        for child in node["children"].as_array().into_iter().flatten() {
            walk(child, seen);
        }
    }

    async fn find(api: &Api, kind: &str) -> Vec<Value> {
        let tree = api.get(&format!("/api/v1/supervision?kind={kind}")).await.expect(200);
        let mut seen = Vec::new();
        walk(&tree, &mut seen);
        seen.into_iter().filter(|node| node["kind"] == kind).cloned().collect()
    }

    #[tokio::test]
    async fn every_actor_shows_its_numbers_and_long_lists_are_paged() {
        let node = NodeProcess::builder().env("WORKER_CONCURRENCY", 40).start().await;
        let api = node.api();
        let mut running = Vec::new();
        for _ in 0..40 {
            let job = json!({"type":"noop","queue":"mail","payload":{"durationMs":60_000}});
            let made = api.post("/api/v1/jobs", &job).await.expect(202);
            running.push(made["job"]["id"].as_str().expect("an id").to_owned());
        }
        let leases = wait_for("every job has a lease's actor", SOON, || async {
            let leases = find(&api, "lease").await;
            if leases.len() == 40 { Ok(leases) } else { Err(leases.len()) }
        })
        .await;
        for lease in &leases {
            assert!(running.iter().any(|id| lease["name"] == **id), "a lease is named by its job");
        }
        let tree = api.get("/api/v1/supervision?limit=1000").await.expect(200);
        let mut seen = Vec::new();
        walk(&tree, &mut seen);
        for actor in &seen {
            for field in ["handled", "perSecond", "meanMicros", "p99Micros"] {
                assert!(actor["messages"][field].is_number(), "{field}: {actor}");
            }
            assert!(actor["mailbox"]["depth"].is_u64() && actor["mailbox"]["highWater"].is_u64());
            assert!(actor["childCount"].is_u64() && actor["restarts"].is_u64() && actor["path"].is_string());
        }
        let queue = find(&api, "queue").await.remove(0);
        let per_second = queue["messages"]["perSecond"].as_f64().expect("a number");
        let handled = queue["messages"]["handled"].as_f64().expect("a number");
        // All of it is a matter of the last seconds: the rate is a share of what was handled.
        assert!(per_second > 0.0 && per_second <= handled, "{queue}");
        // Page by page: all leases of a supervisor, each once.
        let path = leases[0]["path"].as_str().expect("a path").rsplit_once('/').expect("a parent").0;
        let all = leases.iter().filter(|lease| lease["path"].as_str().is_some_and(|at| at.starts_with(path)));
        let (mut names, mut after) = (Vec::new(), String::new());
        loop {
            let page = format!("/api/v1/supervision?path={path}&depth=1&limit=3{after}");
            let page = api.get(&page).await.expect(200);
            let children = page["children"].as_array().expect("a list");
            assert!(children.len() <= 3);
            names.extend(children.iter().map(|child| child["name"].clone()));
            match page["nextChild"].as_u64() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        let all: Vec<Value> = all.map(|lease| lease["name"].clone()).collect();
        assert_eq!(names, all);
    }

    #[tokio::test]
    async fn a_restart_is_audited_and_told() {
        let node = NodeProcess::builder().start().await;
        let api = node.api();
        api.post("/api/v1/jobs", &json!({"type":"nobody.does","queue":"mail"})).await.expect(202);
        let path = find(&api, "queue").await[0]["path"].as_str().expect("a path").to_owned();
        let ticket = api.post("/api/v1/tickets", &json!({})).await.expect(201);
        let url = format!(
            "{}/sse/events?ticket={}&topics=kind:actor.*",
            node.base(),
            ticket["ticket"].as_str().expect("one")
        );
        let mut told = reqwest::get(&url).await.expect("opens");
        api.post("/api/v1/supervision/restart", &json!({"path": path})).await.expect(202);
        assert_eq!(
            api.post("/api/v1/supervision/restart", &json!({"path": "node/nobody"})).await.status,
            404
        );
        assert_eq!(api.post("/api/v1/supervision/restart", &json!({"path": "node"})).await.status, 409);
        let mut text = String::new();
        while !text.contains("actor.restarted") {
            let chunk = tokio::time::timeout(SOON, told.chunk()).await.expect("in time").expect("reads");
            text.push_str(&String::from_utf8_lossy(&chunk.expect("goes on")));
        }
        assert!(text.contains(&format!("\"message\":\"{path}: operator restart\"")), "{text}");
        let queue = wait_for("it runs again", SOON, || async {
            let queue = find(&api, "queue").await.remove(0);
            if queue["restarts"] == 1 && queue["status"] == "running" { Ok(queue) } else { Err(queue) }
        })
        .await;
        assert_eq!(queue["lastRestart"]["reason"], "operator restart");
        use sqlx::Connection;
        let file = format!("sqlite://{}", node.data_dir().join("ganger.db").display());
        let mut database = sqlx::SqliteConnection::connect(&file).await.expect("opens");
        let rows: Vec<(String, String, String, String)> =
            sqlx::query_as("select actor, action, object_type, object_id from audit")
                .fetch_all(&mut database)
                .await
                .expect("reads");
        assert_eq!(rows, [("admin".into(), "actor.restarted".into(), "actor".into(), path)]);
        database.close().await.expect("closes");
    }
}
