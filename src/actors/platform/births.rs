//! Jobs that are made without their queue: many at once.

use futures_util::future::join_all;

use super::{ASK_DEADLINE, Platform, SubmitError, submitted};
use crate::{
    domain::{NewJob, ShardId},
    store::{
        Op,
        ops::{SubmitOp, Submitted},
    },
};

impl Platform {
    /// Makes jobs of any queues, each for itself: one that is refused keeps no other from being made. Written in
    /// their order, side by side.
    pub async fn births_each(&self, jobs: Vec<NewJob>) -> Vec<Result<Submitted, SubmitError>> {
        // One lane: they go into few transactions, one after another.
        let lane = self.0.journal.idlest();
        let shards: Vec<ShardId> = jobs.iter().map(|job| ShardId::of_queue(&job.queue)).collect();
        let asked = jobs.into_iter().map(|job| async move {
            self.0.shards.queue(&job.queue)?;
            let op = Op::Submit(SubmitOp { owner: None, jobs: vec![job] });
            let made = submitted(self.0.journal.ask(lane, op, ASK_DEADLINE).await)?;
            made.into_iter().next().ok_or(SubmitError::Ask(super::AskError::TimedOut))
        });
        let outcomes = join_all(asked).await;
        self.0.shards.waker().wake(&shards);
        for made in outcomes.iter().flatten() {
            count(std::slice::from_ref(made));
        }
        outcomes
    }
}

/// Counts what was made, and what was not.
pub(super) fn count(answers: &[Submitted]) {
    let made = answers.iter().filter(|answer| matches!(answer, Submitted::Made { .. })).count();
    crate::metrics::submitted(made as u64);
    for _ in made..answers.len() {
        crate::metrics::duplicate();
    }
}
