//! Commands about workers, operations and the node itself.

use serde_json::Value;

use super::{show, show::Listing};
use crate::cli::{
    CliError, Outcome,
    args::{Audit, HowMany, Operations, Watching, Workers},
    node::{Call, Node},
    render,
    screen::{Screen, View},
    text::clean,
};

async fn list(
    node: &Node,
    screen: &Screen,
    route: &'static str,
    how_many: HowMany,
    table: fn(&[Value], bool, &View) -> String,
) -> Result<Outcome, CliError> {
    Listing { route: &[route], query: Vec::new(), how_many, what: route, table }.run(node, screen).await
}

/// `ganger workers`.
pub(super) async fn workers(node: &Node, screen: &Screen, command: Workers) -> Result<Outcome, CliError> {
    let act = async |id: &str, action: &str, done: &str| {
        let call = Call::post(&["workers", id, action]);
        show::change(node, screen, &call, &format!("{} {done}", clean(id))).await
    };
    match command {
        Workers::List(how_many) => list(node, screen, "workers", how_many, render::workers).await,
        Workers::Get { id, watching } => {
            show::thing::<Value>(node, screen, &Call::get(&["workers", &id]), watching, render::page).await
        }
        Workers::Cordon { id } => act(&id, "cordon", "is given no more jobs").await,
        Workers::Resume { id } => act(&id, "resume", "is given jobs again").await,
        Workers::Drain { id } => act(&id, "drain", "ends its jobs and leaves").await,
    }
}

/// `ganger operations`.
pub(super) async fn operations(
    node: &Node,
    screen: &Screen,
    command: Operations,
) -> Result<Outcome, CliError> {
    match command {
        Operations::List(how_many) => list(node, screen, "operations", how_many, render::operations).await,
        Operations::Get { id, watching } => {
            show::thing::<Value>(node, screen, &Call::get(&["operations", &id]), watching, render::page).await
        }
        Operations::Abort { id } => {
            let call = Call::post(&["operations", &id, "abort"]);
            show::change(node, screen, &call, &format!("operation {} is being ended", clean(&id))).await
        }
    }
}

/// `ganger audit`.
pub(super) async fn audit(node: &Node, screen: &Screen, args: &Audit) -> Result<Outcome, CliError> {
    let fields = [
        ("actor", args.actor.clone()),
        ("action", args.action.clone()),
        ("objectType", args.object_type.clone()),
        ("objectId", args.object_id.clone()),
        ("createdAfter", args.created_after.map(|at| at.to_string())),
        ("createdBefore", args.created_before.map(|at| at.to_string())),
    ];
    let query = fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let how_many = args.how_many;
    Listing { route: &["audit"], query, how_many, what: "changes", table: render::audit }
        .run(node, screen)
        .await
}

/// `ganger dashboard`.
pub(super) async fn dashboard(
    node: &Node,
    screen: &Screen,
    bucket_seconds: Option<u64>,
    watching: Watching,
) -> Result<Outcome, CliError> {
    let query = bucket_seconds.map(|seconds| ("bucketSeconds", seconds.to_string()));
    let call = Call::get(&["dashboard"]).query(query.into_iter().collect());
    show::thing::<Value>(node, screen, &call, watching, render::dashboard).await
}

/// `ganger openapi`: JSON for people too.
pub(super) async fn openapi(node: &Node, screen: &Screen) -> Result<Outcome, CliError> {
    screen.document(&node.call(&Call::get(&["openapi.json"])).await?.body)?;
    Ok(Outcome::Done)
}

/// `ganger health`: 0 if the node is ready. Not being so is an answer, not a refusal.
pub(super) async fn health(node: &Node, screen: &Screen, watching: Watching) -> Result<Outcome, CliError> {
    let ready = std::cell::Cell::new(false);
    let look = async || {
        let (lives, _) = node.probe("healthz", &[]).await?;
        let (status, body) = node.probe("readyz", &[("verbose", String::new())]).await?;
        ready.set((200..300).contains(&lives) && (200..300).contains(&status));
        let readiness: Value =
            serde_json::from_str(&body).map_err(|_| node.unreadable("its readiness is not JSON"))?;
        Ok(match screen.json {
            true => body,
            false => render::health((200..300).contains(&lives), ready.get(), &readiness, &screen.view()),
        })
    };
    if let Some(every) = watching.watch {
        return show::repeat(screen, every, look).await;
    }
    let text = look().await?;
    if screen.json {
        screen.document(&text)?
    } else {
        screen.show(&text)?
    }
    Ok(if ready.get() { Outcome::Done } else { Outcome::NotCompleted })
}
