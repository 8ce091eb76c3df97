//! The commands: what each asks of the node, and what it makes of the answers.

mod control;
mod demo;
mod get;
mod list;
mod submit;
mod supervise;
mod wait;
mod watch;

use super::{
    CliError, Outcome,
    args::{Args, Command},
    node::Node,
    screen::Screen,
};

/// Carries out one command.
pub(super) async fn run(args: Args, screen: &Screen) -> Result<Outcome, CliError> {
    let Args { global, command } = args;
    let node = Node::new(&global)?;
    match command {
        Command::Submit(submit) => submit::run(&node, screen, *submit).await,
        Command::Get(get) => get::run(&node, screen, &get).await,
        Command::List(list) => list::run(&node, screen, &list).await,
        Command::Watch(watch) => watch::run(&node, screen, &watch).await,
        Command::Supervise(supervise) => supervise::run(&node, screen, supervise).await,
        Command::Cancel(cancel) => control::cancel(&node, screen, &cancel).await,
        Command::Retry { id } => control::retry(&node, screen, id).await,
        Command::Overview => control::overview(&node, screen).await,
        Command::Demo(demo) => demo::run(&node, screen, demo).await,
        Command::Ticket => control::ticket(&node, screen).await,
    }
}
