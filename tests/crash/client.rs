//! Clients of a node that may be killed at any moment.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};

use super::submission::Submission;
use crate::support::Api;
use crate::support::history::{Outcome, Recorder};
use crate::support::http::Answer;
use crate::support::wait::{elapse, wait_for};

/// A client's pause between two requests: together they keep a backlog, without building one up for ever.
const PACE_MS: std::ops::Range<u64> = 0..40;
/// For a submission of unknown outcome after the last restart: the node runs, only its doors may be full.
const SETTLE_DEADLINE: Duration = Duration::from_secs(30);

/// What all clients share.
#[derive(Clone)]
pub(super) struct World {
    recorder: Arc<Recorder>,
    /// Ids of acknowledged jobs, oldest first: to depend on, cancel and retry.
    acknowledged: Arc<Mutex<Vec<String>>>,
}

impl World {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self { recorder: Arc::new(recorder), acknowledged: Arc::default() }
    }

    /// Lets the clients loose on the node; they come back when it is gone.
    pub(super) fn load(
        &self,
        clients: Vec<Client>,
        api: &Api,
        round: u64,
    ) -> impl Future<Output = Vec<Client>> + use<> {
        let mut tasks = tokio::task::JoinSet::new();
        for client in clients {
            tasks.spawn(client.play(self.clone(), api.clone(), round));
        }
        async move { tasks.join_all().await }
    }

    /// Finds out what became of every submission whose outcome is not known: with its key there is one job,
    /// whether or not the first try made it.
    pub(super) async fn settle(&self, clients: Vec<Client>, api: &Api) {
        join_all(clients.into_iter().map(|client| client.settle(self, api))).await;
    }

    fn earlier(&self) -> Vec<String> {
        self.acknowledged.lock().expect("no holder panics").clone()
    }
}

/// The end of a client's load: the node is gone.
struct Gone;

/// One client; it outlives the node's lives.
pub(super) struct Client {
    id: u64,
    submitted: u64,
    /// Sent, and its answer lost.
    unknown: Option<Submission>,
    /// The newest acknowledged one, to be repeated.
    newest: Option<Submission>,
}

impl Client {
    pub(super) fn new(id: u64) -> Self {
        Self { id, submitted: 0, unknown: None, newest: None }
    }

    async fn play(mut self, world: World, api: Api, round: u64) -> Self {
        let mut chance = StdRng::seed_from_u64(round << 8 | self.id);
        loop {
            if self.step(&world, &api, round, &mut chance).await.is_err() {
                return self;
            }
            elapse(Duration::from_millis(chance.random_range(PACE_MS))).await;
        }
    }

    async fn step(&mut self, world: &World, api: &Api, round: u64, chance: &mut StdRng) -> Result<(), Gone> {
        if let Some(unknown) = self.unknown.take() {
            return self.submit(world, api, unknown).await;
        }
        let earlier = world.earlier();
        match (chance.random_range(0..100), self.newest.clone()) {
            (0..5, Some(newest)) => self.submit(world, api, newest).await,
            (5..12, Some(_)) => self.interfere(world, api, "cancel", &earlier, chance).await,
            (12..18, Some(_)) => self.interfere(world, api, "retry", &earlier, chance).await,
            _ => {
                // Numbered over all rounds: a key means one job for ever.
                let key = format!("r{round}-c{}-{}", self.id, self.submitted);
                self.submitted += 1;
                self.submit(world, api, Submission::random(key, chance, &earlier)).await
            }
        }
    }

    async fn submit(&mut self, world: &World, api: &Api, submission: Submission) -> Result<(), Gone> {
        let mut named = submission.named();
        let (log, id) = (&world.recorder, self.id);
        log.invoke(id, "submit", named.clone());
        let sent = api.send(Method::POST, "/api/v1/jobs", Some(&submission.body)).await;
        match outcome(&sent) {
            Outcome::Ok => {
                let job = sent.as_ref().map_or(&Value::Null, |answer| &answer.body["job"]["id"]);
                named["jobId"] = job.clone();
                log.ok(id, "submit", named);
                world.acknowledged.lock().expect("no holder panics").extend(job.as_str().map(str::to_owned));
                self.newest = Some(submission);
            }
            Outcome::Fail => {
                if let Ok(answer) = &sent {
                    assert!(
                        answer.status == 503,
                        "a submission was refused: {} {}",
                        answer.status,
                        answer.body
                    );
                }
                log.fail(id, "submit", named);
            }
            Outcome::Info | Outcome::Invoke => {
                log.info(id, "submit", named);
                self.unknown = Some(submission);
            }
        }
        sent.map(drop).map_err(|_| Gone)
    }

    /// Cancels or retries a job of somebody's. A refusal is as good an answer: the job may be past it.
    async fn interfere(
        &self,
        world: &World,
        api: &Api,
        what: &str,
        earlier: &[String],
        chance: &mut StdRng,
    ) -> Result<(), Gone> {
        // Of the newest: what ended long ago only answers 409.
        let newest = &earlier[earlier.len().saturating_sub(40)..];
        let Some(job) = newest.get(chance.random_range(0..newest.len().max(1))) else { return Ok(()) };
        let (log, id) = (&world.recorder, self.id);
        log.invoke(id, what, json!({ "jobId": job }));
        let sent = api.send(Method::POST, &format!("/api/v1/jobs/{job}/{what}"), None).await;
        let mut value = json!({ "jobId": job });
        match (outcome(&sent), &sent) {
            (Outcome::Ok, Ok(answer)) => {
                value["state"] = answer.body["state"].clone();
                log.ok(id, what, value);
            }
            (Outcome::Fail, Ok(answer)) => {
                let expected = [409, 503].contains(&answer.status);
                assert!(expected, "{what} of an acknowledged job: {} {}", answer.status, answer.body);
                log.fail(id, what, value);
            }
            (Outcome::Fail, Err(_)) => log.fail(id, what, value),
            _ => log.info(id, what, value),
        }
        sent.map(drop).map_err(|_| Gone)
    }

    async fn settle(mut self, world: &World, api: &Api) {
        let Some(unknown) = self.unknown.take() else { return };
        let client = tokio::sync::Mutex::new(self);
        wait_for("an unknown outcome is known", SETTLE_DEADLINE, || async {
            let mut client = client.lock().await;
            let gone = client.submit(world, api, unknown.clone()).await.is_err();
            if gone || client.unknown.take().is_some() { Err("still unknown") } else { Ok(()) }
        })
        .await;
    }
}

/// What a client may conclude from what came back.
fn outcome(sent: &Result<Answer, reqwest::Error>) -> Outcome {
    match sent {
        Ok(answer) if answer.status < 300 => Outcome::Ok,
        // Turned away at a door.
        Ok(answer) if answer.status == 503 && answer.body["code"] == "overloaded" => Outcome::Fail,
        Ok(answer) if answer.status < 500 => Outcome::Fail,
        Ok(_) => Outcome::Info,
        // Never sent.
        Err(error) if error.is_connect() => Outcome::Fail,
        Err(_) => Outcome::Info,
    }
}
