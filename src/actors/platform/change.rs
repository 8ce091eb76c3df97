//! Changes of one job by an operator.

use super::{AskError, Interference, Platform};
use crate::{
    domain::JobId,
    store::{
        OpResult,
        ops::{Changed, JobPatch, Requester},
    },
};

impl Platform {
    /// Changes a waiting job.
    ///
    /// # Errors
    /// The node's; after `TimedOut` it may have been done.
    pub async fn update(&self, id: JobId, patch: JobPatch, by: Requester) -> Result<Changed, AskError> {
        self.makes_room_for(&patch)?;
        self.changed(id, Interference::Update { patch: Box::new(patch), by }).await
    }

    /// Forgets a terminal job.
    ///
    /// # Errors
    /// The node's; after `TimedOut` it may have been done.
    pub async fn forget(&self, id: JobId, by: Requester) -> Result<Changed, AskError> {
        self.changed(id, Interference::Forget { dead_letter_only: false, by }).await
    }

    /// Whether the queue that jobs move to can be started: a job must not end up where nobody looks.
    pub(super) fn makes_room_for(&self, patch: &JobPatch) -> Result<(), AskError> {
        patch.queue.as_deref().map_or(Ok(()), |queue| self.0.shards.queue(queue).map(drop))
    }

    async fn changed(&self, id: JobId, what: Interference) -> Result<Changed, AskError> {
        match self.interfere(id, what).await? {
            Some(OpResult::Changed(done)) => Ok(done),
            Some(_) => Err(AskError::TimedOut),
            None => Ok(Changed::NotFound),
        }
    }
}
