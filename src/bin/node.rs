//! `ganger-node`: a node of Ganger.

use std::{io::Write, process::ExitCode};

use anyhow::{Context, Result};
use ganger::{
    config::{self, Config, DEVELOPMENT_KEY, Launch, LaunchError},
    system::{Node, NodeBuilder, follow_demo},
    telemetry,
};
use tokio::signal::unix::{SignalKind, signal};

/// Jobs are made of many small allocations on one thread that are freed on another, which glibc's
/// allocator does under a lock: a third of a drain's time (perf).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Told to the shell for wrong usage and bad settings; the same as clap's own.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let config = match Launch::of_this_process() {
        Ok(Launch::Serve(config)) => *config,
        Ok(Launch::Show { json, settings }) => {
            say(if json { config::json(&settings) } else { config::table(&settings) }.trim_end());
            return ExitCode::SUCCESS;
        }
        Err(LaunchError::Arguments(error)) => error.exit(),
        Err(LaunchError::Setting(error)) => {
            eprintln!("ganger-node: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ganger-node: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(config: Config) -> Result<()> {
    telemetry::start(&config.log_level, config.log_format)?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
    let (is_open, is_demo) = (config.admin_token.is_none(), config.demo);
    let node = NodeBuilder::new(config).start().await?;
    say(&format!("ganger-node listening on http://{}", node.address()));
    if is_open {
        say(&format!("no ADMIN_TOKEN is set: on this machine the key is {DEVELOPMENT_KEY}"));
    }
    let serve = async {
        if is_demo {
            demo(&node).await?;
        }
        Err::<(), _>(node.failed().await)
    };
    let failed: Option<anyhow::Error> = tokio::select! {
        ended = serve => ended.err(),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    let stopped = node.shutdown().await;
    match failed {
        Some(error) => Err(error),
        None => stopped,
    }
}

async fn demo(node: &Node) -> Result<()> {
    let made = follow_demo(node, say).await?;
    for path in made {
        say(&format!("made {}", path.display()));
    }
    say("the demo is done; the node goes on serving, Ctrl-C stops it");
    Ok(())
}

/// A line for whoever started the node. A closed standard output is no reason to stop.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}
