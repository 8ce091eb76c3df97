//! The command line: asks a node over HTTP and shows its answers to people, or hands them on to programs.
//!
//! ```text
//! args ──▶ command/*, top ──▶ node (HTTP), stream (WebSocket)
//!              │
//!              ▼
//!          render/* (pure: answer in, text out) ──▶ screen ──▶ stdout
//! ```
//! Knows the domain's types and the wire contract, nothing of a node's inside. Standard output carries answers
//! only: notes and faults go to standard error, so that `--json` can be piped. No text of a server reaches a
//! terminal before `text::clean` has been over it.

mod args;
mod command;
mod error;
mod link;
mod model;
mod node;
mod parse;
mod problem;
mod render;
mod screen;
mod settings;
mod stream;
mod text;
mod time;
mod top;

pub use args::Args;
pub use error::CliError;

use screen::Screen;

/// How a command ended that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// As asked.
    Done,
    /// The job that was waited for failed or was canceled.
    NotCompleted,
    /// The job that was waited for has not ended yet.
    StillRunning,
}

/// What the shell is told of a command that was refused, or whose job did not complete.
const EXIT_REFUSED: u8 = 1;
/// Wrong arguments; the same as clap's own.
const EXIT_USAGE: u8 = 2;
/// A wait ran out.
const EXIT_STILL_RUNNING: u8 = 3;
/// The node cannot be reached.
const EXIT_UNREACHABLE: u8 = 4;

impl Outcome {
    fn exit_status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::NotCompleted => EXIT_REFUSED,
            Self::StillRunning => EXIT_STILL_RUNNING,
        }
    }
}

/// Carries out one command. Tells what went wrong on standard error; the answer is the exit status.
pub async fn run(args: Args) -> u8 {
    let screen = Screen::of_this_process(&args.global);
    match Box::pin(command::run(args, &screen)).await {
        Ok(outcome) => outcome.exit_status(),
        Err(error) => {
            if let Some(report) = error.report() {
                screen.note(&report);
            }
            error.exit_status()
        }
    }
}
