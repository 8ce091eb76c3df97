//! `ganger supervise`.

use serde_json::json;

use super::show;
use crate::cli::{
    CliError, Outcome,
    args::{Supervise, SuperviseAction},
    model::Actor,
    node::{Answer, Node},
    render,
    screen::Screen,
    text::clean,
};

/// The node's parts and what is right below them.
const DEPTH_DEFAULT: u32 = 2;
/// A node has more than a hundred shards, most of them without anything to see.
const LIMIT_DEFAULT: u32 = 20;

/// Shows the tree once or again and again, or restarts a part of it.
pub(super) async fn run(node: &Node, screen: &Screen, args: Supervise) -> Result<Outcome, CliError> {
    if let Some(SuperviseAction::Restart { path }) = args.action {
        return restart(node, screen, &path).await;
    }
    match args.watching.watch {
        None => {
            let answer = look(node, &args).await?;
            if screen.json {
                screen.document(&answer.body)?
            } else {
                screen.show(&shown(screen, answer, &args)?)?
            }
            Ok(Outcome::Done)
        }
        Some(every) => {
            show::repeat(screen, every, async || shown(screen, look(node, &args).await?, &args)).await
        }
    }
}

async fn restart(node: &Node, screen: &Screen, path: &str) -> Result<Outcome, CliError> {
    let body = json!({ "path": path }).to_string();
    let answer = node.post(&["supervision", "restart"], Some(body)).await?;
    if screen.json {
        screen.document(&answer.body)?;
    } else {
        screen.show(&format!("{} is being restarted", clean(path)))?;
    }
    Ok(Outcome::Done)
}

async fn look(node: &Node, args: &Supervise) -> Result<Answer, CliError> {
    // A filter is short by itself, and looks for what may be anywhere.
    let (depth, limit) = match args.kind {
        Some(_) => (args.depth, args.limit),
        None => (args.depth.or(Some(DEPTH_DEFAULT)), args.limit.or(Some(LIMIT_DEFAULT))),
    };
    let mut query = Vec::new();
    let mut add = |name, value: Option<String>| query.extend(value.map(|value| (name, value)));
    add("path", args.path.clone());
    add("kind", args.kind.clone());
    add("depth", depth.map(|depth| depth.to_string()));
    add("limit", limit.map(|limit| limit.to_string()));
    add("after", args.after.clone());
    node.get(&["supervision"], &query).await
}

fn shown(screen: &Screen, answer: Answer, args: &Supervise) -> Result<String, CliError> {
    Ok(match screen.json {
        true => answer.body,
        false => render::actors(&answer.read::<Actor>()?, args.kind.as_deref(), &screen.view()),
    })
}
