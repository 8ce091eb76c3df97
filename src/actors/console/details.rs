//! What only those who follow a job hear: its log lines, progress, heartbeats and the receipts of its controls.
//!
//! They have no place in the node's order of events: a job that says much pushes nobody's events out. Without a
//! follower nothing is kept or even built. A follower that does not keep up is told so, and reads the store.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use dashmap::{DashMap, mapref::entry::Entry};
use serde::Serialize;
use tokio::sync::mpsc;

use super::HubHandle;
use crate::{
    domain::{Control, JobId, JobView, RawJson, Timestamp},
    store::logs::LogRow,
};

/// The most that waits for one follower: a tick's lines of a talkative job.
const WAITING_MAX: usize = 256;

/// Something of one job.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DetailEvent {
    /// `job.snapshot`, `job.log`, `job.progress`, `job.heartbeat`, `job.cancel_delivered` or
    /// `job.cancel_acknowledged`.
    pub kind: &'static str,
    /// The reader's place among the node's events, which this is none of.
    pub seq: u64,
    /// When, on the store's clock.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    /// The job.
    pub job_id: JobId,
    /// A line of its log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<Box<LogRow>>,
    /// How far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<RawJson>,
    /// A control that came further.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
    /// The job as it is, of a snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<Box<JobView>>,
}

impl DetailEvent {
    /// An event of this kind; the reader's stream gives it its `seq`.
    #[must_use]
    pub fn new(kind: &'static str, job_id: JobId, timestamp: Timestamp) -> Self {
        Self { kind, seq: 0, timestamp, job_id, log: None, progress: None, control: None, job: None }
    }
}

#[derive(Debug)]
struct Follower {
    id: u64,
    door: mpsc::Sender<Arc<DetailEvent>>,
    missed: Arc<AtomicBool>,
}

/// Who follows which job.
#[derive(Debug, Default)]
pub(super) struct Details {
    jobs: DashMap<JobId, Vec<Follower>>,
    ids: AtomicU64,
}

impl HubHandle {
    /// Tells those who follow a job; builds nothing when nobody does. Never waits.
    pub fn tell_details(&self, job: JobId, build: impl FnOnce() -> Vec<DetailEvent>) {
        let Some(followers) = self.details().jobs.get(&job) else { return };
        for event in build() {
            let event = Arc::new(event);
            for follower in followers.iter() {
                if follower.door.try_send(event.clone()).is_err() {
                    follower.missed.store(true, Ordering::Release);
                }
            }
        }
    }

    /// Follows jobs from now on.
    #[must_use]
    pub fn follow(&self, jobs: &[JobId]) -> DetailReader {
        let (door, waiting) = mpsc::channel(WAITING_MAX);
        let (hub, missed) = (self.clone(), Arc::new(AtomicBool::new(false)));
        let id = self.details().ids.fetch_add(1, Ordering::Relaxed);
        for job in jobs {
            let follower = Follower { id, door: door.clone(), missed: missed.clone() };
            self.details().jobs.entry(*job).or_default().push(follower);
        }
        DetailReader { hub, id, jobs: jobs.to_vec(), waiting, missed }
    }
}

/// A follower's side.
#[derive(Debug)]
pub struct DetailReader {
    hub: HubHandle,
    id: u64,
    jobs: Vec<JobId>,
    waiting: mpsc::Receiver<Arc<DetailEvent>>,
    missed: Arc<AtomicBool>,
}

impl DetailReader {
    /// The next event; waits for ever when no job is followed. Cancel safe.
    pub async fn next(&mut self) -> Arc<DetailEvent> {
        match self.waiting.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    /// Whether something found no room since the last question.
    pub fn take_missed(&mut self) -> bool {
        self.missed.swap(false, Ordering::AcqRel)
    }
}

impl Drop for DetailReader {
    fn drop(&mut self) {
        for job in &self.jobs {
            if let Entry::Occupied(mut followers) = self.hub.details().jobs.entry(*job) {
                followers.get_mut().retain(|follower| follower.id != self.id);
                if followers.get().is_empty() {
                    followers.remove();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{actors::console::hub, domain::BootId};

    #[tokio::test]
    async fn a_follower_hears_of_its_jobs_alone_and_leaves_nothing_behind() {
        let (hub, _door) = hub(BootId::new());
        let (mine, other) = (JobId::new(), JobId::new());
        let event = |job| vec![DetailEvent::new("job.progress", job, Timestamp(1))];
        hub.tell_details(mine, || panic!("nobody listens"));
        let mut reader = hub.follow(&[mine]);
        hub.tell_details(other, || panic!("nobody listens"));
        hub.tell_details(mine, || event(mine));
        assert_eq!(reader.next().await.job_id, mine);
        for _ in 0..=WAITING_MAX {
            hub.tell_details(mine, || event(mine));
        }
        assert!(reader.take_missed() && !reader.take_missed(), "it is told once that it missed something");
        drop(reader);
        assert!(hub.details().jobs.is_empty());
    }
}
