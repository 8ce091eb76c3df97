//! One change over many jobs: the same way as a change of one, many at a time.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use super::{AskError, Interference, Platform};
use crate::{
    domain::JobId,
    store::{
        OpResult,
        ops::{Canceled, Changed, Retried},
    },
};

/// Changes under way at once: enough to fill the journal's batches, few enough to leave room for everyone else.
pub const IN_FLIGHT_MAX: usize = 64;
/// How often a change is tried again that a passing fault of the node kept from being made.
const TRIES_MAX: u32 = 5;
/// Before the first of them; each pause is twice the one before.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// What a change did to one of many jobs.
#[derive(Debug, Clone)]
pub enum Touched {
    /// It was made. The answer of the store says how.
    Changed(OpResult),
    /// Nothing was written: the job does not exist, its state does not allow it, or it is so already.
    Skipped,
    /// The node could not, after several tries.
    Failed(AskError),
}

impl Platform {
    /// Has the queue of each job do `what`, [`IN_FLIGHT_MAX`] at a time. The answers are in the order of
    /// `jobs`; the changes are not made in it. Must be bounded by the caller: a page, not a table.
    pub async fn over_jobs(
        &self,
        jobs: Vec<JobId>,
        what: impl Fn(JobId) -> Interference + Send + Sync,
    ) -> Vec<(JobId, Touched)> {
        let what = &what;
        let each = jobs.into_iter().map(|job| async move { (job, self.touch(job, what(job)).await) });
        stream::iter(each).buffered(IN_FLIGHT_MAX).collect().await
    }

    async fn touch(&self, job: JobId, what: Interference) -> Touched {
        let mut pause = PAUSE_MIN;
        for _ in 1..TRIES_MAX {
            match self.interfere(job, what.clone()).await {
                Ok(done) => return touched(done),
                Err(AskError::Overloaded { .. } | AskError::Unavailable { .. }) => {}
                Err(error) => return Touched::Failed(error),
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        self.interfere(job, what).await.map_or_else(Touched::Failed, touched)
    }
}

/// Whether the store wrote anything.
fn touched(done: Option<OpResult>) -> Touched {
    match done {
        Some(
            done @ (OpResult::Canceled(Canceled::Done { .. } | Canceled::Requested)
            | OpResult::Retried(Retried::Done { .. })
            | OpResult::Changed(Changed::Done(_) | Changed::InPlace(_))),
        ) => Touched::Changed(done),
        Some(OpResult::FenceLost(_)) => Touched::Failed(AskError::Unavailable {
            reason: "this node no longer owns the queue".to_owned(),
            retry_after: Duration::from_secs(1),
        }),
        _ => Touched::Skipped,
    }
}
