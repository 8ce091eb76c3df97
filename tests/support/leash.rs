//! Ties a child process to this one: when the test process ends in any way, `kill -9` included, the child is killed.
//!
//! A parent-death signal would do it per *thread*, and test threads end long before a shared server should. So a
//! small shell waits on a pipe that only this process holds open; its end of file is our death.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Waits for the pipe to close, signals the child (which may be paused), waits at most 10 s for it to go, then removes its folder.
const SCRIPT: &str = r#"
read -r _
kill -s "$1" "$2" 2>/dev/null
kill -s CONT "$2" 2>/dev/null
tries=0
while kill -0 "$2" 2>/dev/null && [ $tries -lt 200 ]; do sleep 0.05; tries=$((tries + 1)); done
if [ -n "$3" ]; then rm -rf -- "$3"; fi
"#;

/// The shell that watches; dropping it lets the child go, so its owner kills the child first.
#[derive(Debug)]
pub struct Leash(Child);

impl Leash {
    /// Will send `signal` to `pid`, then remove `folder`, should this process die.
    pub fn tie(pid: u32, signal: &str, folder: Option<&Path>) -> Self {
        let watcher = Command::new("sh")
            .args(["-c", SCRIPT, "leash", signal, &pid.to_string()])
            .arg(folder.unwrap_or(Path::new("")))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Its own group: a Ctrl-C at the terminal must reach the test, not its cleaner.
            .process_group(0)
            .spawn()
            .expect("start the watching shell");
        Self(watcher)
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        // Killed before its pipe closes, so it never signals a pid that is no longer ours.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Sends a signal by name to one process that we started. `false`: it is gone.
pub fn signal(pid: u32, name: &str) -> bool {
    Command::new("sh")
        .args(["-c", r#"kill -s "$1" "$2" 2>/dev/null"#, "signal", name, &pid.to_string()])
        .status()
        .expect("run the shell's kill")
        .success()
}
