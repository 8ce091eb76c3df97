//! The commands: what each asks of the node, and what it makes of the answers.

mod batch;
mod bulk;
mod confirm;
mod control;
mod dead_letters;
mod demo;
mod get;
mod jobs;
mod list;
mod logs;
mod node;
mod queues;
mod show;
mod submit;
mod supervise;
mod wait;
mod watch;

use super::{
    CliError, Outcome,
    args::{Args, Command},
    node::Node,
    screen::Screen,
    top,
};

/// Carries out one command.
pub(super) async fn run(args: Args, screen: &Screen) -> Result<Outcome, CliError> {
    let Args { global, command } = args;
    let node = Node::new(&global)?;
    match command {
        Command::Submit(submit) => submit::run(&node, screen, *submit).await,
        Command::Get(get) => get::run(&node, screen, &get).await,
        Command::List(list) => jobs::list(&node, screen, &list).await,
        Command::Jobs(command) => Box::pin(jobs::run(&node, screen, command)).await,
        Command::Operations(command) => node::operations(&node, screen, command).await,
        Command::Queues(command) => queues::run(&node, screen, command).await,
        Command::Workers(command) => node::workers(&node, screen, command).await,
        Command::Dlq(command) => dead_letters::run(&node, screen, command).await,
        Command::Top(args) => top::run(&node, screen, &args).await,
        Command::Dashboard { bucket_seconds, watching } => {
            node::dashboard(&node, screen, bucket_seconds, watching).await
        }
        Command::Audit(args) => node::audit(&node, screen, &args).await,
        Command::Health(watching) => node::health(&node, screen, watching).await,
        Command::Openapi => node::openapi(&node, screen).await,
        Command::Watch(watch) => watch::run(&node, screen, &watch).await,
        Command::Supervise(supervise) => supervise::run(&node, screen, supervise).await,
        Command::Cancel(cancel) => control::cancel(&node, screen, &cancel).await,
        Command::Retry { id } => control::retry(&node, screen, id).await,
        Command::Overview(watching) => control::overview(&node, screen, watching).await,
        Command::Demo(demo) => demo::run(&node, screen, demo).await,
        Command::Ticket => control::ticket(&node, screen).await,
    }
}
