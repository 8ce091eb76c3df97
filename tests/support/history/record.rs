//! The recorder: one JSON line for each invocation and each end of an operation.
//!
//! ```text
//! {"proc":3,"type":"invoke","f":"submit","value":{"key":"k-17"},"mono_ns":120}
//! {"proc":3,"type":"ok","f":"submit","value":{"key":"k-17","jobId":"0192…"},"mono_ns":180}
//! ```
//! `ok` happened, `fail` certainly did not, `info` may have (a timeout, a reset, a 5xx whose effect is unknown).
//!
//! The checker reads these operations: `submit` (value `{"key", "jobId", "tenantId"?}` or `{"jobs": […of these]}`;
//! `key` is the idempotency key, one for each job meant; `dependsOn` and `dependencyPolicy` as submitted), `cancel`
//! (`{"jobId", "state"}` with the state that the acknowledgement showed), `delete` (`{"jobId"}`), and `schedule`,
//! `workflow` and `spawn`, which explain jobs that nobody submitted. Others may be recorded for the reader.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How an entry stands to its operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Invoke,
    Ok,
    Fail,
    Info,
}

/// One line of the history.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Operation {
    pub proc: u64,
    #[serde(rename = "type")]
    pub outcome: Outcome,
    pub f: String,
    pub value: Value,
    pub mono_ns: u64,
}

/// Writes the history of all of a test's clients to one file, in the order of their clocks.
#[derive(Debug)]
pub struct Recorder {
    began: Instant,
    file: Mutex<File>,
}

impl Recorder {
    /// A new, empty history.
    pub fn create(path: &Path) -> Self {
        let file = File::create_new(path).expect("create the history's file");
        Self { began: Instant::now(), file: Mutex::new(file) }
    }

    pub fn invoke(&self, proc: u64, f: &str, value: Value) {
        self.write(proc, Outcome::Invoke, f, value);
    }

    pub fn ok(&self, proc: u64, f: &str, value: Value) {
        self.write(proc, Outcome::Ok, f, value);
    }

    pub fn fail(&self, proc: u64, f: &str, value: Value) {
        self.write(proc, Outcome::Fail, f, value);
    }

    pub fn info(&self, proc: u64, f: &str, value: Value) {
        self.write(proc, Outcome::Info, f, value);
    }

    fn write(&self, proc: u64, outcome: Outcome, f: &str, value: Value) {
        let mut file = self.file.lock().expect("no holder panics");
        // Under the lock: the file's order is the clock's.
        let mono_ns = u64::try_from(self.began.elapsed().as_nanos()).expect("a test ends within 500 years");
        let operation = Operation { proc, outcome, f: f.to_owned(), value, mono_ns };
        let mut line = serde_json::to_vec(&operation).expect("an operation is JSON");
        line.push(b'\n');
        // One write, unbuffered: what is recorded survives this process's own death.
        file.write_all(&line).expect("write the history");
    }
}

/// Reads a history back.
pub fn load(path: &Path) -> Vec<Operation> {
    let file = BufReader::new(File::open(path).expect("open the history"));
    let parse = |line: std::io::Result<String>| serde_json::from_str(&line.expect("read the history"));
    file.lines().map(parse).collect::<Result<_, _>>().expect("a line of the history is an operation")
}
