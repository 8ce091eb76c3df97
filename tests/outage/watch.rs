//! What is seen of the node from outside while its store is gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::support::Api;
use crate::support::wait::elapse;

/// How often `/readyz` is asked.
const EVERY: Duration = Duration::from_millis(50);
/// `/readyz` is answered from memory: longer, and the node as a whole does not answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Asks `/readyz` all the time.
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    _task: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    /// When the store was named as a part that is not ready.
    named: Vec<Instant>,
    broken: Vec<String>,
}

impl Watch {
    pub(super) fn start(api: &Api) -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let mut task = JoinSet::new();
        task.spawn(watch(Api::new(api.base(), ""), seen.clone()));
        Self { seen, _task: task }
    }

    /// How long after `began` the store was first named.
    pub(super) fn named_after(&self, began: Instant) -> Option<Duration> {
        let seen = self.seen.lock().expect("no holder panics");
        seen.named.iter().find(|at| **at > began).map(|at| *at - began)
    }

    pub(super) fn assert_unbroken(&self, name: &str) {
        let seen = self.seen.lock().expect("no holder panics");
        assert!(seen.broken.is_empty(), "{name}: /readyz: {:#?}", seen.broken);
    }
}

async fn watch(api: Api, seen: Arc<Mutex<Seen>>) {
    loop {
        let asked = Instant::now();
        let answer = api.send(Method::GET, "/readyz", None).await;
        let at = Instant::now();
        {
            let mut seen = seen.lock().expect("no holder panics");
            match answer {
                Ok(answer) if answer.status == 200 => {}
                Ok(answer) if answer.status == 503 => {
                    let parts = answer.body["parts"].as_array().cloned().unwrap_or_default();
                    if parts.iter().any(|part| part["part"] == "store" && part["ready"] == false) {
                        seen.named.push(at);
                    } else {
                        seen.broken.push(format!("503 without the store: {}", answer.body));
                    }
                }
                Ok(answer) => seen.broken.push(format!("{} {}", answer.status, answer.body)),
                Err(error) => seen.broken.push(format!("{error:?}")),
            }
            if at - asked > ANSWER_MAX {
                seen.broken.push(format!("answered after {:?}", at - asked));
            }
        }
        elapse(EVERY).await;
    }
}

/// How often each actor was restarted, by its path; leases come and go and are left out.
#[derive(Debug, Default)]
pub(super) struct Restarts(BTreeMap<String, u64>);

impl Restarts {
    pub(super) async fn of(api: &Api) -> Self {
        let tree = api.get("/api/v1/supervision?limit=1000").await.expect(200);
        let mut all = BTreeMap::new();
        collect(&tree, &mut all);
        assert!(all.len() > 10, "vacuous: {} actors", all.len());
        Self(all)
    }

    /// What was restarted between this and `later`.
    pub(super) fn to(&self, later: &Self) -> Vec<String> {
        let grown = later.0.iter().filter(|(path, count)| **count > self.0.get(*path).copied().unwrap_or(0));
        grown.map(|(path, count)| format!("{path}: {count}")).collect()
    }
}

fn collect(node: &Value, all: &mut BTreeMap<String, u64>) {
    if node["kind"] != "lease" {
        let path = node["path"].as_str().expect("an actor has a path").to_owned();
        all.insert(path, node["restarts"].as_u64().expect("a count of restarts"));
    }
    for child in node["children"].as_array().into_iter().flatten() {
        collect(child, all);
    }
}
