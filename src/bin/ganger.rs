//! `ganger`, the command line.

use std::process::ExitCode;

use clap::Parser;
use ganger::cli::{Args, run};

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    // One thread is enough for one command.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(ExitCode::from(runtime.block_on(run(args))))
}
