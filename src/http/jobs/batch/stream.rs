//! A batch as lines: read and written as it comes, each line for itself.
//!
//! ```text
//! body → Lines → up to a thousand at once → one transaction → their answers → the response
//! ```
//! One step at a time, so a client that sends faster than the store writes waits, and so does one that does not read
//! its answers. The task is the node's: what was begun is written though the client is gone.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    time::Duration,
};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{
    checked,
    lines::{Lines, Next},
    refs, wants_array,
};
use crate::{
    actors::platform::{AskError, SubmitError},
    domain::{JobId, JobState, NewJob, SubmitRequest},
    http::{
        extract::parse,
        jobs::submit::refused,
        limits::{
            LINE_BYTES_MAX, LINE_DEADLINE, LINES_ANSWERS_MAX, LINES_AT_ONCE, LINES_BYTES_AT_ONCE,
            LINES_FLUSH_AFTER, LINES_PATIENCE, LINES_REACH,
        },
        problem::{ApiError, Problem, RETRY_SOON},
        state::HttpState,
    },
    store::ops::Submitted,
};

/// The answer to a line.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BatchLine {
    /// Which line, counted from 0 without the blank ones: what `"#0"` in `dependencies` means.
    pub line: u64,
    /// The job: the new one, or the first one of its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<BatchLineJob>,
    /// Whether the key named an earlier job, and none was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate_suppressed: Option<bool>,
    /// Why no job was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
}

/// The job of a line.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct BatchLineJob {
    /// Its id.
    pub id: JobId,
    /// Where it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Where it is in its life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
}

/// A line that was read.
struct Read {
    line: u64,
    job: Result<Ready, ApiError>,
}

/// A job that may be made.
struct Ready {
    job: NewJob,
    /// Its dependencies as they were named.
    named: Vec<String>,
    /// Whether it names a line that is written together with it.
    names_beside: bool,
}

/// Why no more lines are read.
enum End {
    Over,
    Fault(ApiError),
}

struct Batch {
    state: HttpState,
    headers: HeaderMap,
    lines: Lines,
    next: u64,
    /// The jobs of the newest lines, the oldest of them the line `made_from`; `None` where there is none.
    made: VecDeque<Option<JobId>>,
    made_from: u64,
}

pub(super) async fn submit(
    state: HttpState,
    request: Request,
    place: OwnedSemaphorePermit,
) -> Result<Response, ApiError> {
    let headers = request.headers().clone();
    let is_array = wants_array(&headers);
    let mut batch = Batch {
        state: state.clone(),
        headers,
        lines: Lines::of(request.into_body()),
        next: 0,
        made: VecDeque::new(),
        made_from: 0,
    };
    let (answers, receiver) = mpsc::channel(LINES_ANSWERS_MAX);
    // Read before the response begins: a client that asks whether to go on is told so by the first read alone.
    let (first, end) = batch.read(&answers).await;
    match end {
        Some(End::Fault(error)) if first.is_empty() => return Err(error),
        Some(End::Over) if first.is_empty() => {
            return Err(ApiError::malformed("empty_body", "the body has no lines"));
        }
        _ => {}
    }
    state.tasks().spawn(async move {
        batch.run(first, end, &answers, is_array).await;
        drop(place);
    });
    let body = stream::unfold(receiver, |mut receiver| async {
        let bytes: Vec<u8> = receiver.recv().await?;
        Some((Ok::<_, Infallible>(bytes), receiver))
    });
    let media = if is_array { "application/json" } else { "application/x-ndjson" };
    let unbuffered = (HeaderName::from_static("x-accel-buffering"), "no");
    let headers = [(header::CONTENT_TYPE, media), unbuffered];
    Ok((StatusCode::ACCEPTED, headers, Body::from_stream(body)).into_response())
}

impl Batch {
    /// Until the body is over, the client is gone, or the node stops.
    async fn run(
        mut self,
        mut read: Vec<Read>,
        mut end: Option<End>,
        answers: &mpsc::Sender<Vec<u8>>,
        is_array: bool,
    ) {
        let mut frame = Frame { is_array, has_begun: false };
        loop {
            let mut told = self.write(read).await;
            if let Some(End::Fault(error)) = end.take_if(|end| matches!(end, End::Fault(_))) {
                told.push(refusal(self.next, error));
                end = Some(End::Over);
            }
            if answers.send(frame.put(&told, end.is_some())).await.is_err() || end.is_some() {
                return;
            }
            (read, end) = self.read(answers).await;
        }
    }

    /// Reads what is written at once: until it is enough, or nothing more has come for a moment.
    async fn read(&mut self, answers: &mpsc::Sender<Vec<u8>>) -> (Vec<Read>, Option<End>) {
        let (mut read, mut bytes) = (Vec::new(), 0);
        let first_beside = self.next;
        let stopping = self.state.stopping().clone();
        while read.len() < LINES_AT_ONCE && bytes < LINES_BYTES_AT_ONCE {
            let wait = if read.is_empty() { LINE_DEADLINE } else { LINES_FLUSH_AFTER };
            let next = tokio::select! {
                biased;
                () = stopping.cancelled() => {
                    let error = ApiError::unavailable("not_ready", "the node is stopping", RETRY_SOON);
                    return (read, Some(End::Fault(error)));
                }
                () = answers.closed() => return (read, Some(End::Over)),
                next = tokio::time::timeout(wait, self.lines.next()) => next,
            };
            let line = match next {
                Ok(Next::Line(line)) => line,
                Ok(Next::TooLong) => {
                    let detail = format!("the line is larger than {LINE_BYTES_MAX} bytes");
                    let error = ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail);
                    read.push(self.note(Err(error)));
                    continue;
                }
                Ok(Next::End) => return (read, Some(End::Over)),
                Ok(Next::CutOff) => {
                    let error = ApiError::malformed("body_cut_off", "the body ended before its end");
                    return (read, Some(End::Fault(error)));
                }
                Err(_) if !read.is_empty() => return (read, None),
                Err(_) => {
                    let detail = format!("no line within {} seconds", LINE_DEADLINE.as_secs());
                    let error = ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail);
                    return (read, Some(End::Fault(error)));
                }
            };
            bytes += line.len();
            let ready = self.check(&line, first_beside);
            read.push(self.note(ready));
        }
        (read, None)
    }

    /// Numbers a line, and remembers its job.
    fn note(&mut self, job: Result<Ready, ApiError>) -> Read {
        let line = self.next;
        self.next += 1;
        self.made.push_back(job.as_ref().ok().map(|ready| ready.job.id));
        if self.made.len() > LINES_REACH {
            self.made.pop_front();
            self.made_from += 1;
        }
        Read { line, job }
    }

    fn check(&self, line: &[u8], first_beside: u64) -> Result<Ready, ApiError> {
        let mut request: SubmitRequest = parse(line)?;
        let named = request.dependencies.clone();
        let mut names_beside = false;
        for (at, dependency) in request.dependencies.iter_mut().enumerate() {
            let Some(place) = refs::place(dependency) else { continue };
            let found = place.and_then(|place| self.earlier(place as u64));
            let (id, line) =
                found.map_err(|fault| ApiError::invalid_field(format!("/dependencies/{at}"), fault))?;
            *dependency = id.to_string();
            names_beside |= line >= first_beside;
        }
        Ok(Ready { job: checked(&self.state, request, &self.headers)?, named, names_beside })
    }

    fn earlier(&self, line: u64) -> Result<(JobId, u64), &'static str> {
        if line >= self.next {
            return Err("not an earlier line");
        }
        let place = line.checked_sub(self.made_from).ok_or("too far back: at most 10,000 lines")?;
        let made = usize::try_from(place).ok().and_then(|place| self.made.get(place).copied().flatten());
        made.map(|id| (id, line)).ok_or("no job was made for that line")
    }

    /// Makes the jobs, in one transaction if none is refused, and answers every line.
    async fn write(&mut self, read: Vec<Read>) -> Vec<BatchLine> {
        let mut told = Vec::with_capacity(read.len());
        let mut ready = Vec::with_capacity(read.len());
        for read in read {
            match read.job {
                Ok(job) => ready.push((read.line, job)),
                Err(error) => told.push(refusal(read.line, error)),
            }
        }
        let jobs: Vec<NewJob> = ready.iter().map(|(_, ready)| ready.job.clone()).collect();
        let outcomes = match self.births(jobs).await {
            Ok(made) => made.into_iter().map(Ok).collect(),
            // One of them is at fault: each for itself.
            Err(SubmitError::Refused(_) | SubmitError::Ask(AskError::Refused(_))) => self.each(&ready).await,
            Err(error) => vec![Err(error); ready.len()],
        };
        let firsts = self.firsts(&outcomes).await;
        for ((line, ready), outcome) in ready.into_iter().zip(outcomes) {
            let made = match &outcome {
                Ok(Submitted::Made { .. }) => Some(ready.job.id),
                Ok(Submitted::Duplicate(first)) => Some(*first),
                Err(_) => None,
            };
            if let Some(place) = line.checked_sub(self.made_from)
                && let Some(slot) = usize::try_from(place).ok().and_then(|place| self.made.get_mut(place))
            {
                *slot = made;
            }
            told.push(answer(line, &ready, outcome, &firsts));
        }
        told.sort_unstable_by_key(|line| line.line);
        told
    }

    /// All or none; waits while the journal has no room.
    async fn births(&mut self, jobs: Vec<NewJob>) -> Result<Vec<Submitted>, SubmitError> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let mut pauses = LINES_PATIENCE.iter();
        loop {
            match self.state.platform.births(jobs.clone()).await {
                Err(SubmitError::Ask(AskError::Overloaded { retry_after })) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(Duration::from_millis(*pause)).await,
                    None => return Err(AskError::Overloaded { retry_after }.into()),
                },
                done => return done,
            }
        }
    }

    /// Each for itself. What names a line that is written beside it comes after that one.
    async fn each(&mut self, ready: &[(u64, Ready)]) -> Vec<Result<Submitted, SubmitError>> {
        let mut outcomes: Vec<Result<Submitted, SubmitError>> = Vec::with_capacity(ready.len());
        // Repeats stand for the first job of their key.
        let mut first: HashMap<JobId, JobId> = HashMap::new();
        while outcomes.len() < ready.len() {
            let rest = &ready[outcomes.len()..];
            let beside = rest[1..].iter().position(|(_, ready)| ready.names_beside);
            let group = &rest[..beside.map_or(rest.len(), |at| at + 1)];
            let jobs = group.iter().map(|(_, ready)| {
                let mut job = ready.job.clone();
                for dependency in &mut job.dependencies {
                    *dependency = first.get(dependency).copied().unwrap_or(*dependency);
                }
                job.dependencies.sort_unstable();
                job.dependencies.dedup();
                job
            });
            let done = self.state.platform.births_each(jobs.collect()).await;
            for ((_, ready), outcome) in group.iter().zip(&done) {
                if let Ok(Submitted::Duplicate(job)) = outcome {
                    first.insert(ready.job.id, *job);
                }
            }
            outcomes.extend(done);
        }
        outcomes
    }

    /// Where the jobs are that repeats are answered with; without, when that cannot be read: they are named all
    /// the same.
    async fn firsts(
        &mut self,
        outcomes: &[Result<Submitted, SubmitError>],
    ) -> HashMap<JobId, (String, JobState)> {
        let mut ids: Vec<JobId> = outcomes
            .iter()
            .filter_map(|outcome| match outcome {
                Ok(Submitted::Duplicate(first)) => Some(*first),
                Ok(Submitted::Made { .. }) | Err(_) => None,
            })
            .collect();
        if ids.is_empty() {
            return HashMap::new();
        }
        ids.sort_unstable();
        ids.dedup();
        let found = self.state.read(self.state.platform.store().submitted(&ids)).await;
        let found = found.unwrap_or_default().into_iter();
        found.map(|(job, _)| (job.id, (job.queue, job.state))).collect()
    }
}

fn refusal(line: u64, error: ApiError) -> BatchLine {
    BatchLine { line, job: None, duplicate_suppressed: None, error: Some(error.into_problem()) }
}

fn answer(
    line: u64,
    ready: &Ready,
    outcome: Result<Submitted, SubmitError>,
    firsts: &HashMap<JobId, (String, JobState)>,
) -> BatchLine {
    let (job, is_repeat) = match outcome {
        Ok(Submitted::Made { entry, .. }) => {
            (BatchLineJob { id: entry.job, queue: Some(entry.queue), state: Some(entry.state) }, false)
        }
        Ok(Submitted::Duplicate(first)) => {
            let (queue, state) = firsts.get(&first).cloned().unzip();
            (BatchLineJob { id: first, queue, state }, true)
        }
        Err(SubmitError::Refused(refusal_of)) => return refusal(line, refused(refusal_of, &ready.named)),
        Err(SubmitError::Ask(error)) => return refusal(line, error.into()),
    };
    BatchLine { line, job: Some(job), duplicate_suppressed: Some(is_repeat), error: None }
}

/// How answers are put: one a line, or as the elements of one array.
struct Frame {
    is_array: bool,
    has_begun: bool,
}

impl Frame {
    fn put(&mut self, told: &[BatchLine], is_last: bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128 * told.len() + 2);
        for line in told {
            if self.is_array {
                bytes.push(if self.has_begun { b',' } else { b'[' });
                self.has_begun = true;
            }
            // Numbers and texts: nothing in it can fail to be written.
            serde_json::to_writer(&mut bytes, line).unwrap_or_default();
            if !self.is_array {
                bytes.push(b'\n');
            }
        }
        if self.is_array && is_last {
            // There is a line at least, or the request was refused.
            bytes.push(b']');
        }
        bytes
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("next", &self.next).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_lines_or_one_array() {
        let line = |line| BatchLine { line, job: None, duplicate_suppressed: Some(false), error: None };
        let put = |is_array, parts: &[&[u64]]| {
            let mut frame = Frame { is_array, has_begun: false };
            let mut text = String::new();
            for (index, part) in parts.iter().enumerate() {
                let told: Vec<BatchLine> = part.iter().map(|n| line(*n)).collect();
                let bytes = frame.put(&told, index + 1 == parts.len());
                text.push_str(std::str::from_utf8(&bytes).expect("text"));
            }
            text
        };
        let cases: [&[&[u64]]; 3] = [&[&[0, 1], &[2]], &[&[0, 1, 2]], &[&[0], &[1, 2], &[]]];
        for parts in cases {
            let array: Vec<serde_json::Value> = serde_json::from_str(&put(true, parts)).expect("an array");
            assert_eq!(
                array.iter().map(|line| line["line"].as_u64()).collect::<Vec<_>>(),
                [Some(0), Some(1), Some(2)]
            );
            let lines = put(false, parts);
            assert_eq!(lines.lines().count(), 3, "{lines}");
            assert!(lines.ends_with('\n'));
        }
    }
}
