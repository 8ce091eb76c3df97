//! Clients that go on whatever the node answers, and judge every answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::submission::Submission;
use crate::support::Api;
use crate::support::history::Recorder;
use crate::support::http::{Answer, DEV_TOKEN};
use crate::support::wait::{elapse, wait_for};

const CLIENTS: u64 = 8;
/// A client's pause between two requests: a steady load that the workers keep up with.
const PACE_MS: std::ops::Range<u64> = 5..60;
/// For a submission of unknown outcome at the end: the store is back.
const SETTLE_DEADLINE: Duration = Duration::from_secs(30);
/// No caller waits longer for any answer: the longest deadline inside, and a busy machine.
const ANSWER_MAX: Duration = Duration::from_secs(32);

/// What all clients share.
#[derive(Clone)]
pub struct World {
    recorder: Arc<Recorder>,
    base: String,
    acknowledged: Arc<Mutex<Vec<String>>>,
    seen: Arc<Mutex<Seen>>,
    is_over: Arc<AtomicBool>,
}

#[derive(Default)]
struct Seen {
    broken: Vec<String>,
    statuses: BTreeMap<u16, u64>,
    slowest: Duration,
}

/// The clients at work.
pub struct Clients {
    tasks: JoinSet<Client>,
    is_over: Arc<AtomicBool>,
}

impl Clients {
    /// Lets each end its request.
    pub(super) async fn stop(&mut self) -> Vec<Client> {
        self.is_over.store(true, Ordering::SeqCst);
        std::mem::take(&mut self.tasks).join_all().await
    }
}

/// What a client may conclude.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Done,
    NotDone,
    Unknown,
}

impl World {
    pub(super) fn new(recorder: Recorder, base: &str) -> Self {
        Self {
            recorder: Arc::new(recorder),
            base: base.to_owned(),
            acknowledged: Arc::default(),
            seen: Arc::default(),
            is_over: Arc::default(),
        }
    }

    pub(super) fn load(&self, seed: u64) -> Clients {
        let mut tasks = JoinSet::new();
        for id in 0..CLIENTS {
            // A pool of its own: no connection is idle for so long that the node closes it.
            let api = Api::new(&self.base, DEV_TOKEN);
            let client = Client { id, seed, api, submitted: 0, unknown: None, newest: None };
            tasks.spawn(client.play(self.clone()));
        }
        Clients { tasks, is_over: self.is_over.clone() }
    }

    /// Finds out what became of every submission whose outcome is not known.
    pub(super) async fn settle(&self, clients: Vec<Client>, api: &Api) {
        join_all(clients.into_iter().map(|client| client.settle(self, api))).await;
    }

    /// Submits one job, by a key: its id, or what was answered instead.
    pub(super) async fn probe(&self, api: &Api, key: &str, body: &Value) -> Result<String, String> {
        const PROBE: u64 = CLIENTS;
        let named = json!({ "key": key });
        self.recorder.invoke(PROBE, "submit", named.clone());
        let answer = self.ask(api, Method::POST, "/api/v1/jobs", Some(body), &[]).await;
        match answer {
            (Known::Done, Some(answer)) => {
                let id = answer.body["job"]["id"].as_str().expect("an id").to_owned();
                self.recorder.ok(PROBE, "submit", json!({"key": key, "jobId": id}));
                Ok(id)
            }
            (_, answer) => {
                self.recorder.info(PROBE, "submit", named);
                Err(answer.map_or_else(|| "nothing".to_owned(), |answer| answer.body.to_string()))
            }
        }
    }

    /// Submits until one is refused, to use up what room there is; each payload has `bytes`.
    pub async fn fill(&self, api: &Api, prefix: &str, bytes: usize, most: usize) -> usize {
        for number in 0..most {
            let key = format!("{prefix}-{number}");
            let body = json!({
                "type": "noop", "queue": "reports", "idempotencyKey": key,
                "payload": {"filling": "x".repeat(bytes)},
            });
            if self.probe(api, &key, &body).await.is_err() {
                return number;
            }
        }
        panic!("{most} jobs of {bytes} bytes found room");
    }

    /// Sends a request and judges its answer; `refusals` are as good as a success.
    async fn ask(
        &self,
        api: &Api,
        method: Method,
        path: &str,
        body: Option<&Value>,
        refusals: &[u16],
    ) -> (Known, Option<Answer>) {
        let asked = Instant::now();
        let answer = api.send(method.clone(), path, body).await;
        let took = asked.elapsed();
        let mut seen = self.seen.lock().expect("no holder panics");
        seen.slowest = seen.slowest.max(took);
        if took > ANSWER_MAX {
            seen.broken.push(format!("{method} {path}: answered after {took:?}"));
        }
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                seen.broken.push(format!("{method} {path}: no answer: {error:?}"));
                return (Known::Unknown, None);
            }
        };
        *seen.statuses.entry(answer.status).or_default() += 1;
        let known = match answer.status {
            200..300 => Known::Done,
            status if refusals.contains(&status) => Known::NotDone,
            503 => {
                let wait = answer.header("retry-after").and_then(|wait| wait.parse::<u64>().ok());
                let is_problem = answer.header("content-type") == Some("application/problem+json");
                if wait.is_none_or(|seconds| seconds == 0) || !is_problem {
                    seen.broken.push(format!("{method} {path}: 503 with {:?}", answer.headers));
                }
                // Turned away at a door.
                if answer.body["code"] == "overloaded" { Known::NotDone } else { Known::Unknown }
            }
            status => {
                seen.broken.push(format!("{method} {path}: {status} {}", answer.body));
                Known::Unknown
            }
        };
        (known, Some(answer))
    }

    pub(super) fn assert_unbroken(&self, name: &str) {
        let seen = self.seen.lock().expect("no holder panics");
        let shown = &seen.broken[..seen.broken.len().min(20)];
        assert!(shown.is_empty(), "{name}: {} bad answers, such as {shown:#?}", seen.broken.len());
    }

    pub(super) fn statuses(&self) -> BTreeMap<u16, u64> {
        self.seen.lock().expect("no holder panics").statuses.clone()
    }

    pub(super) fn slowest(&self) -> Duration {
        self.seen.lock().expect("no holder panics").slowest
    }

    fn earlier(&self) -> Vec<String> {
        let all = self.acknowledged.lock().expect("no holder panics");
        all[all.len().saturating_sub(40)..].to_vec()
    }
}

/// One client.
pub(super) struct Client {
    id: u64,
    seed: u64,
    api: Api,
    submitted: u64,
    unknown: Option<Submission>,
    newest: Option<Submission>,
}

impl Client {
    async fn play(mut self, world: World) -> Self {
        let mut chance = StdRng::seed_from_u64(self.seed << 8 | self.id);
        while !world.is_over.load(Ordering::SeqCst) {
            self.step(&world, &mut chance).await;
            elapse(Duration::from_millis(chance.random_range(PACE_MS))).await;
        }
        self
    }

    async fn step(&mut self, world: &World, chance: &mut StdRng) {
        if let Some(unknown) = self.unknown.take() {
            return self.submit(world, unknown).await;
        }
        let earlier = world.earlier();
        match (chance.random_range(0..100), self.newest.clone()) {
            (0..6, Some(newest)) => self.submit(world, newest).await,
            (6..14, Some(_)) => self.interfere(world, "cancel", &earlier, chance).await,
            (14..20, Some(_)) => self.interfere(world, "retry", &earlier, chance).await,
            (20..40, Some(_)) => self.read(world, &earlier, chance).await,
            _ => {
                let key = format!("s{}-c{}-{}", self.seed, self.id, self.submitted);
                self.submitted += 1;
                self.submit(world, Submission::random(key, chance, &earlier)).await;
            }
        }
    }

    async fn submit(&mut self, world: &World, submission: Submission) {
        let mut named = submission.named();
        let (log, id) = (&world.recorder, self.id);
        log.invoke(id, "submit", named.clone());
        let sent = world.ask(&self.api, Method::POST, "/api/v1/jobs", Some(&submission.body), &[]).await;
        match sent {
            (Known::Done, Some(answer)) => {
                named["jobId"] = answer.body["job"]["id"].clone();
                log.ok(id, "submit", named.clone());
                let job = named["jobId"].as_str().map(str::to_owned);
                world.acknowledged.lock().expect("no holder panics").extend(job);
                self.newest = Some(submission);
            }
            (Known::NotDone, _) => {
                log.fail(id, "submit", named);
                self.unknown = Some(submission);
            }
            _ => {
                log.info(id, "submit", named);
                self.unknown = Some(submission);
            }
        }
    }

    /// Cancels or retries a job of somebody's. A conflict is as good an answer: the job may be past it.
    async fn interfere(&self, world: &World, what: &str, earlier: &[String], chance: &mut StdRng) {
        let Some(job) = earlier.get(chance.random_range(0..earlier.len().max(1))) else { return };
        let (log, id) = (&world.recorder, self.id);
        let mut value = json!({ "jobId": job });
        log.invoke(id, what, value.clone());
        let path = format!("/api/v1/jobs/{job}/{what}");
        match world.ask(&self.api, Method::POST, &path, None, &[409]).await {
            (Known::Done, Some(answer)) => {
                value["state"] = answer.body["state"].clone();
                log.ok(id, what, value);
            }
            (Known::NotDone, Some(answer)) => {
                value["status"] = answer.status.into();
                log.fail(id, what, value);
            }
            _ => log.info(id, what, value),
        }
    }

    /// Whoever was told of a job finds it, or hears that the store is away.
    async fn read(&self, world: &World, earlier: &[String], chance: &mut StdRng) {
        let Some(job) = earlier.get(chance.random_range(0..earlier.len().max(1))) else { return };
        let path = match chance.random_range(0..9) {
            0 => "/api/v1/jobs?limit=5&state=active".to_owned(),
            1 => "/api/v1/overview".to_owned(),
            2 => "/healthz".to_owned(),
            3 => format!("/api/v1/jobs/{job}/wait?timeoutSeconds=0.2"),
            4 => format!("/api/v1/jobs/{job}/inspection"),
            5 => format!("/api/v1/jobs/{job}/events"),
            6 => format!("/api/v1/jobs/{job}/graph"),
            7 => "/api/v1/supervision?depth=1".to_owned(),
            _ => format!("/api/v1/jobs/{job}"),
        };
        world.ask(&self.api, Method::GET, &path, None, &[]).await;
    }

    async fn settle(mut self, world: &World, api: &Api) {
        let Some(unknown) = self.unknown.take() else { return };
        self.api = api.clone();
        let client = tokio::sync::Mutex::new(self);
        wait_for("an unknown outcome is known", SETTLE_DEADLINE, || async {
            let mut client = client.lock().await;
            client.submit(world, unknown.clone()).await;
            if client.unknown.take().is_some() { Err("still unknown") } else { Ok(()) }
        })
        .await;
    }
}
