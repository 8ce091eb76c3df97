//! One postmaster process on its own folder: launched, halted by a chosen signal, launched again.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use super::super::block_until;
use super::super::leash::{Leash, signal};
use super::template::{as_postgres, bin_dir, make_folder};

/// Recovery after a crash under load is the longest wait.
const DEADLINE: Duration = Duration::from_secs(30);

/// What a node asks of a production server, and room for many pools.
const SETTINGS: [&str; 6] = [
    "listen_addresses=127.0.0.1",
    "max_connections=200",
    "fsync=on",
    "full_page_writes=on",
    "synchronous_commit=on",
    "shared_buffers=64MB",
];

/// Killed, and its folder removed, on drop.
#[derive(Debug)]
pub(super) struct Postmaster {
    folder: PathBuf,
    port: u16,
    /// Settings besides `SETTINGS`.
    settings: &'static [&'static str],
    running: Mutex<Option<(Child, Leash)>>,
}

impl Postmaster {
    /// A fresh cluster in a new folder under `base`, accepting connections on `port`; the error holds the server's log.
    pub(super) fn start(port: u16, base: &Path, settings: &'static [&'static str]) -> Result<Self, String> {
        let this = Self { folder: make_folder(base), port, settings, running: Mutex::new(None) };
        this.launch().map(|()| this)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn launch(&self) -> Result<(), String> {
        let log =
            File::options().create(true).append(true).open(self.log_path()).map_err(|e| e.to_string())?;
        let mut command = as_postgres(&bin_dir().join("postgres"));
        command.arg("-D").arg(self.folder.join("data")).arg("-p").arg(self.port.to_string());
        for setting in SETTINGS.iter().chain(self.settings) {
            command.args(["-c", setting]);
        }
        command.arg("-c").arg(format!("unix_socket_directories={}", self.folder.display()));
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(|e| e.to_string())?).stderr(log);
        let mut postmaster = command.process_group(0).spawn().map_err(|e| e.to_string())?;
        let leash = Leash::tie(postmaster.id(), "QUIT", Some(&self.folder));
        let ready = block_until("PostgreSQL accepts connections", DEADLINE, || {
            match postmaster.try_wait() {
                // An error is not waited out: the outer result carries it.
                Ok(Some(status)) => Ok(Err(format!("it exited: {status}"))),
                _ => self.is_ready(postmaster.id()).then_some(Ok(())).ok_or("still starting"),
            }
        });
        match ready.and_then(|started| started) {
            Ok(()) => {
                *self.running.lock().expect("no holder panics") = Some((postmaster, leash));
                Ok(())
            }
            Err(reason) => {
                postmaster.kill().ok();
                postmaster.wait().ok();
                Err(format!("{reason}\n{}", fs::read_to_string(self.log_path()).unwrap_or_default()))
            }
        }
    }

    /// As `pg_ctl` asks: the lock file names our process and its last line says `ready`.
    fn is_ready(&self, pid: u32) -> bool {
        let lock = fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap_or_default();
        lock.lines().next() == Some(&pid.to_string())
            && lock.lines().last().is_some_and(|l| l.trim() == "ready")
    }

    pub(super) fn halt(&self, how: &str) {
        let Some((mut postmaster, leash)) = self.running.lock().expect("no holder panics").take() else {
            return;
        };
        // One that ended by itself is reaped, and its number may be another's.
        if matches!(postmaster.try_wait(), Ok(None)) {
            signal_all(&postmaster, "CONT");
            signal(postmaster.id(), how);
        }
        let stopped = block_until("PostgreSQL stops", DEADLINE, || {
            postmaster.try_wait().ok().flatten().ok_or("still running")
        });
        drop(leash);
        stopped.expect("stop PostgreSQL");
    }

    /// Sends a signal to the postmaster and to all its children, such as `STOP` and `CONT`.
    pub(super) fn signal_all(&self, name: &str) {
        let running = self.running.lock().expect("no holder panics");
        let (postmaster, _) = running.as_ref().expect("the server runs");
        signal_all(postmaster, name);
    }

    /// Whether the postmaster lives: a server that cannot write its log ends by itself.
    pub(super) fn is_running(&self) -> bool {
        let mut running = self.running.lock().expect("no holder panics");
        running.as_mut().is_some_and(|(postmaster, _)| matches!(postmaster.try_wait(), Ok(None)))
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        if let Ok(Some((mut postmaster, leash))) = self.running.get_mut().map(Option::take) {
            if matches!(postmaster.try_wait(), Ok(None)) {
                // A paused one would not hear of its end.
                signal_all(&postmaster, "CONT");
                signal(postmaster.id(), "QUIT");
            }
            postmaster.wait().ok();
            drop(leash);
        }
        fs::remove_dir_all(&self.folder).ok();
    }
}

/// The postmaster first, so that it makes no child meanwhile.
fn signal_all(postmaster: &Child, name: &str) {
    signal(postmaster.id(), name);
    for child in children(postmaster.id()) {
        signal(child, name);
    }
}

/// The processes whose parent is `parent`, of which we know that it lives: it is ours, and not reaped.
fn children(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // `pid (name) state parent …`; a name may hold blanks.
        let behind_name = stat.rsplit_once(')').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        behind_name.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    names.filter_map(|name| name.file_name().to_str()?.parse().ok()).filter(is_child).collect()
}
