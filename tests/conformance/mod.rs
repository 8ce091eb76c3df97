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

pub(crate) mod changes;
pub(crate) mod dead_letter_scale;
pub(crate) mod dead_letters;
pub(crate) mod dependencies;
pub(crate) mod expiry;
pub(crate) mod fencing;
pub(crate) mod gates;
pub(crate) mod keys;
pub(crate) mod kit;
pub(crate) mod life;
pub(crate) mod lists;
pub(crate) mod logs;
pub(crate) mod matrix;
pub(crate) mod operations;
pub(crate) mod order;
pub(crate) mod random;
pub(crate) mod reconcile;
pub(crate) mod settings;
pub(crate) mod steered;
pub(crate) mod unique;
pub(crate) mod upgrade;

/// One test for each case of the suite.
macro_rules! conformance {
    ($fresh:path) => {
        conformance_cases! { $fresh;
            settings::settings_are_kept_and_what_is_not_named_stays,
            settings::settings_are_fenced,
            settings::a_queue_that_drains_takes_no_births,
            settings::births_beyond_the_depth_are_refused_as_a_whole,
            settings::nothing_depends_on_a_job_that_was_not_admitted,
            settings::concurrent_births_keep_the_depth,
            settings::what_waits_out_of_order_is_found,
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
            life::a_job_that_ends_while_it_waits_tells_of_its_last_attempt,
            life::a_canceled_attempt_keeps_the_error_of_an_earlier_one,
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
            fencing::fences_grow_over_grants_epochs_and_retries,
            fencing::a_stale_end_writes_nothing_and_is_told_what_was_recorded,
            fencing::the_same_end_again_is_told_that_it_is_recorded,
            fencing::an_old_epoch_writes_nothing_but_the_other_shards_are_written,
            fencing::births_need_no_epoch,
            fencing::jobs_of_another_shard_are_not_touched,
            fencing::taking_all_shards_raises_every_epoch,
            fencing::a_restored_store_steps_over_its_lost_future,
            fencing::epochs_stop_before_fences_would_be_inexact,
            fencing::one_epoch_is_raised_once,
            fencing::an_operation_the_store_refuses_fails_alone,
            fencing::upkeep_changes_nothing_that_holds,
            keys::a_repeat_is_answered_with_the_first_job,
            keys::repeats_are_told_in_every_state_without_gaps,
            keys::a_key_with_another_content_is_refused,
            keys::keys_are_a_tenants_own,
            keys::a_key_holds_over_its_window_while_its_job_lives,
            keys::a_key_holds_for_its_window_after_its_job_ended,
            keys::repeats_within_one_batch_are_the_first_ones,
            keys::a_refused_first_leaves_its_key_to_the_second,
            keys::concurrent_repeats_make_one_job,
            keys::a_job_id_inserted_again_is_answered_again,
            dependencies::a_child_runs_after_its_parent_and_gets_its_result,
            dependencies::many_parents_are_all_waited_for_and_their_results_are_in_order,
            dependencies::a_parent_that_completed_before_is_met_at_once,
            dependencies::a_parent_that_failed_or_was_canceled_before_blocks_and_is_named,
            dependencies::a_parent_that_fails_or_is_canceled_after_leaves_the_child_stuck,
            dependencies::a_retried_parent_unlocks_its_children_later,
            dependencies::a_child_waits_for_its_retried_parent_and_no_longer_for_a_failed_job,
            dependencies::a_canceled_dead_letter_is_told_to_tolerant_children,
            dependencies::unknown_and_foreign_parents_are_refused,
            dependencies::births_may_depend_on_one_another_and_are_announced,
            dependencies::births_that_ended_or_run_are_not_announced_as_waiting,
            dependencies::an_inbox_is_taken_in_steps,
            dependencies::a_diamond_is_met_by_one_batch_and_by_two,
            dependencies::a_parent_may_end_in_the_batch_that_makes_its_child,
            dependencies::everything_of_a_life_may_be_in_one_batch,
            dependencies::an_unblocked_job_still_waits_for_its_time,
            dependencies::a_canceled_child_is_left_alone,
            dependencies::a_graph_shows_everything_connected,
            dead_letters::failures_of_one_cause_share_a_fingerprint,
            dead_letters::letters_are_listed_newest_first_with_their_jobs_and_attempts,
            dead_letters::letters_are_found_by_what_they_are,
            dead_letters::pages_of_letters_are_stable_while_letters_are_added,
            dead_letters::groups_tell_what_fails_how_often_and_where,
            dead_letters::pages_of_groups_are_stable_while_letters_are_added,
            dead_letters::a_dead_letter_is_replayed_with_attempts_and_deaths_anew,
            dead_letters::a_replay_may_change_queue_payload_type_and_priority,
            dead_letters::only_dead_letters_are_replayed,
            dead_letters::lineage_lasts_over_failures_retries_and_completion,
            dead_letters::dependents_of_a_replayed_job_wait_for_it_again,
            dead_letters::many_replays_go_in_one_batch,
            dead_letter_scale::a_hundred_thousand_letters_are_grouped_in_time,
            expiry::only_what_was_never_leased_expires,
            expiry::jobs_past_their_time_are_found_and_not_granted,
            gates::parked_jobs_are_shown_as_before_but_are_not_ready,
            gates::a_gate_lets_jobs_through_in_ready_order_and_in_steps,
            gates::only_what_waits_in_the_shard_is_parked,
            gates::a_parked_job_is_canceled_or_run_now_on_request,
            order::the_ready_order_is_priority_then_time_then_id,
            order::ready_pages_have_no_gaps_or_repeats_while_jobs_are_added,
            order::what_is_leased_blocked_or_not_yet_due_is_not_ready,
            order::deferred_jobs_are_found_by_their_time,
            order::counters_follow_every_move,
            order::queues_are_told_by_shard,
            lists::jobs_are_found_by_what_they_are,
            lists::jobs_are_found_by_the_state_they_are_shown_in,
            lists::jobs_are_found_by_a_part_of_their_text_in_any_case,
            lists::a_search_looks_at_no_more_than_it_may_and_says_how_far_it_came,
            lists::pages_of_jobs_are_stable_while_jobs_are_added,
            lists::finished_jobs_are_reported_in_the_order_they_were_made,
            lists::finished_jobs_are_removed_with_all_that_belongs_to_them,
            lists::a_tenants_finished_jobs_are_removed_alone,
            lists::what_an_unfinished_job_depends_on_is_not_removed,
            lists::only_an_owner_removes,
            logs::lines_are_kept_in_order_and_read_by_pages,
            logs::lines_are_found_by_attempt_and_level,
            logs::lines_written_again_are_kept_once,
            logs::only_the_holder_of_the_lease_writes_lines,
            logs::lines_are_removed_with_their_job,
            changes::a_change_is_shown_and_leaves_the_first_row_of_the_timeline,
            changes::what_is_so_already_is_not_written,
            changes::a_change_of_the_definition_alone_keeps_the_place,
            changes::a_job_moves_to_another_queue_with_all_that_counts_it,
            changes::a_move_within_a_shard_is_told_through_its_inbox,
            changes::a_later_time_schedules_and_a_past_one_makes_ready,
            changes::a_due_job_that_is_changed_has_its_ready_row,
            changes::a_blocked_job_moves_and_is_unblocked_where_it_is,
            changes::a_blocked_job_with_another_time_stays_blocked,
            changes::a_gate_stays_unless_the_queue_or_the_time_is_another,
            changes::what_runs_or_has_ended_is_not_changed,
            changes::a_repeat_of_a_moved_job_is_answered_with_it,
            changes::a_job_that_comes_back_is_told_to_its_first_shard_again,
            changes::a_forgotten_job_leaves_nothing_behind,
            changes::what_is_needed_or_has_not_ended_is_not_forgotten,
            steered::an_operators_cancel_is_a_row_of_the_audit_log,
            steered::an_operators_retry_is_a_row_of_the_audit_log,
            operations::an_operation_is_kept_with_its_progress,
            operations::only_so_many_operations_wait,
            operations::operations_are_listed_newest_first,
            operations::the_audit_log_is_found_by_what_it_tells,
            unique::a_key_is_taken_until_its_job_has_ended,
            unique::a_key_is_free_in_other_states_and_after_its_period,
            unique::jobs_of_one_operation_and_of_one_batch_share_a_key,
            unique::who_is_not_unique_keeps_no_idempotency_key,
            unique::upkeep_removes_free_unique_keys_alone,
            unique::submissions_at_once_make_one_job,
            random::a_random_mix_keeps_every_invariant,
            reconcile::counters_are_never_healed_wrongly_under_load,
            reconcile::counters_of_every_state_are_found_right,
            reconcile::the_newest_that_wait_are_told_newest_first,
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
