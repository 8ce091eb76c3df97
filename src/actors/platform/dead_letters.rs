//! Dead letters, one or a hundred thousand: replayed or forgotten, each through its own queue.

use futures_util::{StreamExt, stream::FuturesOrdered};

use super::{AskError, Interference, Platform, QueueRequest};
use crate::{
    actors::journal::ask_error,
    domain::{JobId, Timestamp},
    store::{
        OpResult,
        dead_letters::{LetterCursor, LetterFilter, LetterKey},
        ops::{Changed, ReplayPatch, Requester},
    },
};

/// Letters read at once: their keys, without payloads.
const PAGE: i64 = 1_000;
/// Letters acted on at once: enough for good batches, and a fraction of what a queue's door takes.
const UNDER_WAY_MAX: usize = 256;
/// The most bytes of payloads among them: each is read, and written to the audit log, by its batch.
const UNDER_WAY_BYTES_MAX: i64 = 16 << 20;
/// The most jobs that an answer names.
pub const LETTERS_NAMED_MAX: usize = 1_000;

/// Which dead letters are acted on: of those that are there when it begins.
#[derive(Debug, Clone)]
pub enum Letters {
    /// Of these jobs; those that are no dead letters are left out.
    Of(Vec<JobId>),
    /// All that match.
    Matching(LetterFilter),
}

/// What is done with each.
#[derive(Debug, Clone)]
pub enum LetterAction {
    /// Nothing: what would be acted on is only counted and named.
    Rehearse,
    /// Run it again.
    Replay(ReplayPatch),
    /// Forget it.
    Forget,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LettersDone {
    /// Dead letters that were found.
    pub matched: u64,
    /// Those that were changed.
    pub changed: u64,
    /// The newest of those that were changed (of those that matched, in a rehearsal), at most
    /// [`LETTERS_NAMED_MAX`].
    pub jobs: Vec<JobId>,
}

impl LettersDone {
    fn note(&mut self, job: JobId, is_done: bool) {
        self.changed += u64::from(is_done);
        if is_done {
            self.name(job);
        }
    }

    fn name(&mut self, job: JobId) {
        if self.jobs.len() < LETTERS_NAMED_MAX {
            self.jobs.push(job);
        }
    }
}

impl Platform {
    /// Acts on dead letters, newest first, a bounded number at a time. What fails again meanwhile is not met
    /// a second time. One that its queue or the store refuses is passed over.
    ///
    /// # Errors
    /// The node's, at the first that is not about one letter alone. What was done stays; asked again, it goes
    /// on with those that are left.
    pub async fn act_on_letters(
        &self,
        which: &Letters,
        action: &LetterAction,
        by: &Requester,
    ) -> Result<LettersDone, AskError> {
        let mut done = LettersDone::default();
        let begin = self.store().now().await.map_err(|error| ask_error(&error))?;
        let mut cursor = LetterCursor::up_to(begin);
        loop {
            let keys = self.letter_keys(which, cursor, begin).await?;
            done.matched += keys.len() as u64;
            let next = keys.last().map(|key| key.place);
            let is_last =
                matches!(which, Letters::Of(_)) || i64::try_from(keys.len()).is_ok_and(|n| n < PAGE);
            match action {
                LetterAction::Rehearse => keys.iter().for_each(|key| done.name(key.place.job)),
                LetterAction::Replay(_) | LetterAction::Forget => {
                    self.act_on_page(keys, action, by, &mut done).await?;
                }
            }
            match next {
                Some(next) if !is_last => cursor = next,
                _ => return Ok(done),
            }
        }
    }

    async fn letter_keys(
        &self,
        which: &Letters,
        cursor: LetterCursor,
        begin: Timestamp,
    ) -> Result<Vec<LetterKey>, AskError> {
        let store = self.store();
        let keys = match which {
            Letters::Of(jobs) => store.dead_letter_keys_of(jobs).await,
            Letters::Matching(filter) => store.dead_letter_keys(filter, cursor, PAGE).await,
        };
        let mut keys = keys.map_err(|error| ask_error(&error))?;
        keys.retain(|key| key.place.failed_at <= begin);
        Ok(keys)
    }

    async fn act_on_page(
        &self,
        keys: Vec<LetterKey>,
        action: &LetterAction,
        by: &Requester,
        done: &mut LettersDone,
    ) -> Result<(), AskError> {
        let patched = match action {
            LetterAction::Replay(patch) => patch.payload.as_ref().map_or(0, |payload| payload.text().len()),
            LetterAction::Rehearse | LetterAction::Forget => 0,
        };
        let patched = i64::try_from(patched).unwrap_or(i64::MAX);
        let mut under_way = FuturesOrdered::new();
        let mut bytes = 0_i64;
        for key in keys {
            let weight = key.payload_bytes.saturating_add(patched);
            while under_way.len() >= UNDER_WAY_MAX || (bytes + weight > UNDER_WAY_BYTES_MAX && bytes > 0) {
                let Some((job, weight, result)) = under_way.next().await else { break };
                bytes -= weight;
                done.note(job, result?);
            }
            bytes += weight;
            under_way.push_back(async move {
                let job = key.place.job;
                (job, weight, self.act_on_letter(key, action, by).await)
            });
        }
        while let Some((job, _, result)) = under_way.next().await {
            done.note(job, result?);
        }
        Ok(())
    }

    /// Acts on one; returns whether it was changed.
    async fn act_on_letter(
        &self,
        key: LetterKey,
        action: &LetterAction,
        by: &Requester,
    ) -> Result<bool, AskError> {
        let by = by.clone();
        let what = match action {
            LetterAction::Rehearse => return Ok(false),
            LetterAction::Replay(patch) => Interference::Replay { patch: Box::new(patch.clone()), by },
            LetterAction::Forget => Interference::Forget { dead_letter_only: true, by },
        };
        let job = key.place.job;
        let asked = match self.shards().queue(&key.queue) {
            Ok(queue) => queue.ask(|reply| QueueRequest::Interfere { job, what, reply }).await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(OpResult::Changed(Changed::Done(_))) => Ok(true),
            // It is no dead letter any more, or is needed.
            Ok(OpResult::Changed(_)) => Ok(false),
            Ok(OpResult::FenceLost(_)) => Err(AskError::Unavailable {
                reason: "this node no longer owns the queue".to_owned(),
                retry_after: std::time::Duration::from_secs(1),
            }),
            Ok(_) => Err(AskError::TimedOut),
            Err(error @ (AskError::Refused(_) | AskError::Quarantined { .. })) => {
                tracing::warn!(job.id = %job, %error, "a dead letter was passed over");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}
