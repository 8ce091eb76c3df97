//! `ganger demo`.

use std::{collections::HashMap, time::Duration};

use serde_json::json;

use super::wait;
use crate::{
    cli::{
        CliError, Outcome,
        args::Demo,
        model::{Graph, GraphNode},
        node::Node,
        render,
        screen::Screen,
        stream::Backoff,
        text::clean,
        time,
    },
    domain::{Clock, JobId},
};

/// The graph is looked at this often, and whenever the job that is waited for ends.
const LOOK: Duration = Duration::from_secs(1);
/// So many looks in a row may fail while a node restarts.
const FAILED_LOOKS_MAX: u32 = 10;

/// Starts the demo and follows its jobs until none will move any more. With `--json`, the graph as it was at the
/// start and as it was at the end, a line each.
pub(super) async fn run(node: &Node, screen: &Screen, args: Demo) -> Result<Outcome, CliError> {
    let mut body = serde_json::Map::new();
    body.extend(args.source.map(|source| ("source".to_owned(), json!(source))));
    body.extend(args.tenant.map(|tenant| ("tenantId".to_owned(), json!(tenant))));
    let body = serde_json::Value::Object(body).to_string();
    let mut answer = node.post(&["workflows", "demo", "thumbnail"], Some(body)).await?;
    let mut graph: Graph = answer.read()?;
    if screen.json {
        screen.document_line(&answer.body)?;
    } else {
        screen.show(&render::graph(&graph, &screen.view()))?;
    }
    let root = graph.root_job_id.to_string();
    let mut seen: HashMap<JobId, String> = states(&graph);
    let (mut backoff, mut failed_looks) = (Backoff::default(), 0);
    while !render::is_settled(&graph) {
        match look(node, &graph, &root).await {
            Ok(newer) => {
                (answer, failed_looks) = (newer, 0);
                backoff.reset();
            }
            Err(error) if error.is_passing() && failed_looks < FAILED_LOOKS_MAX => {
                failed_looks += 1;
                tokio::time::sleep(backoff.pause()).await;
                continue;
            }
            Err(error) => return Err(error),
        }
        graph = answer.read()?;
        for moved in graph.nodes.iter().filter(|node| seen.get(&node.job_id) != Some(&node.state)) {
            if !screen.json {
                screen.show(&told(moved, screen))?;
            }
        }
        seen = states(&graph);
    }
    let completed = graph.nodes.iter().all(|node| node.state == "completed");
    if screen.json {
        screen.document_line(&answer.body)?;
    } else {
        screen.show(&format!("\n{}", render::graph(&graph, &screen.view())))?;
        let how = if completed { "all jobs completed" } else { "not all jobs completed" };
        screen.show(&format!("{how}; look closer with `ganger get {root}`"))?;
    }
    Ok(if completed { Outcome::Done } else { Outcome::NotCompleted })
}

/// Waits a little for a job that can move, then reads the graph.
async fn look(node: &Node, graph: &Graph, root: &str) -> Result<crate::cli::node::Answer, CliError> {
    let moving =
        |node: &&GraphNode| !matches!(node.state.as_str(), "completed" | "failed" | "canceled" | "blocked");
    match graph.nodes.iter().find(moving) {
        Some(next) => drop(wait::once(node, next.job_id, LOOK).await?),
        None => tokio::time::sleep(LOOK / 4).await,
    }
    node.get(&["jobs", root, "graph"], &[]).await
}

fn states(graph: &Graph) -> HashMap<JobId, String> {
    graph.nodes.iter().map(|node| (node.job_id, node.state.clone())).collect()
}

fn told(node: &GraphNode, screen: &Screen) -> String {
    let view = screen.view();
    let now = time::at(Clock::local(), view.utc);
    let mut line =
        format!("{now}  {}  {} {}", node.job_id, clean(&node.kind), render::state_word(&node.state, &view));
    if !node.queue.is_empty() {
        line.push_str(&format!(" on {}", clean(&node.queue)));
    }
    line
}
