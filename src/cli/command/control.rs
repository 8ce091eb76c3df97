//! The commands of one request.

use serde_json::json;

use super::show;
use crate::{
    cli::{
        CliError, Outcome,
        args::{Cancel, Watching},
        model::Ticket,
        node::{Answer, Call, Node},
        render,
        screen::Screen,
        text::clean,
        time,
    },
    domain::JobId,
};

/// Cancels a job.
pub(super) async fn cancel(node: &Node, screen: &Screen, args: &Cancel) -> Result<Outcome, CliError> {
    let body = args.reason.as_ref().map(|reason| json!({ "reason": reason }).to_string());
    job(screen, &node.post(&["jobs", &args.id.to_string(), "cancel"], body).await?)
}

/// Runs a job again.
pub(super) async fn retry(node: &Node, screen: &Screen, id: JobId) -> Result<Outcome, CliError> {
    job(screen, &node.post(&["jobs", &id.to_string(), "retry"], None).await?)
}

fn job(screen: &Screen, answer: &Answer) -> Result<Outcome, CliError> {
    if screen.json {
        screen.document(&answer.body)?;
    } else {
        screen.show(&render::brief(&answer.read()?, &screen.view()))?;
    }
    Ok(Outcome::Done)
}

/// Shows the counts.
pub(super) async fn overview(node: &Node, screen: &Screen, watching: Watching) -> Result<Outcome, CliError> {
    show::thing(node, screen, &Call::get(&["overview"]), watching, render::overview).await
}

/// Gets a ticket.
pub(super) async fn ticket(node: &Node, screen: &Screen) -> Result<Outcome, CliError> {
    let answer = node.post(&["tickets"], None).await?;
    if screen.json {
        screen.document(&answer.body)?;
    } else {
        let Ticket { ticket, expires_at } = answer.read()?;
        screen.show(&clean(&ticket))?;
        screen.note(&format!("good once, until {}", time::at(expires_at, screen.view().utc)));
    }
    Ok(Outcome::Done)
}
