//! A platform in a temporary folder, and small servers on loopback that speak just enough HTTP and SMTP.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use ganger::worker::processors::builtin;
use ganger::worker::{
    Assignment, AttemptControl, AttemptOutcome, FileContent, FileOutbox, FinishedJob, History, HistoryError,
    HistoryFilter, HistoryPage, JobError, NullSink, Outbound, OutboundAllow, Platform, ProcessorSettings,
    Registry, RemovalScope, run_attempt, system_clock,
};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) fn assignment(job_type: &str, payload: &Value) -> Assignment {
    let payload = serde_json::value::to_raw_value(payload).unwrap();
    Assignment::new(Uuid::now_v7(), job_type, Arc::from(payload), system_clock())
}

pub(crate) fn control() -> AttemptControl {
    AttemptControl::new(CancellationToken::new(), Arc::new(NullSink))
}

/// The built-in processors, over a folder of their own.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) history: Arc<MemoryHistory>,
    pub(crate) registry: Registry,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(OutboundAllow::none(), |_| ()).await
    }

    pub(crate) async fn with(allow: OutboundAllow, set: impl FnOnce(&mut ProcessorSettings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let history = Arc::new(MemoryHistory::default());
        let mut settings =
            ProcessorSettings { ingest_root: dir.path().join("inbox"), ..ProcessorSettings::default() };
        std::fs::create_dir(&settings.ingest_root).unwrap();
        set(&mut settings);
        let platform = Platform::new(
            Arc::new(FileContent::open(dir.path()).await.unwrap()),
            history.clone(),
            Arc::new(FileOutbox::new(dir.path().join("outbox"))),
            Outbound::new(allow).unwrap(),
            settings,
        );
        Self { history, registry: builtin(platform), dir }
    }

    pub(crate) async fn outcome(&self, assignment: Assignment) -> AttemptOutcome {
        run_attempt(&self.registry, assignment, control()).await.outcome
    }

    pub(crate) async fn result(&self, job_type: &str, payload: Value) -> Value {
        self.result_of(assignment(job_type, &payload)).await
    }

    pub(crate) async fn result_of(&self, assignment: Assignment) -> Value {
        match self.outcome(assignment).await {
            AttemptOutcome::Completed { result } => serde_json::from_str(result.get()).unwrap(),
            other => panic!("not completed: {other:?}"),
        }
    }

    pub(crate) async fn error(&self, job_type: &str, payload: Value) -> JobError {
        match self.outcome(assignment(job_type, &payload)).await {
            AttemptOutcome::Failed { error } => error,
            other => panic!("not failed: {other:?}"),
        }
    }

    /// The bytes of a file below the data directory.
    pub(crate) fn file(&self, path: &Value) -> Vec<u8> {
        std::fs::read(self.dir.path().join(path.as_str().unwrap())).unwrap()
    }
}

/// `results` as the results of finished parents.
pub(crate) fn depends_on(mut assignment: Assignment, results: &[Value]) -> Assignment {
    let raw = |value: &Value| serde_json::value::to_raw_value(value).unwrap();
    let results = results.iter().map(|value| (Uuid::now_v7(), Some::<Box<RawValue>>(raw(value))));
    assignment.dependency_results = results.collect();
    assignment
}

/// Finished jobs in memory, in pages of what is asked for.
#[derive(Default)]
pub(crate) struct MemoryHistory {
    pub(crate) jobs: Mutex<Vec<FinishedJob>>,
}

pub(crate) fn finished(job_type: &str, state: &str, execution_ms: u64, at: DateTime<Utc>) -> FinishedJob {
    FinishedJob {
        id: Uuid::now_v7(),
        job_type: job_type.to_owned(),
        queue: "default".to_owned(),
        tenant: "default".to_owned(),
        state: state.to_owned(),
        attempts: 1,
        created_at: at,
        started_at: Some(at),
        finished_at: at,
        execution_ms: Some(execution_ms),
        last_error: None,
    }
}

#[async_trait]
impl History for MemoryHistory {
    async fn finished_jobs(
        &self,
        filter: &HistoryFilter,
        after: Option<String>,
        limit: u32,
    ) -> Result<HistoryPage, HistoryError> {
        let jobs = self.jobs.lock().unwrap();
        let matches = |job: &&FinishedJob| {
            filter.tenant.as_ref().is_none_or(|tenant| *tenant == job.tenant)
                && filter.state.as_ref().is_none_or(|state| *state == job.state)
        };
        let start: usize = after.map_or(0, |after| after.parse().unwrap());
        let end = start + limit as usize;
        let all: Vec<FinishedJob> = jobs.iter().filter(matches).cloned().collect();
        let rows = all.iter().skip(start).take(limit as usize).cloned().collect();
        Ok(HistoryPage { rows, next: (end < all.len()).then(|| end.to_string()) })
    }

    async fn remove_finished(&self, scope: &RemovalScope, limit: u32) -> Result<u64, HistoryError> {
        let mut removed = 0;
        self.jobs.lock().unwrap().retain(|job| {
            let goes = removed < u64::from(limit)
                && job.tenant == scope.tenant
                && job.finished_at < scope.older_than
                && scope.states.contains(&job.state);
            removed += u64::from(goes);
            !goes
        });
        Ok(removed)
    }
}

/// A request that a test server got.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// An HTTP server that answers every request with what it was given.
pub(crate) struct HttpServer {
    pub(crate) port: u16,
    pub(crate) requests: Arc<Mutex<Vec<Request>>>,
    _tasks: JoinSet<()>,
}

impl HttpServer {
    /// Answers with `answers` in turn, the last one for ever; each is a whole response but its length.
    pub(crate) async fn answering(address: &str, answers: Vec<(String, Vec<u8>)>) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let turn = seen.lock().unwrap().len().min(answers.len() - 1);
                let (head, body) = &answers[turn];
                let _ = answer(stream, head, body, &seen).await;
            }
        });
        Self { port, requests, _tasks: tasks }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn allowed(&self) -> OutboundAllow {
        format!("127.0.0.1:{}", self.port).parse().unwrap()
    }

    pub(crate) fn request(&self, index: usize) -> Request {
        self.requests.lock().unwrap()[index].clone()
    }
}

/// One answer: status and headers, then the body.
pub(crate) fn reply(head: &str, body: impl Into<Vec<u8>>) -> (String, Vec<u8>) {
    (head.to_owned(), body.into())
}

async fn answer(
    stream: TcpStream,
    head: &str,
    body: &[u8],
    seen: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await?;
        let Some((name, value)) = header.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut received = vec![0; length];
    stream.read_exact(&mut received).await?;
    seen.lock().unwrap().push(Request { line: line.trim().to_owned(), headers, body: received });
    let head = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.shutdown().await
}

/// A mail server that answers every recipient with `verdict`; its task ends with the mail it got.
pub(crate) async fn smtp_server(verdict: &'static str) -> (u16, JoinSet<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut mail = String::new();
        stream.write_all(b"220 test\r\n").await.unwrap();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap() == 0 {
                return mail;
            }
            let answer = match line.get(..4).unwrap_or_default().to_ascii_uppercase().as_str() {
                "RCPT" => verdict,
                "DATA" => {
                    stream.write_all(b"354 go\r\n").await.unwrap();
                    while !mail.ends_with("\r\n.\r\n") {
                        assert!(stream.read_line(&mut mail).await.unwrap() > 0);
                    }
                    "250 queued as 42"
                }
                "QUIT" => "221 bye",
                _ => "250 ok",
            };
            if stream.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() {
                return mail;
            }
        }
    });
    (port, tasks)
}

pub(crate) fn empty() -> Value {
    json!({})
}
