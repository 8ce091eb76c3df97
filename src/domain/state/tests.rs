use proptest::prelude::*;

use super::*;

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

/// The whole matrix is pinned: any change of a rule shows here, in review.
#[test]
fn the_full_matrix_of_states_and_events_is_pinned() {
    let mut rows = String::new();
    for state in JobState::ALL {
        for event in EVENTS {
            if let Ok(next) = state.next(event) {
                rows.push_str(&format!("{state} --{event:?}--> {next}\n"));
            }
        }
    }
    insta::assert_snapshot!(rows, @r"
    queued --Leased--> active
    queued --Canceled--> canceled
    queued --Throttled--> throttled
    queued --Postponed--> scheduled
    scheduled --Due--> queued
    scheduled --Canceled--> canceled
    scheduled --Retried--> queued
    retrying --Due--> queued
    retrying --Canceled--> canceled
    retrying --Postponed--> scheduled
    retrying --Retried--> queued
    blocked --Canceled--> canceled
    blocked --DependenciesMet--> queued
    blocked --DependenciesMetEarly--> scheduled
    throttled --Due--> queued
    throttled --Canceled--> canceled
    throttled --Postponed--> scheduled
    throttled --Retried--> queued
    active --Succeeded--> completed
    active --WillRetry--> retrying
    active --LeaseLost--> retrying
    active --Exhausted--> failed
    active --Released--> queued
    active --Snoozed--> scheduled
    active --Canceled--> canceled
    completed --Rerun--> queued
    failed --Canceled--> canceled
    failed --Retried--> queued
    failed --Replayed--> queued
    ");
}

#[test]
fn codes_and_names_lead_back_to_their_state() {
    for state in JobState::ALL {
        assert_eq!(JobState::from_code(state.code()), Some(state));
        assert_eq!(state.name().parse(), Ok(state));
    }
    assert_eq!(JobState::from_code(9), None);
    assert_eq!(JobState::from_code(-1), None);
}

proptest! {
    /// `canceled` is final, and only a retry, replay, rerun or cancel leaves the other two ends.
    #[test]
    fn no_path_leaves_a_terminal_state_by_itself(path in prop::collection::vec(0..EVENTS.len(), 0..60)) {
        let mut state = JobState::Queued;
        for step in path {
            let event = EVENTS[step];
            let Ok(next) = state.next(event) else { continue };
            if state.is_terminal() {
                prop_assert!(state != JobState::Canceled);
                prop_assert!(matches!(
                    event,
                    JobEvent::Retried | JobEvent::Replayed | JobEvent::Rerun | JobEvent::Canceled
                ));
            }
            state = next;
        }
    }
}
