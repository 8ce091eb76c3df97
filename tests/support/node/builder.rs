//! The settings of a node, and its launch.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::super::leash::Leash;
use super::NodeProcess;

/// Settings of a node to come. Nothing of the test's own environment reaches it but `PATH`, `HOME` and `TMPDIR`.
#[derive(Debug, Clone)]
pub struct NodeBuilder {
    pub(super) env: BTreeMap<String, String>,
    pub(super) data_dir: Option<PathBuf>,
}

impl NodeBuilder {
    /// Sets an environment variable of the node.
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.insert(name.to_owned(), value.to_string());
        self
    }

    /// Runs on PostgreSQL instead of the embedded store.
    pub fn postgres(self, url: &str) -> Self {
        self.env("POSTGRES_URL", url)
    }

    /// Keeps its data here instead of in a folder of its own.
    pub fn data_dir(mut self, path: &Path) -> Self {
        self.data_dir = Some(path.to_owned());
        self
    }

    /// Starts it and waits until it listens; `wait_ready` waits for the rest.
    pub async fn start(self) -> NodeProcess {
        let mut node = self.spawn();
        node.wait_listening().await;
        node
    }

    /// Starts it and waits for nothing, for starts that are meant to be refused: see `wait_exit` and `log`.
    pub fn spawn(mut self) -> NodeProcess {
        let folder =
            tempfile::Builder::new().prefix("ganger-node-").tempdir().expect("make the node's folder");
        let data = self.data_dir.take().unwrap_or_else(|| folder.path().join("data"));
        self.env.insert("DATA_DIR".to_owned(), data.display().to_string());
        let running = launch(&self.env, &folder.path().join("log"));
        NodeProcess { env: self.env, folder, running, base: String::new() }
    }
}

/// One run of the process.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) child: Child,
    /// Present until the process is reaped.
    pub(super) leash: Option<Leash>,
    /// Where this run's lines begin in the log.
    pub(super) log_start: u64,
}

/// Starts the binary with these settings, its output appended to `log`.
pub(super) fn launch(env: &BTreeMap<String, String>, log: &Path) -> Running {
    let log = File::options().create(true).append(true).open(log).expect("open the node's log");
    let log_start = log.metadata().expect("measure the log").len();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ganger-node"));
    command.env_clear();
    command.envs(["PATH", "HOME", "TMPDIR"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.envs(env).stdin(Stdio::null()).process_group(0);
    command.stdout(log.try_clone().expect("share the log")).stderr(log);
    let child = command.spawn().expect("start the node");
    let leash = Leash::tie(child.id(), "KILL", None);
    Running { child, leash: Some(leash), log_start }
}
