//! What every engine must do, as tests that know nothing of the engine.
//!
//! An engine's test file gives a function that makes a fresh, empty store:
//!
//! ```ignore
//! #[cfg(test)]
//! #[macro_use]
//! mod conformance;
//!
//! async fn fresh() -> (Arc<dyn Store>, Guard) { … }   // Guard: dropped when the test is over
//! conformance!(fresh);
//! ```

pub(crate) mod kit;
pub(crate) mod life;
pub(crate) mod matrix;

/// One test for each case of the suite.
macro_rules! conformance {
    ($fresh:path) => {
        conformance_cases! { $fresh;
            life::a_job_is_made_run_and_completed,
            life::a_failed_attempt_is_tried_again,
            life::a_retrying_job_becomes_ready_at_its_time,
            life::a_due_job_is_retried_again_and_again_without_gaps,
            life::a_job_that_fails_for_good_is_dead_lettered,
            life::a_released_job_keeps_its_place_and_its_attempt,
            life::a_snoozed_job_waits_without_using_up_an_attempt,
            life::a_job_whose_lease_was_lost_runs_again_at_the_head,
            life::a_job_whose_last_lease_was_lost_fails_by_one_row,
            life::a_waiting_job_is_canceled_at_once,
            life::a_running_job_is_asked_to_stop_and_then_canceled,
            life::a_job_asked_to_stop_may_still_complete_or_be_tried_again,
            life::a_failed_job_that_is_canceled_leaves_the_dead_letters,
            life::a_failed_job_is_retried_with_attempts_and_deaths_anew,
            life::a_failed_job_may_fail_and_be_retried_many_times,
            life::a_scheduled_job_is_run_now_on_request,
            life::a_past_run_at_is_the_time_of_the_insert,
            life::a_payload_comes_back_byte_for_byte,
            life::unknown_jobs_are_not_found,
            life::pages_of_a_timeline_join_without_gaps,
            matrix::cancel_and_retry_agree_with_the_transition_function,
            matrix::grants_agree_with_the_transition_function,
            matrix::ends_agree_with_the_transition_function,
        }
    };
}

macro_rules! conformance_cases {
    ($fresh:path; $($module:ident :: $case:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let (store, guard) = $fresh().await;
                conformance::$module::$case(conformance::kit::Kit::new(store).await).await;
                drop(guard);
            }
        )+
    };
}
