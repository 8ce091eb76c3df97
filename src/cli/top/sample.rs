//! One look at a node.

use futures_util::future::try_join_all;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cli::{
    CliError,
    model::{Actor, Overview},
    node::{Answer, Node},
};

/// The kinds of actors that do the work; leases, of which there may be tens of thousands, are left out.
const KINDS: [&str; 5] = ["queue", "lane", "worker", "console", "upkeep"];
/// As many of a list as a screen may hold.
const LIMIT: &str = "500";

/// What was seen.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) overview: Overview,
    /// Absent where the node has no such route.
    pub(super) queues: Option<Vec<Value>>,
    pub(super) workers: Option<Vec<Value>>,
    pub(super) actors: Vec<Actor>,
    raw_overview: String,
    raw_actors: Vec<String>,
}

/// Looks once: all at the same time.
pub(super) async fn take(node: &Node) -> Result<Sample, CliError> {
    let limit = || vec![("limit", LIMIT.to_owned())];
    let actors = KINDS.iter().map(|&kind| async move {
        let query = [("kind", kind.to_owned()), ("limit", LIMIT.to_owned())];
        present(node.get(&["supervision"], &query).await)
    });
    let (queue_query, worker_query) = (limit(), limit());
    let lists = async {
        let (queues, workers) =
            tokio::join!(node.get(&["queues"], &queue_query), node.get(&["workers"], &worker_query));
        Ok::<_, CliError>((list(present(queues)?)?, list(present(workers)?)?))
    };
    let (overview, lists, trees) = tokio::join!(node.get(&["overview"], &[]), lists, try_join_all(actors));
    let ((queues, workers), overview) = (lists?, overview?);
    let mut sample = Sample {
        at: Instant::now(),
        overview: overview.read()?,
        queues,
        workers,
        actors: Vec::new(),
        raw_overview: overview.body,
        raw_actors: Vec::new(),
    };
    for (answer, kind) in trees?.into_iter().zip(KINDS).filter_map(|(answer, kind)| Some((answer?, kind))) {
        gather(answer.read()?, kind, &mut sample.actors);
        sample.raw_actors.push(answer.body);
    }
    Ok(sample)
}

/// An older node, or a key without the right, lacks a list: the rest is shown all the same.
fn present(answer: Result<Answer, CliError>) -> Result<Option<Answer>, CliError> {
    match answer {
        Err(CliError::Refused(refusal)) if matches!(refusal.status(), 403..=405) => Ok(None),
        answer => answer.map(Some),
    }
}

fn list<T: DeserializeOwned>(answer: Option<Answer>) -> Result<Option<Vec<T>>, CliError> {
    answer.map(|answer| answer.read()).transpose()
}

/// The actors of a kind, without those above them.
fn gather(mut actor: Actor, kind: &str, found: &mut Vec<Actor>) {
    let children = std::mem::take(&mut actor.children);
    if actor.kind == kind {
        found.push(actor);
    }
    for child in children {
        gather(child, kind, found);
    }
}

impl Sample {
    /// All of it, for programs.
    pub(super) fn json(&self) -> String {
        let parsed = |text: &String| serde_json::from_str::<Value>(text).unwrap_or_default();
        json!({
            "overview": parsed(&self.raw_overview),
            "queues": self.queues,
            "workers": self.workers,
            "supervision": self.raw_actors.iter().map(parsed).collect::<Vec<_>>(),
        })
        .to_string()
    }
}
