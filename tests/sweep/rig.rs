//! A node that may die at any request, and a client that does not give up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::history::{Dump, JobDump, Recorder, assert_sound, load, orphans};
use crate::support::http::{Answer, Api};
use crate::support::wait::elapse;
use crate::support::{NodeProcess, PgServer, wait_for};

/// Longer than a stall, a reload and the passing failures after it, on a busy machine.
const ANSWER_DEADLINE: Duration = Duration::from_secs(60);
const DRAIN_DEADLINE: Duration = Duration::from_secs(60);
/// A count that may be wrong after a fault is counted anew at the next quiet moment.
const COUNT_DEADLINE: Duration = Duration::from_secs(10);
/// The file of the points that were passed.
const HITS: &str = "hits";
const AGAIN: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy)]
pub(super) enum Engine {
    Sqlite,
    Postgres,
}

/// How a job of the script must have ended.
pub(super) struct End {
    pub(super) what: &'static str,
    pub(super) job: String,
    pub(super) states: &'static [&'static str],
}

pub(super) struct Rig {
    pub(super) node: NodeProcess,
    log: Recorder,
    folder: TempDir,
    /// The point at which something is to happen.
    armed: Option<String>,
    deaths: u64,
}

impl Rig {
    /// A new node, with an action at the first passage of a point.
    pub(super) async fn start(engine: Engine, armed: Option<(&str, &str)>) -> Self {
        let folder = tempfile::tempdir().expect("make a folder for the history");
        let log = Recorder::create(&folder.path().join("history.jsonl"));
        let settings = NodeProcess::builder()
            .env("WORKER_CONCURRENCY", 8)
            .env("LEASE_TTL", "1s")
            .env("HEARTBEAT_INTERVAL", "250ms")
            .env("LOG_LEVEL", "warn")
            .env("GANGER_CRASH_HITS", folder.path().join(HITS).display());
        let settings = match engine {
            Engine::Sqlite => settings,
            Engine::Postgres => settings.postgres(&PgServer::shared().create_database().await),
        };
        let settings = match armed {
            Some((point, action)) => settings.env("GANGER_CRASH_POINT", format!("{point}:{action}:1")),
            None => settings,
        };
        let node = settings.spawn();
        let mut rig = Self { node, log, folder, armed: armed.map(|(point, _)| point.to_owned()), deaths: 0 };
        rig.listens().await;
        rig
    }

    /// Waits until the node listens. A point on the way of the start itself may end it before it does.
    async fn listens(&mut self) {
        if self.node.listens_or_ends().await.is_err() {
            self.died().await;
        }
    }

    async fn died(&mut self) {
        self.deaths += 1;
        self.disarm();
        self.node.restart().await;
    }

    /// The points that were passed, by any run of the node.
    pub(super) fn passed(&self) -> BTreeSet<String> {
        let passed = std::fs::read_to_string(self.folder.path().join(HITS)).unwrap_or_default();
        passed.lines().map(str::to_owned).collect()
    }

    /// How often the crash point ended the node.
    pub(super) fn deaths(&self) -> u64 {
        self.deaths
    }

    /// Sends until there is an answer that says what happened; a node that died is started again, disarmed.
    pub(super) async fn send(&mut self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let end = tokio::time::Instant::now() + ANSWER_DEADLINE;
        loop {
            let sent = self.node.api().send(method.clone(), path, body).await;
            match sent {
                Ok(answer) if answer.status == 503 => {
                    assert!(
                        answer.header("retry-after").is_some(),
                        "503 without Retry-After: {}",
                        answer.body
                    );
                }
                Ok(answer) => {
                    assert!(answer.status < 500, "{method} {path}: {} {}", answer.status, answer.body);
                    return answer;
                }
                Err(error) if self.node.has_ended() => {
                    println!("  died at {method} {path} ({error})");
                    self.died().await;
                }
                Err(error) => println!("  {method} {path}: {error}"),
            }
            assert!(tokio::time::Instant::now() < end, "{method} {path}: no answer in time");
            elapse(AGAIN).await;
        }
    }

    fn disarm(&mut self) {
        self.node.set_env("GANGER_CRASH_POINT", "");
    }

    /// Kills the node and starts it again, armed as long as nothing has happened: a point that each start passes
    /// would act at each.
    pub(super) async fn kill(&mut self) {
        if self.node.has_ended() {
            return self.died().await;
        }
        self.node.kill9();
        if self.armed.as_ref().is_some_and(|point| self.passed().contains(point)) {
            self.disarm();
        }
        self.node.relaunch();
        self.listens().await;
    }

    /// Submits a job and returns its id.
    pub(super) async fn submit(&mut self, key: &str, mut body: Value) -> String {
        body["idempotencyKey"] = key.into();
        let field = |name: &str| body.get(name).cloned().unwrap_or_default();
        let mut named = json!({"key": key, "dependsOn": field("dependencies"), "dependencyPolicy": field("dependencyPolicy")});
        self.log.invoke(0, "submit", named.clone());
        let answer = self.send(Method::POST, "/api/v1/jobs", Some(&body)).await;
        assert!([200, 202].contains(&answer.status), "{key}: {} {}", answer.status, answer.body);
        let job = answer.body["job"]["id"].as_str().expect("a job has an id").to_owned();
        named["jobId"] = job.clone().into();
        self.log.ok(0, "submit", named);
        job
    }

    /// Submits a batch of keyed jobs and returns their ids.
    pub(super) async fn batch(&mut self, jobs: Value) -> Vec<String> {
        let key = |job: &Value| json!({"key": job["idempotencyKey"]});
        let named: Vec<Value> = jobs.as_array().expect("a list").iter().map(key).collect();
        self.log.invoke(0, "submit", json!({"jobs": named}));
        let answer = self.send(Method::POST, "/api/v1/jobs/batch", Some(&json!({"jobs": jobs}))).await;
        let made = answer.expect(202);
        let ids: Vec<String> = made
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| one["job"]["id"].as_str().expect("a job has an id").to_owned())
            .collect();
        let named: Vec<Value> = named
            .into_iter()
            .zip(&ids)
            .map(|(mut named, id)| {
                named["jobId"] = id.clone().into();
                named
            })
            .collect();
        self.log.ok(0, "submit", json!({"jobs": named}));
        ids
    }

    /// Cancels a job; a conflict is as good an answer when an earlier try was cut.
    pub(super) async fn cancel(&mut self, job: &str) {
        self.log.invoke(0, "cancel", json!({"jobId": job}));
        let answer = self.send(Method::POST, &format!("/api/v1/jobs/{job}/cancel"), None).await;
        let value = json!({"jobId": job, "state": answer.body["state"]});
        match answer.status {
            202 => self.log.ok(0, "cancel", value),
            409 => self.log.info(0, "cancel", value),
            status => panic!("cancel: {status} {}", answer.body),
        }
    }

    /// Forgets a terminal job.
    pub(super) async fn forget(&mut self, job: &str) {
        self.log.invoke(0, "delete", json!({"jobId": job}));
        let answer = self.send(Method::DELETE, &format!("/api/v1/jobs/{job}"), None).await;
        assert!([204, 404].contains(&answer.status), "delete: {} {}", answer.status, answer.body);
        self.log.ok(0, "delete", json!({"jobId": job}));
    }

    /// Waits until a job is terminal, and returns its state.
    pub(super) async fn ended(&mut self, job: &str) -> String {
        let end = tokio::time::Instant::now() + ANSWER_DEADLINE;
        loop {
            let path = format!("/api/v1/jobs/{job}/wait?timeoutSeconds=5");
            let answer = self.send(Method::GET, &path, None).await;
            if answer.status == 200 {
                return answer.body["state"].as_str().unwrap_or_default().to_owned();
            }
            assert!(tokio::time::Instant::now() < end, "job {job} did not end: {}", answer.body);
        }
    }

    /// Waits until a job runs under a newer fence, and returns that; `None` when it has ended.
    pub(super) async fn runs_again(&mut self, job: &str, under: u64) -> Option<u64> {
        let end = tokio::time::Instant::now() + ANSWER_DEADLINE;
        loop {
            let body = self.send(Method::GET, &format!("/api/v1/jobs/{job}"), None).await.expect(200);
            let fence = body["fence"].as_u64().filter(|fence| *fence > under);
            match body["state"].as_str() {
                Some("active") if fence.is_some() => return fence,
                Some("completed" | "failed" | "canceled") => return None,
                _ => {}
            }
            assert!(tokio::time::Instant::now() < end, "job {job} does not run: {body}");
            elapse(AGAIN).await;
        }
    }

    /// Waits until a running job's lease was renewed once more.
    pub(super) async fn renewed(&mut self, job: &str) {
        let end = tokio::time::Instant::now() + ANSWER_DEADLINE;
        let path = format!("/api/v1/jobs/{job}");
        let first = self.send(Method::GET, &path, None).await.expect(200)["leaseExpiresAt"].clone();
        loop {
            let body = self.send(Method::GET, &path, None).await.expect(200);
            let expires = &body["leaseExpiresAt"];
            if expires.is_string() && *expires != first {
                return;
            }
            assert!(tokio::time::Instant::now() < end, "the lease of job {job} is not renewed: {body}");
            elapse(AGAIN).await;
        }
    }

    /// After the script: the node comes to rest without help, in good order; started again, it says the same.
    pub(super) async fn check(&mut self, ends: &[End]) {
        if self.node.has_ended() {
            self.died().await;
        }
        let before = self.rests(ends).await;
        self.disarm();
        self.node.restart().await;
        let after = self.rests(ends).await;
        assert_eq!(before, after, "another start changed what had come to rest");
    }

    /// Waits until nothing moves any longer: then no promise is broken, every job has ended as it should, the counts
    /// are right and every actor runs. The jobs' rows.
    async fn rests(&self, ends: &[End]) -> BTreeMap<String, Value> {
        let history = self.folder.path().join("history.jsonl");
        let api = self.node.api();
        let dump = wait_for("the node comes to rest", DRAIN_DEADLINE, || async {
            let dump = Dump::fetch(&api, true).await;
            let moving = ["scheduled", "retrying", "active", "throttled"];
            if let Some(job) = dump.jobs.iter().find(|job| {
                moving.contains(&job.state())
                    || (job.state() == "queued" && job.text("waitingFor") != "worker")
            }) {
                return Err(format!("job {} is {}", job.id(), job.state()));
            }
            match orphans(&load(&history), &dump).first() {
                Some(orphan) => Err(orphan.to_string()),
                None => Ok(dump),
            }
        })
        .await;
        // A job whose type nobody handles waits for ever, as it should: that is a lasting reason here.
        let mut sound = dump.clone();
        sound.jobs.retain(|job| job.text("waitingFor") != "worker");
        let parked: Vec<&str> =
            dump.jobs.iter().filter(|job| job.text("waitingFor") == "worker").map(|job| job.id()).collect();
        let operations: Vec<_> = load(&history)
            .into_iter()
            .filter(|op| !parked.iter().any(|job| op.value["jobId"] == *job))
            .collect();
        assert_sound(&operations, &sound);
        for end in ends {
            let job = dump.jobs.iter().find(|job| job.id() == end.job);
            let state = job.map_or("gone", |job| job.state());
            assert!(end.states.contains(&state), "{} is {state}, not one of {:?}", end.what, end.states);
        }
        counts_agree(&api, &dump).await;
        all_well(&api).await;
        dump.jobs.iter().map(|job| (job.id().to_owned(), job.job.clone())).collect()
    }
}

/// The overview and the queues' own counts, from counters, say what the rows say.
async fn counts_agree(api: &Api, dump: &Dump) {
    const STATES: [&str; 9] = [
        "queued",
        "active",
        "completed",
        "failed",
        "canceled",
        "scheduled",
        "retrying",
        "blocked",
        "throttled",
    ];
    wait_for("the counts agree with the rows", COUNT_DEADLINE, || async {
        let overview = api.get("/api/v1/overview").await.expect(200);
        let queues = api.get("/api/v1/queues").await.expect(200);
        for state in STATES {
            let in_state = |job: &&JobDump| job.state() == state;
            let rows = dump.jobs.iter().filter(in_state).count();
            let counted = &overview[format!("{state}Jobs")];
            if counted.as_u64() != u64::try_from(rows).ok() {
                return Err(format!("{rows} jobs are {state}, counted {counted}"));
            }
            for queue in queues.as_array().expect("a list of queues") {
                let of_queue = |job: &&JobDump| queue["name"] == job.text("queue");
                let rows = dump.jobs.iter().filter(in_state).filter(of_queue).count();
                if queue["counts"][state].as_u64() != u64::try_from(rows).ok() {
                    return Err(format!("{rows} jobs are {state}: {queue}"));
                }
            }
        }
        Ok(())
    })
    .await;
}

/// The node is ready and each of its actors runs.
async fn all_well(api: &Api) {
    wait_for("every actor runs", COUNT_DEADLINE, || async {
        let ready = api.get("/readyz").await;
        if ready.status != 200 {
            return Err(ready.body.to_string());
        }
        let mut left = vec![api.get("/api/v1/supervision?limit=1000").await.expect(200)];
        while let Some(mut actor) = left.pop() {
            if let Value::Array(children) = actor["children"].take() {
                left.extend(children);
            }
            if actor["status"] != "running" {
                return Err(actor.to_string());
            }
        }
        Ok(())
    })
    .await;
}
