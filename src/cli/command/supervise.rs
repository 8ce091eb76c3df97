//! `ganger supervise`.

use std::time::Duration;

use serde_json::json;

use crate::cli::{
    CliError, Outcome,
    args::{Supervise, SuperviseAction},
    model::Actor,
    node::{Answer, Node},
    render,
    screen::Screen,
    text::clean,
    time,
};

/// Looking costs the node a walk over its actors.
const WATCH_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// The node's parts and what is right below them.
const DEPTH_DEFAULT: u32 = 2;
/// A node has more than a hundred shards, most of them without anything to see.
const LIMIT_DEFAULT: u32 = 20;

/// Shows the tree once or again and again, or restarts a part of it.
pub(super) async fn run(node: &Node, screen: &Screen, args: Supervise) -> Result<Outcome, CliError> {
    if let Some(SuperviseAction::Restart { path }) = args.action {
        return restart(node, screen, &path).await;
    }
    let Some(interval) = args.watch else {
        show(screen, &look(node, &args).await?, &args)?;
        return Ok(Outcome::Done);
    };
    tokio::select! {
        ended = watch(node, screen, &args, interval.max(WATCH_INTERVAL_MIN)) => ended,
        _ = tokio::signal::ctrl_c() => Ok(Outcome::Done),
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

fn show(screen: &Screen, answer: &Answer, args: &Supervise) -> Result<(), CliError> {
    if screen.json {
        return screen.document(&answer.body);
    }
    screen.show(&render::actors(&answer.read::<Actor>()?, args.kind.as_deref(), &screen.view()))
}

/// Until the first look fails, or, later, for ever: a node that restarts is what one watches for.
async fn watch(node: &Node, screen: &Screen, args: &Supervise, every: Duration) -> Result<Outcome, CliError> {
    let mut last = look(node, args).await?;
    loop {
        let view = screen.view();
        if screen.json {
            screen.document_line(&last.body)?;
        } else {
            let tree = render::actors(&last.read::<Actor>()?, args.kind.as_deref(), &view);
            screen.show_anew(&format!("{}\n{tree}", time::at(view.now, view.utc)))?;
        }
        loop {
            tokio::time::sleep(every).await;
            match look(node, args).await {
                Ok(answer) => {
                    last = answer;
                    break;
                }
                Err(error) if error.is_passing() => screen.note(&error.to_string()),
                Err(error) => return Err(error),
            }
        }
    }
}
