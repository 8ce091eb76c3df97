//! The real `ganger-node` as a process: started with chosen settings, killed at will, started again on what it left.

mod builder;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use tempfile::TempDir;

use super::http::{Api, DEV_TOKEN};
use super::leash::signal;
use super::wait_for;
use builder::{Running, launch};

pub use builder::NodeBuilder;

/// The first start migrates the store, on a machine shared with others.
const LISTEN_DEADLINE: Duration = Duration::from_secs(30);
/// What a node prints once it accepts connections.
const LISTENING: &str = "ganger-node listening on ";
/// Enough of the log to see why; all of it can be megabytes.
const LOG_LINES_SHOWN: usize = 200;

/// A running node; killed on drop, its log printed if the test is failing.
#[derive(Debug)]
pub struct NodeProcess {
    env: BTreeMap<String, String>,
    folder: TempDir,
    running: Running,
    base: String,
}

impl NodeProcess {
    /// A node on the embedded store, on a free loopback port, with two local workers and the development key.
    pub fn builder() -> NodeBuilder {
        let settings = [("HTTP_ADDR", "127.0.0.1:0"), ("WORKER_CONCURRENCY", "2"), ("RUST_BACKTRACE", "1")];
        let env = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        NodeBuilder { env: env.into(), data_dir: None }
    }

    /// `http://127.0.0.1:PORT`; another port after each `restart`, unless `HTTP_ADDR` was set.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A client with the node's admin key.
    pub fn api(&self) -> Api {
        Api::new(&self.base, self.env.get("ADMIN_TOKEN").map_or(DEV_TOKEN, String::as_str))
    }

    pub fn pid(&self) -> u32 {
        self.running.child.id()
    }

    pub fn data_dir(&self) -> &Path {
        Path::new(&self.env["DATA_DIR"])
    }

    /// All that it printed so far, over all its restarts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Waits until `GET /readyz` answers 200.
    pub async fn wait_ready(&self, deadline: Duration) {
        let api = self.api();
        wait_for("the node is ready", deadline, || async {
            match api.send(reqwest::Method::GET, "/readyz", None).await {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(format!("{} {}", answer.status, answer.body)),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
    }

    /// Ends it with no chance to tidy up, and reaps it.
    pub fn kill9(&mut self) {
        self.running.child.kill().ok();
        self.running.child.wait().ok();
        self.running.leash = None;
    }

    /// Asks it to leave cleanly.
    pub fn sigterm(&self) {
        self.signal("TERM");
    }

    /// Sends any signal, such as `STOP` and `CONT`.
    pub fn signal(&self, name: &str) {
        // A reaped process's number may already be another's.
        assert!(self.running.leash.is_some(), "the node has ended: no signal {name} for it");
        signal(self.running.child.id(), name);
    }

    /// Whether the process lives.
    pub fn is_running(&mut self) -> bool {
        matches!(self.running.child.try_wait(), Ok(None))
    }

    /// Waits until it ends by itself.
    pub async fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        let process = std::sync::Mutex::new(&mut self.running.child);
        let status = wait_for("the node exits", deadline, || async {
            let mut process = process.lock().expect("no holder panics");
            process.try_wait().expect("ask for the node's status").ok_or("still running")
        })
        .await;
        self.running.leash = None;
        status
    }

    /// Kills it if it runs, and starts it again with the same settings and data.
    pub async fn restart(&mut self) {
        self.kill9();
        self.running = launch(&self.env, &self.log_path());
        self.wait_listening().await;
    }

    /// Starts it again with the same settings and data, after it ended; see `listens_or_ends`.
    pub fn relaunch(&mut self) {
        self.running = launch(&self.env, &self.log_path());
    }

    /// Whether the process has ended, by itself or by a signal.
    pub fn has_ended(&mut self) -> bool {
        self.running.child.try_wait().expect("ask for the node's status").is_some()
    }

    /// Sets one setting for the next `restart`.
    pub fn set_env(&mut self, name: &str, value: impl ToString) {
        self.env.insert(name.to_owned(), value.to_string());
    }

    /// Waits for the line that names its address, after `spawn`.
    pub async fn wait_listening(&mut self) {
        if let Err(log) = self.listens_or_ends().await {
            panic!("the node ended before it listened\n{log}");
        }
    }

    /// Waits for the line that names its address; when the process ends before it, what it printed.
    pub async fn listens_or_ends(&mut self) -> Result<(), String> {
        let start = usize::try_from(self.running.log_start).expect("a log fits in memory");
        let (path, process) = (self.log_path(), std::sync::Mutex::new(&mut self.running.child));
        let listening = wait_for("the node listens", LISTEN_DEADLINE, || async {
            let log = fs::read(&path).unwrap_or_default();
            let log = String::from_utf8_lossy(log.get(start..).unwrap_or_default());
            // Only a whole line: the port may still be in the making.
            let line = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            if let Some(base) =
                line.filter_map(|line| line.split_once(LISTENING)).map(|(_, base)| base).next()
            {
                return Ok(Ok(base.trim().to_owned()));
            }
            if process.lock().expect("no holder panics").try_wait().expect("ask for its status").is_some() {
                return Ok(Err(log.into_owned()));
            }
            Err(log.lines().last().unwrap_or_default().to_owned())
        })
        .await;
        self.base = listening?;
        Ok(())
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            eprintln!("--- the node's log, its last {} lines\n{}\n---", shown.len(), shown.join("\n"));
        }
    }
}
