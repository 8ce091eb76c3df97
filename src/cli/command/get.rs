//! `ganger get`.

use super::{list::Pages, show};
use crate::{
    cli::{
        CliError, Outcome,
        args::{Get, Watching},
        model::{Attempt, Graph, Inspection, Moment},
        node::{Call, Node},
        render,
        screen::{Screen, View},
    },
    domain::JobId,
};

/// Shows a job: all of it, or the parts that were asked for. One part alone is asked for alone.
pub(super) async fn run(node: &Node, screen: &Screen, args: &Get) -> Result<Outcome, CliError> {
    let id = args.id.to_string();
    match (args.events, args.attempts, args.graph) {
        (true, false, false) => return events(node, screen, &id).await,
        (false, true, false) => return attempts(node, screen, &id).await,
        (false, false, true) => return graph(node, screen, &id).await,
        parts => {
            let answer = node.get(&["jobs", &id, "inspection"], &[]).await?;
            if screen.json {
                screen.document(&answer.body)?;
            } else {
                screen.show(&page(&answer.read()?, parts, screen))?;
            }
        }
    }
    Ok(Outcome::Done)
}

/// All of a job.
pub(super) async fn inspect(node: &Node, screen: &Screen, id: JobId) -> Result<Outcome, CliError> {
    run(node, screen, &Get { id, events: false, attempts: false, graph: false }).await
}

/// Its attempts.
pub(super) async fn attempts(node: &Node, screen: &Screen, id: &str) -> Result<Outcome, CliError> {
    let call = Call::get(&["jobs", id, "attempts"]);
    let text = |attempts: &Vec<Attempt>, view: &View| some(render::attempts(attempts, view));
    show::thing(node, screen, &call, Watching::default(), text).await
}

/// Its dependency graph.
pub(super) async fn graph(node: &Node, screen: &Screen, id: &str) -> Result<Outcome, CliError> {
    show::thing::<Graph>(node, screen, &Call::get(&["jobs", id, "graph"]), Watching::default(), render::graph)
        .await
}

fn page(all: &Inspection, parts: (bool, bool, bool), screen: &Screen) -> String {
    let view = screen.view();
    let (events, attempts, graph) = parts;
    if !(events || attempts || graph) {
        return render::inspection(all, &view);
    }
    let mut sections = Vec::new();
    if attempts {
        sections.push(some(render::attempts(&all.attempts, &view)));
    }
    if events {
        sections.push(render::timeline(&all.events, &view));
    }
    if graph {
        sections.push(render::graph(&all.graph, &view));
    }
    sections.join("\n")
}

fn some(attempts: String) -> String {
    if attempts.is_empty() { "no attempts yet\n".to_owned() } else { attempts }
}

/// A timeline of any length: all its pages.
pub(super) async fn events(node: &Node, screen: &Screen, id: &str) -> Result<Outcome, CliError> {
    let route = ["jobs", id, "events"];
    let mut pages = Pages::new(node, &route, Vec::new(), None);
    if screen.json {
        pages.write_json(screen).await?;
        return Ok(Outcome::Done);
    }
    let mut rows: Vec<Moment> = Vec::new();
    while let Some(page) = pages.next().await? {
        rows.extend(page.read::<Vec<Moment>>()?);
    }
    screen.show(&render::timeline(&rows, &screen.view()))?;
    Ok(Outcome::Done)
}
