//! `ganger jobs`.

use reqwest::Method;
use serde_json::Value;

use super::{batch, bulk, control, get, logs, show, show::Listing, submit, wait};
use crate::{
    cli::{
        CliError, Outcome,
        args::{Jobs, List, Watching},
        node::{Call, Node},
        render,
        screen::Screen,
    },
    domain::{JobId, JobState, JobView},
};

/// Carries out one of them.
pub(super) async fn run(node: &Node, screen: &Screen, command: Jobs) -> Result<Outcome, CliError> {
    match command {
        Jobs::Submit(args) => submit::run(node, screen, *args).await,
        Jobs::Batch(args) => batch::run(node, screen, &args).await,
        Jobs::List(args) => list(node, screen, &args).await,
        Jobs::Get(one) => {
            let call = Call::get(&["jobs", &one.id.to_string()]);
            show::thing(node, screen, &call, one.watching, render::job).await
        }
        Jobs::Inspect { id } => get::inspect(node, screen, id).await,
        Jobs::Events { id } => get::events(node, screen, &id.to_string()).await,
        Jobs::Attempts { id } => get::attempts(node, screen, &id.to_string()).await,
        Jobs::Graph { id } => get::graph(node, screen, &id.to_string()).await,
        Jobs::Logs(args) => logs::run(node, screen, &args).await,
        Jobs::Explain(one) => {
            let call = Call::get(&["jobs", &one.id.to_string(), "explain"]);
            show::thing::<Value>(node, screen, &call, one.watching, render::explanation).await
        }
        Jobs::Wait { id, limit } => until_ended(node, screen, id, limit).await,
        Jobs::Patch(args) => {
            show::thing(node, screen, &bulk::patch(args)?, Watching::default(), render::brief).await
        }
        Jobs::Delete { id } => {
            let call = Call::new(Method::DELETE, &["jobs", &id.to_string()]);
            show::change(node, screen, &call, &format!("job {id} is forgotten")).await
        }
        Jobs::Retry { id } => control::retry(node, screen, id).await,
        Jobs::Cancel(args) => control::cancel(node, screen, &args).await,
        Jobs::Bulk(args) => bulk::run(node, screen, *args).await,
    }
}

/// Lists jobs.
pub(super) async fn list(node: &Node, screen: &Screen, args: &List) -> Result<Outcome, CliError> {
    let query = bulk::query(&args.filter);
    let list: Listing<'_, JobView> =
        Listing { route: &["jobs"], query, how_many: args.some, what: "jobs", table: render::jobs };
    list.run(node, screen).await
}

async fn until_ended(
    node: &Node,
    screen: &Screen,
    id: JobId,
    limit: Option<std::time::Duration>,
) -> Result<Outcome, CliError> {
    let waited = wait::wait(node, id, limit).await?;
    let job: JobView = waited.answer.read()?;
    if screen.json {
        screen.document(&waited.answer.body)?;
    } else {
        screen.show(&render::brief(&job, &screen.view()))?;
        if !waited.ended {
            screen.note("The wait ran out; the job goes on.");
        }
    }
    Ok(match (waited.ended, job.state) {
        (false, _) => Outcome::StillRunning,
        (true, JobState::Completed) => Outcome::Done,
        (true, _) => Outcome::NotCompleted,
    })
}
