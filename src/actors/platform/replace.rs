//! A submission whose unique key another job has, and that is to take that job's place.

use super::{AskError, Interference, Platform, SubmitError};
use crate::{
    domain::{JobId, JobState, NewJob},
    store::{
        OpResult,
        ops::{Changed, JobPatch, Requester, SubmitRefusal, Submitted},
    },
};

/// How often a key may become free just when its job is to be changed, before the caller hears of a conflict.
const TRIES: usize = 3;

/// What became of a submission that may replace another job's payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replaced {
    /// As any submission.
    Submitted(Submitted),
    /// This job, which waits, has the payload now.
    Payload(JobId),
}

impl Platform {
    /// Makes a job, or, when another has its unique key and waits, gives that one its payload.
    ///
    /// # Errors
    /// As for [`submit`](Self::submit); [`SubmitRefusal::NotUnique`] when the other runs, or is of another type.
    pub async fn submit_or_replace(&self, job: NewJob, by: Requester) -> Result<Replaced, SubmitError> {
        let mut refusal = None;
        for _ in 0..TRIES {
            let first = match self.submit(job.clone()).await {
                Err(SubmitError::Refused(found @ SubmitRefusal::NotUnique { job, .. })) => {
                    refusal = Some(found);
                    job
                }
                done => return done.map(Replaced::Submitted),
            };
            let there = self.store().job(first).await;
            let there = there.map_err(|error| crate::actors::journal::ask_error(&error))?;
            match there {
                // The payload was checked for its own type.
                Some(there) if there.kind != job.kind => break,
                Some(_) => {}
                None => continue,
            }
            let patch = JobPatch { payload: Some(job.payload.clone()), ..JobPatch::default() };
            let what = Interference::Update { patch: Box::new(patch), by: by.clone() };
            match self.interfere(first, what).await? {
                Some(OpResult::Changed(Changed::Conflict(JobState::Active))) => break,
                // It has ended meanwhile: the key may be free.
                Some(OpResult::Changed(Changed::Conflict(_) | Changed::NotFound)) | None => {}
                Some(OpResult::Changed(_)) => return Ok(Replaced::Payload(first)),
                Some(_) => return Err(AskError::TimedOut.into()),
            }
        }
        Err(refusal.map_or(SubmitError::Ask(AskError::TimedOut), SubmitError::Refused))
    }
}
