//! `ganger jobs batch`.
//!
//! JSON is read whole: it is one transaction. A stream of lines is passed on as it comes, of any length, and each
//! line of the answer is shown as it comes: memory stays small on both sides.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures_util::{StreamExt, stream::BoxStream};
use reqwest::Body;
use serde_json::{Value, value::RawValue};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::io::ReaderStream;

use crate::cli::{
    CliError, Outcome,
    args::Batch,
    node::{Call, Node},
    render,
    screen::Screen,
    text::{clean, count},
};

/// No node takes a larger batch in one transaction.
const JSON_BYTES_MAX: u64 = 32 << 20;
/// No line of an answer is nearly as long: a job's payload has 1 MiB.
const LINE_BYTES_MAX: usize = 8 << 20;
/// How much of a line that cannot be read is shown.
const NOISE_CHARS_MAX: usize = 200;

/// Submits what the file holds.
pub(super) async fn run(node: &Node, screen: &Screen, args: &Batch) -> Result<Outcome, CliError> {
    let ending = args.file.extension().and_then(|ending| ending.to_str());
    let is_lines = args.ndjson || matches!(ending, Some("ndjson" | "jsonl"));
    let file: Box<dyn AsyncRead + Send + Unpin> = if args.file == Path::new("-") {
        Box::new(tokio::io::stdin())
    } else {
        let opened = tokio::fs::File::open(&args.file).await;
        let shown = args.file.display();
        Box::new(opened.map_err(|error| CliError::Usage(format!("cannot open {shown}: {error}")))?)
    };
    if is_lines { lines(node, screen, file).await } else { document(node, screen, file).await }
}

async fn document(node: &Node, screen: &Screen, file: impl AsyncRead + Unpin) -> Result<Outcome, CliError> {
    let mut text = String::new();
    let read = file.take(JSON_BYTES_MAX + 1).read_to_string(&mut text).await;
    read.map_err(|error| CliError::Usage(format!("cannot read the batch: {error}")))?;
    if text.len() as u64 > JSON_BYTES_MAX {
        let hint = "send it as ndjson, one submission a line, which may be of any length";
        return Err(CliError::Usage(format!("the batch is over 32 MiB: {hint}")));
    }
    let answer = node.call(&Call::post(&["jobs", "batch"]).body(batch(&text)?)).await?;
    if screen.json {
        screen.document(&answer.body)?;
        return Ok(Outcome::Done);
    }
    let mut tally = Tally::default();
    for line in answer.read::<Vec<Box<RawValue>>>()? {
        tally.show(line.get(), screen)?;
    }
    Ok(tally.tell(screen))
}

/// `{"jobs": […]}`: an array is put into one, byte for byte.
fn batch(text: &str) -> Result<String, CliError> {
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text);
    is_json.map_err(|error| {
        CliError::Usage(format!("the batch is not JSON: {error} (one submission a line? say --ndjson)"))
    })?;
    let text = text.trim();
    Ok(if text.starts_with('[') { format!(r#"{{"jobs":{text}}}"#) } else { text.to_owned() })
}

/// How an upload goes.
#[derive(Debug, Default)]
struct Progress {
    sent: AtomicU64,
    /// It is the input that is waited for, not the node.
    starved: AtomicBool,
}

async fn lines(
    node: &Node,
    screen: &Screen,
    file: Box<dyn AsyncRead + Send + Unpin>,
) -> Result<Outcome, CliError> {
    let progress = Arc::new(Progress::default());
    let body = Body::wrap_stream(watched(ReaderStream::new(file), Arc::clone(&progress)));
    let mut upload = Box::pin(node.upload(&["jobs", "batch"], "application/x-ndjson", body));
    let response = moving(node, &progress, &mut upload).await??;
    let mut answer: BoxStream<'_, _> = response.bytes_stream().boxed();
    let (mut buffer, mut tally) = (Vec::new(), Tally::default());
    while let Some(chunk) = moving(node, &progress, &mut answer.next()).await? {
        buffer.extend_from_slice(&chunk.map_err(|error| node.unreachable(&error))?);
        while let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            tally.show(&String::from_utf8_lossy(&line), screen)?;
        }
        if buffer.len() > LINE_BYTES_MAX {
            return Err(node.unreadable("its lines do not end"));
        }
    }
    tally.show(&String::from_utf8_lossy(&buffer), screen)?;
    Ok(tally.tell(screen))
}

fn watched<R: AsyncRead + Send + Unpin + 'static>(
    input: ReaderStream<R>,
    progress: Arc<Progress>,
) -> impl futures_util::Stream<Item = std::io::Result<Vec<u8>>> + Send + 'static {
    futures_util::stream::unfold((input, progress), |(mut input, progress)| async move {
        progress.starved.store(true, Ordering::Relaxed);
        let chunk = input.next().await;
        progress.starved.store(false, Ordering::Relaxed);
        progress.sent.fetch_add(1, Ordering::Relaxed);
        chunk.map(|chunk| (chunk.map(|bytes| bytes.to_vec()), (input, progress)))
    })
}

/// Waits as long as the upload goes on or its input is slow; else at most the time of one request.
async fn moving<F: Future + Unpin>(
    node: &Node,
    progress: &Progress,
    what: &mut F,
) -> Result<F::Output, CliError> {
    loop {
        let before = progress.sent.load(Ordering::Relaxed);
        if let Ok(done) = tokio::time::timeout(node.timeout, &mut *what).await {
            return Ok(done);
        }
        let has_moved = progress.sent.load(Ordering::Relaxed) != before;
        if !has_moved && !progress.starved.load(Ordering::Relaxed) {
            return Err(node.silent());
        }
    }
}

/// What was made.
#[derive(Debug, Default)]
struct Tally {
    made: u64,
    repeats: u64,
    refused: u64,
}

impl Tally {
    /// Shows a line of the answer.
    fn show(&mut self, line: &str, screen: &Screen) -> Result<(), CliError> {
        let line = line.trim();
        if line.is_empty() {
            return Ok(());
        }
        let said: Value = serde_json::from_str(line).unwrap_or_default();
        let job = said.get("job").filter(|job| job.is_object());
        match job {
            Some(_) if said["duplicateSuppressed"] == true => self.repeats += 1,
            Some(_) => self.made += 1,
            None => self.refused += 1,
        }
        match job {
            _ if screen.json => screen.document_line(line),
            Some(job) => screen.show(&render::job_line(job, &screen.view())),
            None => {
                screen.note(&refusal(&said, line));
                Ok(())
            }
        }
    }

    fn tell(&self, screen: &Screen) -> Outcome {
        let mut told = format!("{} {} made", count(self.made), if self.made == 1 { "job" } else { "jobs" });
        for (number, what) in [(self.repeats, "repeats of a key"), (self.refused, "refused")] {
            if number > 0 {
                told.push_str(&format!(", {} {what}", count(number)));
            }
        }
        screen.note(&told);
        if self.refused > 0 { Outcome::NotCompleted } else { Outcome::Done }
    }
}

/// A line that is no job: a problem in the place of one, or something unknown.
fn refusal(said: &Value, line: &str) -> String {
    let problem = said.get("error").unwrap_or(said);
    // As the node counts, from 0.
    let place = said["line"].as_u64().map_or_else(String::new, |line| format!("line {line}: "));
    let mut told = match problem["detail"].as_str() {
        Some(detail) => format!("{place}{}", clean(detail)),
        None => format!("not understood: {}", clean(&crate::cli::text::cut(line, NOISE_CHARS_MAX))),
    };
    for field in problem["errors"].as_array().into_iter().flatten() {
        let text = |name: &str| clean(field[name].as_str().unwrap_or_default()).into_owned();
        told.push_str(&format!("\n  {}: {}", text("pointer"), text("detail")));
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_becomes_a_batch_byte_for_byte() {
        let array = r#" [ {"type":"noop","payload":{ "n": 9007199254740993 }} ] "#;
        assert_eq!(batch(array).expect("JSON"), format!(r#"{{"jobs":{}}}"#, array.trim()));
        assert_eq!(batch(r#"{"jobs":[]}"#).expect("JSON"), r#"{"jobs":[]}"#);
        let lines = batch("{}\n{}").expect_err("no document").to_string();
        assert!(lines.contains("--ndjson"), "{lines}");
    }

    #[test]
    fn a_refused_line_is_told_by_its_problem() {
        let told = |line: &str| refusal(&serde_json::from_str(line).unwrap_or_default(), line);
        assert_eq!(told(r#"{"status":422,"detail":"a\u001bb"}"#), "a\\x1bb");
        let fields =
            r#"{"line":3,"error":{"detail":"no","errors":[{"pointer":"/priority","detail":"0 to 9"}]}}"#;
        assert_eq!(told(fields), "line 3: no\n  /priority: 0 to 9");
        assert!(told("<h1>").starts_with("not understood"));
    }
}
