//! Canceling all that waits in a queue.
//!
//! While a purge is under way its queue gives no leases: what it found waiting goes on to wait, so that it never
//! cancels a job that has run meanwhile. Memory is bounded by one page; jobs made after its start are left alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};

use super::{AskError, Platform};
use crate::{
    actors::{
        journal::ask_error,
        queue::{handle::QueueHandle, messages::QueueRequest},
    },
    domain::{JobId, RawJson, Timestamp},
    store::{
        Op, OpResult,
        ops::{AuditOp, Canceled, Requester},
        read::ReadyKey,
    },
};

/// The most jobs that are known at once.
const PAGE: i64 = 1_000;
/// The most cancels under way: a good batch for the journal, and a small part of the queue's door.
const AT_ONCE: usize = 256;
/// How long the grants under way may take to be over.
const QUIET_DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks whether they are.
const QUIET_PAUSE: Duration = Duration::from_millis(10);
/// How often a cancel is tried that finds no room, or no store: some seconds.
const TRIES_MAX: u32 = 20;
/// Between two tries.
const TRY_PAUSE: Duration = Duration::from_millis(250);
/// How long a queue may take to say so.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);
/// Behind every time that a job can wait for: the year 9999.
const ALWAYS: Timestamp = Timestamp(253_402_300_799_000_000);

/// What a purge has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Purged {
    /// Jobs that waited.
    pub matched: i64,
    /// Jobs that it canceled.
    pub changed: i64,
    /// Jobs that had left meanwhile.
    pub skipped: i64,
    /// Whether it is done; else it goes on, and the queue's counts show how far it is.
    pub finished: bool,
}

/// A purge's counts while it goes on.
#[derive(Debug, Default)]
pub struct PurgeProgress {
    matched: AtomicI64,
    changed: AtomicI64,
    skipped: AtomicI64,
}

impl PurgeProgress {
    /// So far.
    #[must_use]
    pub fn so_far(&self, finished: bool) -> Purged {
        Purged {
            matched: self.matched.load(Ordering::Relaxed),
            changed: self.changed.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
            finished,
        }
    }
}

impl Platform {
    /// Cancels all that waits in a queue now: queued, scheduled, retrying, blocked and throttled jobs. `goes_on` says
    /// whether the node does: a purge that is cut short has canceled a part, and may be repeated.
    ///
    /// # Errors
    /// The node's; a part may have been canceled.
    pub async fn purge(
        &self,
        name: &str,
        dry_run: bool,
        by: Requester,
        progress: &PurgeProgress,
        goes_on: impl Fn() -> bool + Send + Sync,
    ) -> Result<(), AskError> {
        let queue = self.0.shards.queue(name)?;
        let newest = JobId::new();
        let life = Arc::new(());
        if !dry_run {
            hold(&queue, &life).await?;
        }
        let purge = Purge { platform: self, queue: &queue, newest, dry_run, progress };
        let done = purge.all(&goes_on).await;
        drop(life);
        if !dry_run {
            // Also of one that was cut short: its part is done.
            self.note(name, by, progress).await;
        }
        done
    }

    async fn note(&self, name: &str, by: Requester, progress: &PurgeProgress) {
        let done = progress.so_far(true);
        let (matched, changed, skipped) = (done.matched, done.changed, done.skipped);
        let counts = format!(r#"{{"matched":{matched},"changed":{changed},"skipped":{skipped}}}"#);
        let audit = AuditOp {
            action: "queue.purged",
            object_type: "queue",
            object_id: name.to_owned(),
            by,
            before: None,
            after: Some(RawJson::trusted(counts)),
        };
        let journal = &self.0.journal;
        if let Err(error) = journal.ask(journal.idlest(), Op::Audit(audit), LOOK_DEADLINE).await {
            tracing::warn!(queue.name = name, %error, "a purge is not in the audit log");
        }
        let mut event = crate::actors::console::StreamEvent::new("queue.purged", self.clock().now());
        event.queue = Some(name.to_owned());
        event.message = Some(format!("{changed} jobs were canceled"));
        self.0.hub.tell(vec![event]);
    }
}

/// Waits until the queue grants nothing any more.
async fn hold(queue: &QueueHandle, life: &Arc<()>) -> Result<(), AskError> {
    let hold = async {
        loop {
            let purge = Arc::downgrade(life);
            let quiet = queue.look(LOOK_DEADLINE, |reply| QueueRequest::Hold { purge, reply }).await;
            if quiet == Some(true) {
                return;
            }
            tokio::time::sleep(QUIET_PAUSE).await;
        }
    };
    tokio::time::timeout(QUIET_DEADLINE, hold).await.map_err(|_| AskError::Unavailable {
        reason: format!("queue {} does not come to rest", queue.name()),
        retry_after: Duration::from_secs(1),
    })
}

/// A job, with its priority and place if it has one.
type Found = (JobId, Option<(i16, ReadyKey)>);

struct Purge<'a> {
    platform: &'a Platform,
    queue: &'a QueueHandle,
    newest: JobId,
    dry_run: bool,
    progress: &'a PurgeProgress,
}

impl Purge<'_> {
    async fn all(&self, goes_on: &(impl Fn() -> bool + Sync)) -> Result<(), AskError> {
        self.set_aside(goes_on).await?;
        self.in_order(goes_on).await?;
        if !self.dry_run {
            // What was on its way behind a gate when the purge began.
            self.set_aside(goes_on).await?;
        }
        Ok(())
    }

    /// Blocked jobs and those behind gates.
    async fn set_aside(&self, goes_on: &(impl Fn() -> bool + Sync)) -> Result<(), AskError> {
        let (store, shard) = (self.platform.store(), self.queue.shard());
        let mut after = None;
        while goes_on() {
            let read = store.set_aside(shard, self.queue.name(), after, PAGE).await;
            let jobs = read.map_err(|error| ask_error(&error))?;
            let Some(last) = jobs.last().copied() else { return Ok(()) };
            self.cancel(jobs.into_iter().map(|job| (job, None)).collect()).await?;
            after = Some(last);
        }
        Err(stopping())
    }

    /// All others, in the order in which they would run: what is canceled first is what memory has.
    async fn in_order(&self, goes_on: &(impl Fn() -> bool + Sync)) -> Result<(), AskError> {
        let (store, shard) = (self.platform.store(), self.queue.shard());
        for priority in (0..10_i16).rev() {
            let mut after = None;
            loop {
                if !goes_on() {
                    return Err(stopping());
                }
                let read = store.ready(shard, self.queue.name(), priority, after, ALWAYS, PAGE).await;
                let rows = read.map_err(|error| ask_error(&error))?;
                let Some(last) = rows.last().map(|row| row.key) else { break };
                let found = rows.into_iter().map(|row| (row.key.job, Some((priority, row.key))));
                self.cancel(found.collect()).await?;
                after = Some(last);
            }
        }
        Ok(())
    }

    async fn cancel(&self, jobs: Vec<Found>) -> Result<(), AskError> {
        let jobs: Vec<Found> = jobs.into_iter().filter(|(job, _)| *job <= self.newest).collect();
        let count = i64::try_from(jobs.len()).unwrap_or(i64::MAX);
        self.progress.matched.fetch_add(count, Ordering::Relaxed);
        if self.dry_run {
            return Ok(());
        }
        let mut cancels = stream::iter(jobs).map(|job| self.cancel_one(job)).buffer_unordered(AT_ONCE);
        while let Some(done) = cancels.next().await {
            let count = if done? { &self.progress.changed } else { &self.progress.skipped };
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn cancel_one(&self, (job, place): Found) -> Result<bool, AskError> {
        let mut tries = 0;
        loop {
            let reason = "its queue was purged".to_owned();
            match self.queue.ask(|reply| QueueRequest::Purge { job, place, reason, reply }).await {
                Ok(done) => {
                    return Ok(matches!(
                        done,
                        OpResult::Canceled(Canceled::Done { .. } | Canceled::Requested)
                    ));
                }
                Err(AskError::Overloaded { .. } | AskError::Unavailable { .. }) if tries < TRIES_MAX => {
                    tries += 1;
                    tokio::time::sleep(TRY_PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn stopping() -> AskError {
    AskError::Unavailable { reason: "the node stops".into(), retry_after: Duration::from_secs(5) }
}
