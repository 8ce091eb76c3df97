//! A job followed: what it is, what it has said, and then what it says, without a gap or a repeat.
//!
//! ```text
//! follow ─▶ read the job  ─▶ read its lines behind the last one sent ─▶ live: heartbeats, progress, receipts, lines
//!           job.snapshot     job.log … until a page is not full         │  a line that is not the next one, or
//!              ▲                   ▲                                    │  anything missed: read again
//!              └── missed ─────────┴──────── a gap ◀────────────────────┘
//! ```
//! The subscription comes before the readings, and lines are told when they are committed: what a reading does not
//! bring is told live, and what both bring is recognised by its number.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    actors::console::{DetailEvent, DetailReader, HubHandle},
    domain::JobId,
    http::{
        extract::{Params, job_id},
        jobs::live,
        problem::ApiError,
        state::HttpState,
    },
    store::logs::LogFilter,
};

/// How many of a job's last lines a reader gets that does not say how many it has: an attempt's.
const TAIL: i64 = 1_000;
/// Lines read at once.
const PAGE: i64 = 200;
/// After a reading that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// The jobs that a reader's topics name.
#[derive(Debug)]
pub(super) struct Follow {
    state: HttpState,
    live: DetailReader,
    jobs: Vec<Followed>,
    pending: VecDeque<DetailEvent>,
    retry_at: Option<Instant>,
}

#[derive(Debug)]
struct Followed {
    job: JobId,
    stage: Stage,
    /// The `seq` of the last line sent; `None` before it is known where to begin.
    sent: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Snapshot,
    Lines,
    Live,
}

impl Follow {
    /// Follows the jobs named in `topics` from now on; lines behind `logsAfter`, or the last ones.
    pub(super) fn open(state: &HttpState, hub: &HubHandle, params: &Params) -> Result<Self, ApiError> {
        let mut jobs: Vec<JobId> = Vec::new();
        for topic in params.one("topics")?.unwrap_or_default().split(',') {
            let job =
                topic.trim().strip_prefix("job:").and_then(|id| job_id::parse(&id.to_ascii_lowercase()));
            if let Some(job) = job.filter(|job| !jobs.contains(job)) {
                jobs.push(job);
            }
        }
        let sent = match params.one("logsAfter")? {
            Some(_) => Some(params.number("logsAfter", 0..=i64::MAX, 0)?),
            None => None,
        };
        let live = hub.follow(&jobs);
        let jobs = jobs.into_iter().map(|job| Followed { job, stage: Stage::Snapshot, sent }).collect();
        Ok(Self { state: state.clone(), live, jobs, pending: VecDeque::new(), retry_at: None })
    }

    /// Whether something is to be sent before what happens next.
    pub(super) fn is_joining(&self) -> bool {
        self.retry_at.is_none()
            && (!self.pending.is_empty() || self.jobs.iter().any(|followed| followed.stage != Stage::Live))
    }

    /// The next message; waits for ever when no job is followed. Cancel safe: a reading that is dropped is done again.
    pub(super) async fn next(&mut self) -> DetailEvent {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return event;
            }
            if self.live.take_missed() {
                self.jobs.iter_mut().for_each(|followed| followed.stage = Stage::Snapshot);
            }
            if let Some(index) = self.jobs.iter().position(|followed| followed.stage != Stage::Live) {
                if let Some(at) = self.retry_at {
                    tokio::time::sleep_until(at).await;
                }
                self.retry_at = match self.read(index).await {
                    Ok(()) => None,
                    Err(_) => Some(Instant::now() + AGAIN),
                };
                continue;
            }
            let event = self.live.next().await;
            self.heard(event);
        }
    }

    async fn read(&mut self, index: usize) -> Result<(), ApiError> {
        let Some(Followed { job, stage, sent }) = self.jobs.get(index) else { return Ok(()) };
        let (job, store) = (*job, self.state.platform.store());
        match (stage, sent) {
            (Stage::Snapshot, _) => {
                let read = self.state.read(store.job(job)).await?;
                let event = match read {
                    Some(read) => {
                        let mut read = live::whole(&self.state, read).await?;
                        // The proof of a lease is nothing for streams.
                        read.lease_token = None;
                        let now = self.state.platform.clock().now();
                        let mut event = DetailEvent::new("job.snapshot", job, now);
                        event.job = Some(Box::new(read));
                        Some(event)
                    }
                    None => None,
                };
                // A job that is not there says nothing; if it is a job of another node, that one follows it.
                self.enter(index, if event.is_some() { Stage::Lines } else { Stage::Live });
                self.pending.extend(event);
            }
            (_, None) => {
                let newest = self.state.read(store.newest_log(job)).await?;
                if let Some(followed) = self.jobs.get_mut(index) {
                    followed.sent = Some((newest - TAIL).max(0));
                }
            }
            (_, Some(sent)) => {
                let read = self.state.read(store.logs(job, LogFilter::default(), *sent, PAGE)).await?;
                let rows = read.unwrap_or_default();
                let is_last = rows.len() < usize::try_from(PAGE).unwrap_or(0);
                if let (Some(followed), Some(last)) = (self.jobs.get_mut(index), rows.last()) {
                    followed.sent = Some(last.seq);
                }
                self.pending.extend(rows.into_iter().map(|row| {
                    let mut event = DetailEvent::new("job.log", job, row.at);
                    event.log = Some(Box::new(row));
                    event
                }));
                if is_last {
                    self.enter(index, Stage::Live);
                }
            }
        }
        Ok(())
    }

    fn enter(&mut self, index: usize, stage: Stage) {
        if let Some(followed) = self.jobs.get_mut(index) {
            followed.stage = stage;
        }
    }

    /// Sends what was told, unless a reading has brought it, or must bring what is before it.
    fn heard(&mut self, event: Arc<DetailEvent>) {
        let followed = self.jobs.iter_mut().find(|followed| followed.job == event.job_id);
        if let (Some(followed), Some(line)) = (followed, &event.log) {
            let sent = followed.sent.unwrap_or(0);
            if line.seq <= sent {
                return;
            }
            if line.seq > sent + 1 {
                followed.stage = Stage::Lines;
                return;
            }
            followed.sent = Some(line.seq);
        }
        self.pending.push_back(Arc::unwrap_or_clone(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Fence, JobState, Timestamp},
        http::testing::{Stage as Node, job},
        store::{logs::LogRow, ops::LogLevel},
    };

    fn line(job: JobId, seq: i64) -> LogRow {
        let (at, fence, message) = (Timestamp(seq), Fence(1), format!("line {seq}"));
        LogRow { job_id: job, seq, at, attempt: 1, fence, level: LogLevel::Info, message, fields: None }
    }

    fn tell(hub: &HubHandle, job: JobId, seqs: std::ops::RangeInclusive<i64>) {
        hub.tell_details(job, || {
            let told = seqs.map(|seq| {
                let mut event = DetailEvent::new("job.log", job, Timestamp(seq));
                event.log = Some(Box::new(line(job, seq)));
                event
            });
            told.collect()
        });
    }

    /// The numbers of the next `count` lines.
    async fn lines(follow: &mut Follow, count: usize) -> Vec<i64> {
        let mut seqs = Vec::new();
        while seqs.len() < count {
            seqs.extend(follow.next().await.log.map(|line| line.seq));
        }
        seqs
    }

    #[tokio::test]
    async fn a_line_that_is_read_and_told_is_sent_once_and_one_that_is_not_told_is_read() {
        let node = Node::new();
        let (stored, hub) = (job(JobState::Active, "null"), node.state.platform.hub().clone());
        let id = stored.id;
        node.store.put(stored);
        let params = Params::parse(&format!("topics=queue:q,job:{id}")).expect("valid");
        let mut follow = Follow::open(&node.state, &hub, &params).expect("opens");
        assert!(follow.is_joining());
        // Kept and told between the subscription and the reading.
        (1..=3).for_each(|seq| node.store.say(line(id, seq)));
        tell(&hub, id, 1..=3);
        let snapshot = follow.next().await;
        assert_eq!((snapshot.kind, snapshot.job.and_then(|job| job.lease_token)), ("job.snapshot", None));
        assert_eq!(lines(&mut follow, 3).await, [1, 2, 3]);
        // What was told of them is passed over; then a line comes whose telling was lost.
        (4..=6).for_each(|seq| node.store.say(line(id, seq)));
        tell(&hub, id, 4..=4);
        tell(&hub, id, 6..=6);
        assert_eq!(lines(&mut follow, 3).await, [4, 5, 6]);
        // More than waits for a follower: it reads what it missed, after a new snapshot.
        (7..=600).for_each(|seq| node.store.say(line(id, seq)));
        tell(&hub, id, 7..=600);
        assert_eq!(lines(&mut follow, 594).await, (7..=600).collect::<Vec<i64>>());
        tell(&hub, id, 600..=600);
        node.store.say(line(id, 601));
        tell(&hub, id, 601..=601);
        assert_eq!(lines(&mut follow, 1).await, [601]);
    }

    #[tokio::test]
    async fn a_reader_says_which_lines_it_has_and_an_unknown_job_says_nothing() {
        let node = Node::new();
        let (stored, hub) = (job(JobState::Completed, "null"), node.state.platform.hub().clone());
        let id = stored.id;
        node.store.put(stored);
        (1..=1_500).for_each(|seq| node.store.say(line(id, seq)));
        for (query, first) in [("", 501), ("&logsAfter=0", 1), ("&logsAfter=1498", 1_499)] {
            let params = Params::parse(&format!("topics=job:{id}{query}")).expect("valid");
            let mut follow = Follow::open(&node.state, &hub, &params).expect("opens");
            let count = usize::try_from(1_501 - first).expect("small");
            assert_eq!(lines(&mut follow, count).await, (first..=1_500).collect::<Vec<i64>>());
            assert!(!follow.is_joining() || follow.pending.is_empty());
        }
        let unknown = Params::parse(&format!("topics=job:{}", JobId::new())).expect("valid");
        let mut follow = Follow::open(&node.state, &hub, &unknown).expect("opens");
        let heard = tokio::time::timeout(Duration::from_millis(20), follow.next()).await;
        assert!(heard.is_err() && !follow.is_joining());
        for bad in ["logsAfter=-1", "logsAfter=x"] {
            assert!(Follow::open(&node.state, &hub, &Params::parse(bad).expect("valid")).is_err(), "{bad}");
        }
    }
}
