//! Any single actor may be killed at any moment: nothing is lost, its siblings run on, and the tree tells of it.
//!
//! Each kind of actor has its test. All play the same scenario on a node in this process: long jobs run, a client
//! goes on submitting, the actor is killed by its path, and everything must complete. What differs is whom the kill
//! may disturb: jobs are given back uncharged where the worker restarts, and are not disturbed at all elsewhere.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed step fails the test"
)]

mod support;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use ganger::config::Config;
use ganger::domain::JobState;
use ganger::system::{Node, NodeBuilder};
use ganger::worker::{JobContext, JobError, Registry};
use reqwest::Method;
use serde_json::{Value, json};
use support::history::{Dump, JobDump, Recorder, assert_sound, load};
use support::wait::elapse;
use support::{Api, wait_for};
use tempfile::TempDir;
use tokio::task::JoinHandle;

const SOON: Duration = Duration::from_secs(20);
/// Long enough to be running when the kill lands, and a while after it.
const LONG_MS: u64 = 1_500;
/// How many of them run; fewer than the worker has slots, so that short ones pass beside them.
const LONG_JOBS: usize = 3;
/// Short ones at least: some before the kill, more after it.
const SHORT_JOBS_MIN: usize = 30;
/// Short against the waits of these tests: a job that only a lease's end brings back would show as charged.
const LEASE_TTL: &str = "10s";

/// A node in this process, and the history of what was asked of it.
struct Rig {
    node: Node,
    api: Api,
    history: Arc<Recorder>,
    folder: TempDir,
}

impl Rig {
    async fn start(handlers: Registry) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let arguments = ["ganger-node", "--http-addr", "127.0.0.1:0", "--worker-concurrency", "6"];
        let leases = ["--lease-ttl", LEASE_TTL, "--heartbeat-interval", "1s"];
        let arguments = arguments.into_iter().chain(leases).chain(["--data-dir", data.to_str().unwrap()]);
        let node = NodeBuilder::new(Config::parse_from(arguments)).handlers(handlers).start().await.unwrap();
        let api = Api::new(&format!("http://{}", node.address()), support::http::DEV_TOKEN);
        let history = Arc::new(Recorder::create(&folder.path().join("history.jsonl")));
        Self { node, api, history, folder }
    }

    async fn submit(&self, key: &str, body: Value) -> String {
        submit(&self.api, &self.history, key, body).await
    }

    async fn job(&self, id: &str) -> Value {
        self.api.get(&format!("/api/v1/jobs/{id}")).await.expect(200)
    }

    async fn wait_state(&self, id: &str, state: &str) {
        wait_for(state, SOON, || async {
            let job = self.job(id).await;
            if job["state"] == state { Ok(()) } else { Err(job) }
        })
        .await;
    }

    /// Jobs of the queue `mail` that run for a while, once they do.
    async fn running_jobs(&self) -> Vec<String> {
        let mut jobs = Vec::new();
        for number in 0..LONG_JOBS {
            let body = json!({"type": "noop", "queue": "mail", "payload": {"durationMs": LONG_MS}});
            jobs.push(self.submit(&format!("long-{number}"), body).await);
        }
        for job in &jobs {
            self.wait_state(job, "active").await;
        }
        jobs
    }

    /// One actor without those below it, or `None` while nothing has that path.
    async fn actor(&self, path: &str) -> Option<Value> {
        let answer = self.api.get(&format!("/api/v1/supervision?depth=0&path={path}")).await;
        (answer.status != 404).then(|| answer.expect(200))
    }

    /// The actor and those directly below it.
    async fn family(&self, path: &str) -> Vec<Value> {
        let path = format!("/api/v1/supervision?depth=1&limit=1000&path={path}");
        let mut actor = self.api.get(&path).await.expect(200);
        match actor["children"].take() {
            Value::Array(children) => children,
            other => panic!("children are a list, not {other}"),
        }
    }

    /// The path of the queue's supervisor.
    async fn queue(&self, name: &str) -> String {
        let tree = self.api.get("/api/v1/supervision?kind=queue_supervisor&limit=1000").await.expect(200);
        let path = find(&tree, &|actor| actor["kind"] == "queue_supervisor" && actor["name"] == name);
        path.unwrap_or_else(|| panic!("queue {name} is not in {tree}"))
    }

    /// The path of the lease's actor of an active job.
    async fn lease(&self, job: &str) -> String {
        let queue = self.queue("mail").await;
        wait_for("an active job has an actor", SOON, || async {
            let tree = self.api.get(&format!("/api/v1/supervision?depth=2&path={queue}")).await.expect(200);
            find(&tree, &|actor| actor["kind"] == "lease" && actor["name"] == job).ok_or(tree)
        })
        .await
    }

    async fn wait_restarted(&self, path: &str) {
        wait_for("the killed actor is back", SOON, || async {
            let actor = self.actor(path).await.ok_or(Value::Null)?;
            let is_back = actor["status"] == "running"
                && actor["restarts"].as_u64() >= Some(1)
                && actor["lastRestart"]["reason"] == "killed";
            if is_back { Ok(()) } else { Err(actor) }
        })
        .await;
    }

    /// The dump, once every job has completed, checked against the history.
    async fn completed(&self) -> Dump {
        let unfinished = "/api/v1/jobs?limit=1&state=queued,active,retrying,scheduled,blocked,throttled";
        wait_for("every job ends", SOON * 3, || async {
            let jobs = self.api.get(unfinished).await.expect(200);
            if jobs == json!([]) { Ok(()) } else { Err(jobs) }
        })
        .await;
        let dump = Dump::fetch(&self.api, true).await;
        assert_sound(&load(&self.folder.path().join("history.jsonl")), &dump);
        dump
    }
}

/// The path of the first actor that `is_it`.
fn find(tree: &Value, is_it: &dyn Fn(&Value) -> bool) -> Option<String> {
    if is_it(tree) {
        return tree["path"].as_str().map(str::to_owned);
    }
    tree["children"].as_array()?.iter().find_map(|child| find(child, is_it))
}

/// Submits until it is acknowledged; what an actor's end left unknown is asked again with the same key.
async fn submit(api: &Api, history: &Recorder, key: &str, mut body: Value) -> String {
    body["idempotencyKey"] = key.into();
    wait_for("a submission is acknowledged", SOON, || async {
        history.invoke(0, "submit", json!({ "key": key }));
        let answer = api.send(Method::POST, "/api/v1/jobs", Some(&body)).await;
        match answer {
            Ok(answer) if answer.status < 300 => {
                let id = answer.body["job"]["id"].as_str().expect("an id").to_owned();
                history.ok(0, "submit", json!({ "key": key, "jobId": id }));
                Ok(id)
            }
            other => {
                history.info(0, "submit", json!({ "key": key }));
                Err(other.map(|answer| (answer.status, answer.body)))
            }
        }
    })
    .await
}

/// A client that goes on submitting short jobs of two queues, until it is told to stop.
fn client(rig: &Rig, stop: Arc<AtomicBool>) -> JoinHandle<usize> {
    let (api, history) = (rig.api.clone(), rig.history.clone());
    #[expect(
        clippy::disallowed_methods,
        reason = "owned by the scenario, which stops it and waits for its end"
    )]
    tokio::spawn(async move {
        let mut number = 0;
        while number < SHORT_JOBS_MIN || !stop.load(Ordering::SeqCst) {
            let queue = if number % 2 == 0 { "mail" } else { "images" };
            let body = json!({"type": "noop", "queue": queue, "payload": {"durationMs": number % 5 * 4}});
            submit(&api, &history, &format!("short-{number}"), body).await;
            number += 1;
            elapse(Duration::from_millis(5)).await;
        }
        number
    })
}

/// Whom a kill disturbs besides the actor itself.
#[derive(Clone, Copy, PartialEq)]
enum Disturbs {
    Nobody,
    /// The worker: its running jobs are given back uncharged.
    Worker,
}

/// Kills what `path` names while jobs run and more come; `standing_on_it` are siblings that restart with it.
async fn killed(path: impl AsyncFn(&Rig, &str) -> String, standing_on_it: &[&str], disturbs: Disturbs) {
    let rig = Rig::start(Registry::new()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let client = client(&rig, stop.clone());
    let running = rig.running_jobs().await;
    let path = path(&rig, &running[0]).await;

    rig.node.platform().directory().kill(&path).unwrap();
    rig.wait_restarted(&path).await;

    if disturbs == Disturbs::Nobody {
        a_control_still_arrives(&rig, &running[0]).await;
    }
    // So that some of the load meets the actor's next incarnation.
    let more = rig.submit("after", json!({"type": "noop", "queue": "mail"})).await;
    rig.wait_state(&more, "completed").await;
    stop.store(true, Ordering::SeqCst);
    let short = client.await.unwrap();
    let dump = rig.completed().await;
    siblings_ran_on(&rig, &path, standing_on_it).await;
    assert_eq!(dump.jobs.len(), short + LONG_JOBS + 1);
    for job in &dump.jobs {
        let is_canceled = disturbs == Disturbs::Nobody && job.id() == running[0];
        once_and_uncharged(job, if is_canceled { "canceled" } else { "completed" });
        if running.contains(&job.job["id"].as_str().unwrap().to_owned()) {
            let released = statuses(job).iter().filter(|status| *status == "released").count();
            match disturbs {
                Disturbs::Nobody => assert_eq!(released, 0, "disturbed: {:?}", job.attempts),
                Disturbs::Worker => assert!(released >= 1, "not given back: {:?}", job.attempts),
            }
        }
    }
    rig.node.shutdown().await.unwrap();
}

/// The way from a request over the actors to the worker is whole again: a running job hears of its cancel.
async fn a_control_still_arrives(rig: &Rig, job: &str) {
    rig.history.invoke(0, "cancel", json!({ "jobId": job }));
    let answer = wait_for("a cancel is acknowledged", SOON, || async {
        let answer = rig.api.post(&format!("/api/v1/jobs/{job}/cancel"), &json!({})).await;
        if answer.status == 503 { Err(answer.body) } else { Ok(answer) }
    })
    .await
    .expect(202);
    rig.history.ok(0, "cancel", json!({"jobId": job, "state": answer["state"]}));
    rig.wait_state(job, "canceled").await;
}

fn statuses(job: &JobDump) -> Vec<String> {
    job.attempts.iter().map(|attempt| attempt["status"].as_str().unwrap().to_owned()).collect()
}

/// It ended once, as it should, and no death was held against it.
fn once_and_uncharged(job: &JobDump, state: &str) {
    let statuses = statuses(job);
    let ends = statuses.iter().filter(|status| *status != "released").count();
    assert_eq!((job.state(), ends), (state, 1), "job {}: {statuses:?} {:#?}", job.id(), job.events);
    assert_eq!(statuses.last().unwrap(), state);
    assert_eq!(job.job["attempts"], 1, "an attempt was used up: {statuses:?}");
}

async fn siblings_ran_on(rig: &Rig, path: &str, standing_on_it: &[&str]) {
    let (parent, name) = path.rsplit_once('/').unwrap();
    for sibling in rig.family(parent).await {
        let sibling_name = sibling["name"].as_str().unwrap();
        if sibling_name != name && !standing_on_it.contains(&sibling_name) {
            assert_eq!(sibling["restarts"], 0, "{sibling_name} was disturbed: {sibling}");
        }
    }
}

macro_rules! killing {
    ($name:ident, $path:expr, $standing_on_it:expr, $disturbs:expr) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            killed($path, &$standing_on_it, $disturbs).await;
        }
    };
}

// The root is rest_for_one: store, shards, workers, operations, console. Whatever comes later restarts with what came before.
killing!(a_killed_lane_loses_nothing, async |_, _| "node/store/lane-0".into(), [], Disturbs::Nobody);
killing!(a_killed_upkeep_loses_nothing, async |_, _| "node/store/upkeep".into(), [], Disturbs::Nobody);
killing!(
    a_killed_store_supervisor_loses_nothing,
    async |_, _| "node/store".into(),
    ["console", "operations", "shards", "workers"],
    Disturbs::Worker
);
killing!(
    a_killed_operations_actor_loses_nothing,
    async |_, _| "node/operations".into(),
    ["console"],
    Disturbs::Nobody
);
killing!(a_killed_console_loses_nothing, async |_, _| "node/console".into(), [], Disturbs::Nobody);
killing!(
    a_killed_shards_supervisor_loses_nothing,
    async |_, _| "node/shards".into(),
    ["workers", "operations", "console"],
    Disturbs::Worker
);
killing!(
    a_killed_shard_supervisor_loses_nothing,
    async |rig: &Rig, _| {
        let queue = rig.queue("mail").await;
        queue.rsplit_once('/').unwrap().0.to_owned()
    },
    [],
    Disturbs::Nobody
);
killing!(
    a_killed_shard_loses_nothing,
    async |rig: &Rig, _| rig.queue("mail").await.replace("/mail", "/inbox"),
    [],
    Disturbs::Nobody
);
killing!(
    a_killed_queue_supervisor_loses_nothing,
    async |rig: &Rig, _| rig.queue("mail").await,
    [],
    Disturbs::Nobody
);
killing!(
    a_killed_queue_loses_nothing,
    async |rig: &Rig, _| rig.queue("mail").await + "/queue",
    [],
    Disturbs::Nobody
);
killing!(
    a_killed_lease_supervisor_loses_nothing,
    async |rig: &Rig, job| {
        let lease = rig.lease(job).await;
        lease.rsplit_once('/').unwrap().0.to_owned()
    },
    [],
    Disturbs::Nobody
);
killing!(a_killed_lease_loses_nothing, async |rig: &Rig, job| rig.lease(job).await, [], Disturbs::Nobody);
killing!(
    a_killed_workers_supervisor_loses_nothing,
    async |_, _| "node/workers".into(),
    ["operations", "console"],
    Disturbs::Worker
);
killing!(a_killed_worker_loses_nothing, async |_, _| "node/workers/local".into(), [], Disturbs::Worker);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_panics_harms_its_own_attempt_alone() {
    let mut handlers = Registry::new();
    handlers.handle_fn("explode", |_: JobContext, _: Value| async {
        if true {
            panic!("a bug of the handler");
        }
        Ok::<_, JobError>(())
    });
    let rig = Rig::start(handlers).await;
    let running = rig.running_jobs().await;
    let retry = json!({"strategy": "fixed", "baseSeconds": 0.3, "jitter": 0});
    let body = json!({"type": "explode", "queue": "mail", "maxAttempts": 2, "retry": retry});
    let job = rig.submit("explode", body).await;

    rig.wait_state(&job, "retrying").await;
    rig.wait_state(&job, "failed").await;
    let dump = rig.completed().await;

    let exploded = dump.jobs.iter().find(|dumped| dumped.id() == job).unwrap();
    let ends: Vec<_> =
        exploded.attempts.iter().map(|row| (row["status"].as_str(), row["errorType"].as_str())).collect();
    assert_eq!(ends, [(Some("retrying"), Some("panic")), (Some("failed"), Some("panic"))]);
    let inspection = rig.api.get(&format!("/api/v1/jobs/{job}/inspection")).await.expect(200);
    assert_eq!(inspection["deadLetter"]["errorType"], "panic", "{inspection}");
    for job in dump.jobs.iter().filter(|dumped| running.iter().any(|id| id == dumped.id())) {
        once_and_uncharged(job, "completed");
        assert_eq!(job.attempts.len(), 1);
    }
    assert_eq!(rig.actor("node/workers/local").await.unwrap()["restarts"], 0);
    rig.node.shutdown().await.unwrap();
}

/// Children over many shards, each of which hears of its parent's end through its inbox alone.
const CHILDREN: usize = 60;
/// Few enough that no shard's supervisor gives up, which would have its queues load anew.
const INBOX_KILLS: usize = 3;
/// Long enough for the children to be submitted.
const PARENT_MS: u64 = 1_500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inbox_killed_while_it_is_read_loses_no_arrival() {
    let rig = Rig::start(Registry::new()).await;
    for round in 0..INBOX_KILLS {
        let parent = json!({"type": "noop", "queue": "parents", "payload": {"durationMs": PARENT_MS}});
        let parent = rig.submit(&format!("parent-{round}"), parent).await;
        let children = (0..CHILDREN).map(|child| {
            let body =
                json!({"type": "noop", "queue": format!("children-{child}"), "dependencies": [parent]});
            let (rig, key) = (&rig, format!("child-{round}-{child}"));
            async move { rig.submit(&key, body).await }
        });
        futures_util::future::join_all(children).await;
        let tree = rig.api.get("/api/v1/supervision?kind=queue_supervisor&limit=1000").await.expect(200);
        let inboxes: HashSet<String> = (0..CHILDREN)
            .map(|child| {
                let name = format!("children-{child}");
                let queue = find(&tree, &|actor| actor["name"] == name.as_str());
                queue.expect("the queue of a child runs").replace(&name, "inbox")
            })
            .collect();

        let completed = rig.node.platform().shards().queues().get("parents").unwrap();
        let ended = i64::try_from(round).unwrap() + 1;
        while completed.view().count(JobState::Completed) < ended {
            tokio::task::yield_now().await;
        }
        for inbox in &inboxes {
            // Some before, some during and some after their read.
            tokio::task::yield_now().await;
            rig.node.platform().directory().kill(inbox).unwrap();
        }
        for inbox in &inboxes {
            wait_for("the inbox is back", SOON, || async {
                let actor = rig.actor(inbox).await.ok_or(Value::Null)?;
                let is_back = actor["status"] == "running" && actor["restarts"].as_u64() > Some(round as u64);
                if is_back { Ok(()) } else { Err(actor) }
            })
            .await;
        }
    }
    let dump = rig.completed().await;
    assert_eq!(dump.jobs.len(), INBOX_KILLS * (CHILDREN + 1));
    for job in &dump.jobs {
        once_and_uncharged(job, "completed");
    }
    rig.node.shutdown().await.unwrap();
}
