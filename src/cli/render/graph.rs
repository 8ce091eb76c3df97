//! A dependency graph as an indented tree.
//!
//! Each job is drawn once, below the first of the jobs it depends on; below the others a line refers to it. So a
//! graph is as long as its edges, whatever its shape, even where a broken one has cycles.

use std::collections::{HashMap, HashSet};

use super::paint::{Tone, paint, state_word};
use crate::{
    cli::{
        model::{Graph, GraphNode},
        screen::View,
        text::clean,
    },
    domain::JobId,
};

/// Deeper levels are drawn at the one with this margin: a long chain stays readable.
const MARGIN_MAX: usize = 72;

/// The graph; the job it was asked for is marked.
pub(in crate::cli) fn graph(graph: &Graph, view: &View) -> String {
    let by_id: HashMap<JobId, &GraphNode> = graph.nodes.iter().map(|node| (node.job_id, node)).collect();
    let is_root = |node: &&GraphNode| !node.depends_on.iter().any(|id| by_id.contains_key(id));
    let (roots, rest): (Vec<&GraphNode>, Vec<&GraphNode>) = graph.nodes.iter().partition(is_root);
    let mut drawn: HashSet<JobId> = HashSet::new();
    let mut page = String::new();
    // What no root leads to is drawn too, as if it were one.
    for start in roots.into_iter().chain(rest) {
        if drawn.contains(&start.job_id) {
            continue;
        }
        let mut stack = vec![(start, None)];
        while let Some((node, branch)) = stack.pop() {
            let again = !drawn.insert(node.job_id);
            page.push_str(&line(node, branch.as_ref(), again, node.job_id == graph.root_job_id, view));
            if again {
                continue;
            }
            let below: Vec<&GraphNode> =
                node.dependents.iter().filter_map(|id| by_id.get(id).copied()).collect();
            let margin = Branch::margin_below(branch.as_ref());
            let branches = below.iter().enumerate().map(|(at, child)| {
                (*child, Some(Branch { margin: margin.clone(), last: at + 1 == below.len() }))
            });
            stack.extend(branches.rev());
        }
    }
    if graph.truncated {
        page.push_str("  … more jobs are connected than the node shows\n");
    }
    page
}

/// Where a node hangs.
#[derive(Debug)]
struct Branch {
    /// What is drawn to the left of it, for the branches further up.
    margin: String,
    /// Nothing hangs below it on the same branch.
    last: bool,
}

impl Branch {
    fn margin_below(above: Option<&Self>) -> String {
        match above {
            None => String::new(),
            Some(above) if above.margin.chars().count() >= MARGIN_MAX => above.margin.clone(),
            Some(above) => format!("{}{}", above.margin, if above.last { "   " } else { "│  " }),
        }
    }
}

fn line(node: &GraphNode, branch: Option<&Branch>, again: bool, asked: bool, view: &View) -> String {
    let indent = branch.map_or_else(String::new, |branch| {
        format!("{}{}", branch.margin, if branch.last { "└─ " } else { "├─ " })
    });
    let state = state_word(&node.state, view);
    let mut line = format!("  {indent}{} {} {state}", clean(&node.kind), node.job_id);
    if again {
        line.push_str(&paint("  (above)", Tone::Dim, view));
    } else if let Some(reason) = &node.blocked_reason {
        line.push_str(&format!(": {}", clean(reason)));
    }
    if asked {
        line.push_str(&paint("  ← this job", Tone::Dim, view));
    }
    line.push('\n');
    line
}

/// Whether nothing in it will move by itself any more: all has ended, or waits for what has ended badly.
pub(in crate::cli) fn is_settled(graph: &Graph) -> bool {
    let ended = |state: &str| matches!(state, "completed" | "failed" | "canceled");
    let moving = |node: &GraphNode| !ended(&node.state) && node.state != "blocked";
    if graph.nodes.iter().any(moving) {
        return false;
    }
    // A blocked job with all that it waits for completed is about to move.
    let state_of: HashMap<JobId, &str> =
        graph.nodes.iter().map(|node| (node.job_id, node.state.as_str())).collect();
    let completed = |id: &JobId| state_of.get(id).is_some_and(|state| *state == "completed");
    !graph.nodes.iter().any(|node| node.state == "blocked" && node.depends_on.iter().all(completed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{render::samples, text::corpus};

    fn with_states(states: [&str; 6]) -> Graph {
        let mut graph = samples::graph();
        for (node, state) in graph.nodes.iter_mut().zip(states) {
            node.state = state.to_owned();
        }
        graph
    }

    #[test]
    fn the_demo_is_a_tree_with_each_job_drawn_once() {
        insta::assert_snapshot!(graph(&samples::graph(), &samples::view(None)), @r#"
        file.ingest 019e1000-0000-7000-8000-00000000000a completed  ← this job
        ├─ image.thumbnail 019e1000-0000-7000-8000-00000000000b completed
        │  └─ metadata.aggregate 019e1000-0000-7000-8000-00000000000e blocked: waits for 2 of 3 jobs
        │     └─ user.notify 019e1000-0000-7000-8000-00000000000f blocked: waits for 1 job
        ├─ image.thumbnail 019e1000-0000-7000-8000-00000000000c active
        │  └─ metadata.aggregate 019e1000-0000-7000-8000-00000000000e blocked  (above)
        └─ image.thumbnail 019e1000-0000-7000-8000-00000000000d queued
           └─ metadata.aggregate 019e1000-0000-7000-8000-00000000000e blocked  (above)
        "#);
    }

    #[test]
    fn a_broken_graph_is_drawn_all_the_same() {
        let mut cyclic = samples::graph();
        let (first, last) = (cyclic.nodes[0].job_id, cyclic.nodes[5].job_id);
        cyclic.nodes[0].depends_on = vec![last];
        cyclic.nodes[5].dependents = vec![first];
        let text = graph(&cyclic, &samples::view(None));
        for node in &cyclic.nodes {
            assert!(text.contains(&node.job_id.to_string()), "{text}");
        }
    }

    #[test]
    fn a_long_chain_is_drawn_within_bounds() {
        let ids: Vec<JobId> = (0..2_000).map(|_| JobId::new()).collect();
        let mut chain = samples::graph();
        let node = chain.nodes[0].clone();
        chain.nodes = (0..ids.len())
            .map(|at| GraphNode {
                job_id: ids[at],
                depends_on: at.checked_sub(1).map(|before| ids[before]).into_iter().collect(),
                dependents: ids.get(at + 1).copied().into_iter().collect(),
                ..node.clone()
            })
            .collect();
        let text = graph(&chain, &samples::view(None));
        assert_eq!(text.lines().count(), 2_000);
        assert!(text.lines().all(|line| line.chars().count() < 200));
    }

    #[test]
    fn a_graph_is_settled_when_nothing_can_move() {
        let done = "completed";
        for (states, settled) in [
            (["completed"; 6], true),
            ([done, done, "failed", done, "blocked", "blocked"], true),
            ([done, done, done, done, "blocked", "blocked"], false),
            ([done, done, "retrying", done, "blocked", "blocked"], false),
            (["queued", "blocked", "blocked", "blocked", "blocked", "blocked"], false),
            (["canceled", "blocked", "blocked", "blocked", "blocked", "blocked"], true),
        ] {
            assert_eq!(is_settled(&with_states(states)), settled, "{states:?}");
        }
    }

    #[test]
    fn a_hostile_graph_is_harmless() {
        for hostile in corpus::HOSTILE {
            let mut bad = samples::graph();
            bad.nodes[0].kind = hostile.to_owned();
            bad.nodes[1].state = hostile.to_owned();
            bad.nodes[2].blocked_reason = Some(hostile.to_owned());
            corpus::assert_harmless(&graph(&bad, &samples::view(None)));
        }
    }
}
