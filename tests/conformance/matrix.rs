//! The store's guards against the domain's transition function: for each state and each operation.

use ganger::{
    domain::{EventKind, JobEvent, JobId, JobState, NewJob},
    store::{
        OpResult,
        ops::{Canceled, EndKind, Retried},
    },
};

use super::kit::{HOUR_MS, Kit, canceled, child, completed, error, failed, job, retry_after};

const Q: &str = "mail";

const EVENTS: [JobEvent; 16] = [
    JobEvent::Due,
    JobEvent::Leased,
    JobEvent::Succeeded,
    JobEvent::WillRetry,
    JobEvent::LeaseLost,
    JobEvent::Exhausted,
    JobEvent::Released,
    JobEvent::Snoozed,
    JobEvent::Canceled,
    JobEvent::DependenciesMet,
    JobEvent::DependenciesMetEarly,
    JobEvent::Throttled,
    JobEvent::Postponed,
    JobEvent::Retried,
    JobEvent::Replayed,
    JobEvent::Rerun,
];

/// Whether a timeline may go from one state to another: by one event, or staying where it is.
pub(crate) fn is_legal(from: JobState, to: JobState) -> bool {
    from == to || EVENTS.iter().any(|event| from.next(*event) == Ok(to))
}

/// States that the operations of this contract can bring about.
const REACHABLE: [JobState; 8] = [
    JobState::Queued,
    JobState::Scheduled,
    JobState::Retrying,
    JobState::Blocked,
    JobState::Active,
    JobState::Completed,
    JobState::Failed,
    JobState::Canceled,
];

/// A job in `state`.
async fn in_state(kit: &Kit, state: JobState) -> JobId {
    let id = match state {
        JobState::Scheduled => {
            let later = kit.now().await.plus_millis(HOUR_MS);
            kit.make(&NewJob { run_at: Some(later), ..job(Q) }).await
        }
        JobState::Blocked => {
            let parent = kit.made(Q).await;
            kit.make(&child(Q, &[parent])).await
        }
        _ => kit.made(Q).await,
    };
    match state {
        JobState::Retrying => _ = kit.run(Q, id, retry_after(HOUR_MS)).await,
        JobState::Active => _ = kit.grant(Q, id).await,
        JobState::Completed => _ = kit.run(Q, id, completed()).await,
        JobState::Failed => _ = kit.run(Q, id, failed()).await,
        JobState::Canceled => _ = kit.cancel(Q, id).await,
        _ => (),
    }
    assert_eq!(kit.state(id).await, state);
    id
}

pub(crate) async fn cancel_and_retry_agree_with_the_transition_function(kit: Kit) {
    for state in REACHABLE {
        let id = in_state(&kit, state).await;
        let before = kit.dump().await;
        let answer = kit.cancel(Q, id).await;
        match (state, state.next(JobEvent::Canceled)) {
            // A running job is asked; its end does it.
            (JobState::Active, Ok(_)) => assert_eq!(answer, Canceled::Requested),
            (_, Ok(next)) => {
                assert_eq!(answer, canceled(state));
                assert_eq!(kit.state(id).await, next);
            }
            (_, Err(_)) => {
                assert_eq!(answer, Canceled::Conflict(state));
                assert_eq!(kit.dump().await, before, "a refused cancel writes nothing");
            }
        }

        let id = in_state(&kit, state).await;
        let before = kit.dump().await;
        let answer = kit.retry(Q, id).await;
        match (state, state.next(JobEvent::Retried)) {
            (JobState::Queued, _) => {
                assert_eq!(answer, Retried::AlreadyQueued);
                assert_eq!(kit.dump().await, before);
            }
            (_, Ok(next)) => {
                assert!(matches!(answer, Retried::Done { from, .. } if from == state));
                assert_eq!(kit.state(id).await, next);
            }
            (_, Err(_)) => {
                assert_eq!(answer, Retried::Conflict(state));
                assert_eq!(kit.dump().await, before, "a refused retry writes nothing");
            }
        }
    }
    kit.check().await;
}

pub(crate) async fn grants_agree_with_the_transition_function(kit: Kit) {
    for state in REACHABLE {
        // Whether a deferred job's time has come is the owner's finding, not the store's.
        if state.is_deferred() {
            continue;
        }
        let id = in_state(&kit, state).await;
        let before = kit.dump().await;
        let answer = kit.one(kit.grant_op(Q, id)).await;
        match state.next(JobEvent::Leased) {
            Ok(next) => {
                assert!(matches!(answer, OpResult::Granted(_)), "{state}: {answer:?}");
                assert_eq!(kit.state(id).await, next);
            }
            Err(_) => {
                assert!(matches!(answer, OpResult::NotReady), "{state}: {answer:?}");
                assert_eq!(kit.dump().await, before, "a refused grant writes nothing");
            }
        }
    }
    assert!(matches!(kit.one(kit.grant_op(Q, JobId::new())).await, OpResult::NotReady));
    kit.check().await;
}

fn ends() -> Vec<(EndKind, JobEvent, EventKind)> {
    vec![
        (completed(), JobEvent::Succeeded, EventKind::Completed),
        (retry_after(HOUR_MS), JobEvent::WillRetry, EventKind::Retrying),
        (failed(), JobEvent::Exhausted, EventKind::Failed),
        (EndKind::Released { reason: "released".into() }, JobEvent::Released, EventKind::Enqueued),
        (EndKind::Snoozed { delay_ms: HOUR_MS }, JobEvent::Snoozed, EventKind::Scheduled),
        (EndKind::RecoveredFailed { error: error("lost") }, JobEvent::Exhausted, EventKind::Recovered),
        (EndKind::Canceled { reason: "asked".into() }, JobEvent::Canceled, EventKind::Canceled),
    ]
}

pub(crate) async fn ends_agree_with_the_transition_function(kit: Kit) {
    for (kind, event, shown) in ends() {
        let id = kit.made(Q).await;
        let granted = kit.grant(Q, id).await;
        let ended = kit.end(Q, id, granted.fence, kind.clone()).await;
        assert_eq!(JobState::Active.next(event), Ok(ended.state));
        assert_eq!(kit.state(id).await, ended.state);
        let last = kit.events(id).await.pop().expect("a row");
        assert_eq!((last.kind, last.state, last.seq), (shown, ended.state, ended.seq));
        assert_eq!(ended.entry.is_none(), ended.state.is_terminal());
    }
    for state in REACHABLE {
        if state == JobState::Active {
            continue;
        }
        let id = in_state(&kit, state).await;
        let fence = kit.view(id).await.fence.unwrap_or(ganger::domain::Fence(1));
        let before = kit.dump().await;
        for (kind, ..) in ends() {
            let answer = kit.one(kit.end_op(Q, id, fence, kind)).await;
            assert!(matches!(answer, OpResult::Stale { .. }), "{state}: {answer:?}");
        }
        assert_eq!(kit.dump().await, before, "a stale end writes nothing");
    }
    kit.check().await;
}
