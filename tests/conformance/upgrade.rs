//! A database that the first schema was filled under, brought up to date.

use ganger::{
    domain::{EventKind, JobId, JobState, ShardId, fingerprint},
    store::{
        OpResult,
        dead_letters::{LetterCursor, LetterFilter},
        ops::{Changed, ReplayPatch},
    },
};

use super::{
    dead_letters::replay_op,
    kit::{Kit, completed},
};

pub(crate) const Q: &str = "mail";
/// The fence that all leases in the old database have.
pub(crate) const FENCE: i64 = (1 << 32) + 7;

/// What the old database holds, one job in each of these states.
#[derive(Debug)]
pub(crate) struct Old {
    pub(crate) queued: JobId,
    pub(crate) scheduled: JobId,
    pub(crate) active: JobId,
    pub(crate) completed: JobId,
    pub(crate) dead: JobId,
}

impl Old {
    pub(crate) fn new() -> Self {
        let [queued, scheduled, active, completed, dead] = std::array::from_fn(|_| JobId::new());
        Self { queued, scheduled, active, completed, dead }
    }

    /// Fills in the names of a statement over the first schema: the shard, the codes of event kinds, the ids as
    /// `id` writes them.
    pub(crate) fn sql(&self, template: &str, id: impl Fn(JobId) -> String) -> String {
        template
            .replace("$SHARD", &ShardId::of_queue(Q).0.to_string())
            .replace("$FENCE", &FENCE.to_string())
            .replace("$COMPLETED", &EventKind::Completed.code().to_string())
            .replace("$FAILED", &EventKind::Failed.code().to_string())
            .replace("$queued", &id(self.queued))
            .replace("$scheduled", &id(self.scheduled))
            .replace("$active", &id(self.active))
            .replace("$completed", &id(self.completed))
            .replace("$dead", &id(self.dead))
    }
}

pub(crate) async fn what_the_first_schema_held_is_all_there(kit: Kit, old: Old) {
    let states = [
        (old.dead, JobState::Failed),
        (old.completed, JobState::Completed),
        (old.active, JobState::Active),
        (old.scheduled, JobState::Scheduled),
        (old.queued, JobState::Queued),
    ];
    let mut listed: Vec<_> = kit.all_jobs().await.iter().map(|job| (job.id, job.state)).collect();
    listed.sort_unstable_by_key(|(id, _)| std::cmp::Reverse(*id));
    assert_eq!(listed, states);
    kit.check().await;
    assert_eq!(kit.store.reconcile_live(kit.owner(Q), Q).await.expect("compares"), []);
    assert_eq!(kit.store.reconcile_ended(&kit.owned).await.expect("compares"), []);

    let filter = LetterFilter {
        kind: Some("mail.send".into()),
        error_type: Some("smtp".into()),
        ..LetterFilter::default()
    };
    let read = async || kit.store.dead_letters(&filter, LetterCursor::newest(), 10).await.expect("reads");
    let letters = read().await;
    assert_eq!(letters.iter().map(|row| row.letter.job_id).collect::<Vec<_>>(), [old.dead]);
    assert_eq!(letters[0].letter.fingerprint, "", "made by upkeep");
    kit.store.maintain().await.expect("looks after it");
    assert_eq!(read().await[0].letter.fingerprint, fingerprint("smtp", "mailbox is full"));

    // And it goes on: what runs ends, what failed runs again, under fences that grow.
    let ended = kit.end(Q, old.active, ganger::domain::Fence(FENCE), completed()).await;
    assert_eq!(ended.state, JobState::Completed);
    match kit.one(replay_op(&kit, Q, old.dead, ReplayPatch::default())).await {
        OpResult::Changed(Changed::Done(_)) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(kit.ready(Q).await, [old.queued, old.dead]);
    assert!(kit.grant(Q, old.dead).await.fence.0 > FENCE);
    kit.run(Q, old.queued, completed()).await;
    kit.cancel(Q, old.scheduled).await;
    kit.check().await;
}
