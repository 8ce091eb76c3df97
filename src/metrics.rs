//! Every metric of a node: its name, its meaning, and how it is recorded. Metrics are an interface: the
//! README lists them, and `tests/tidy.rs` checks that no other file names one.

use std::{sync::OnceLock, time::Duration};

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::domain::JobState;

static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Installs the recorder, once a process; later calls change nothing.
pub fn install() {
    RECORDER.get_or_init(|| {
        let seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        let sizes = [1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0];
        let suffix = metrics_exporter_prometheus::Matcher::Suffix;
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(suffix("_seconds".into()), &seconds)
            .and_then(|builder| builder.set_buckets_for_metric(suffix("_ops".into()), &sizes));
        let handle = builder.ok().and_then(|builder| builder.install_recorder().ok());
        describe();
        handle
    });
}

/// The metrics in Prometheus' text format.
#[must_use]
pub fn render() -> String {
    match RECORDER.get() {
        Some(Some(handle)) => {
            handle.run_upkeep();
            handle.render()
        }
        Some(None) | None => String::new(),
    }
}

fn describe() {
    describe_counter!("ganger_jobs_submitted_total", "jobs made");
    describe_counter!("ganger_jobs_duplicate_total", "submissions answered with an earlier job");
    describe_counter!("ganger_jobs_started_total", "leases given");
    describe_counter!("ganger_jobs_finished_total", "attempts that ended, by the state they left");
    describe_counter!("ganger_leases_lost_total", "leases that ended without a word from their worker");
    describe_counter!("ganger_leases_forced_total", "leases ended though their worker renewed them, by why");
    describe_counter!("ganger_log_lines_dropped_total", "log lines of jobs beyond their attempt's bounds");
    describe_counter!("ganger_queue_reloads_total", "times a queue dropped its memory and loaded anew");
    describe_counter!("ganger_refused_total", "requests refused because a door was full");
    describe_counter!("ganger_events_dropped_total", "stream events dropped because the hub's door was full");
    describe_counter!(
        "ganger_events_merged_total",
        "stream events that a reader was told the number of only"
    );
    describe_counter!(
        "ganger_streams_dropped_total",
        "readers of the event stream that were closed for their own fault"
    );
    describe_counter!("ganger_counters_healed_total", "counters of jobs that were wrong and were put right");
    describe_gauge!("ganger_jobs", "jobs by state");
    describe_gauge!("ganger_leases_active", "active jobs");
    describe_gauge!("ganger_store_up", "1 while the store answers");
    describe_gauge!("ganger_clock_offset_seconds", Unit::Seconds, "the store's clock less this node's");
    describe_gauge!("ganger_journal_fill_ratio", "how full the fullest journal lane's door is");
    describe_gauge!("ganger_stream_readers", "readers of the event stream");
    describe_histogram!("ganger_journal_batch_ops", "operations in a committed batch");
    describe_histogram!("ganger_journal_commit_seconds", Unit::Seconds, "time of a batch in the store");
    describe_histogram!("ganger_job_wait_seconds", Unit::Seconds, "from ready to leased");
    describe_histogram!("ganger_job_run_seconds", Unit::Seconds, "from leased to ended");
    describe_gauge!("ganger_build_info", "1, with the version as label");
    gauge!("ganger_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// A batch of the journal ended.
pub fn batch(ops: usize, took: Duration, is_committed: bool) {
    if is_committed {
        histogram!("ganger_journal_batch_ops").record(ops as f64);
    }
    let outcome = if is_committed { "committed" } else { "failed" };
    histogram!("ganger_journal_commit_seconds", "outcome" => outcome).record(took.as_secs_f64());
}

/// Jobs were made.
pub fn submitted(count: u64) {
    counter!("ganger_jobs_submitted_total").increment(count);
}

/// A submission was answered with an earlier job.
pub fn duplicate() {
    counter!("ganger_jobs_duplicate_total").increment(1);
}

/// A lease was given, this long after its job had become ready.
pub fn started(waited: Duration) {
    counter!("ganger_jobs_started_total").increment(1);
    histogram!("ganger_job_wait_seconds").record(waited.as_secs_f64());
}

/// An attempt ended after this long and left its job in `state`.
pub fn finished(state: JobState, ran: Duration) {
    counter!("ganger_jobs_finished_total", "state" => state.name()).increment(1);
    histogram!("ganger_job_run_seconds").record(ran.as_secs_f64());
}

/// A lease ended without a word.
pub fn lease_lost() {
    counter!("ganger_leases_lost_total").increment(1);
}

/// A lease was ended though its worker renewed it (`cancel`, `timeout`).
pub fn lease_forced(why: &'static str) {
    counter!("ganger_leases_forced_total", "why" => why).increment(1);
}

/// Lines of a job's log were beyond its attempt's bounds.
pub fn log_lines_dropped(count: u64) {
    counter!("ganger_log_lines_dropped_total").increment(count);
}

/// A queue loads anew.
pub fn queue_reloaded() {
    counter!("ganger_queue_reloads_total").increment(1);
}

/// A request was refused at a full door (`queue`, `journal`, `http`).
pub fn refused(door: &'static str) {
    counter!("ganger_refused_total", "door" => door).increment(1);
}

/// Stream events were dropped.
pub fn events_dropped(count: u64) {
    counter!("ganger_events_dropped_total").increment(count);
}

/// A reader was told of events only how many there were.
pub fn events_merged(count: u64) {
    counter!("ganger_events_merged_total").increment(count);
}

/// A reader of the event stream was closed: `slow`, `stalled`, `talkative` or `unreadable`.
pub fn stream_dropped(fault: &'static str) {
    counter!("ganger_streams_dropped_total", "fault" => fault).increment(1);
}

/// Counters were wrong and were put right: those in the `store`, or a queue's in `memory`.
pub fn counters_healed(place: &'static str, count: u64) {
    counter!("ganger_counters_healed_total", "place" => place).increment(count);
}

/// The node's counts.
pub fn jobs(counts: &[i64; 9]) {
    for state in JobState::ALL {
        let count = usize::try_from(state.code()).ok().and_then(|code| counts.get(code)).copied();
        gauge!("ganger_jobs", "state" => state.name()).set(count.unwrap_or(0) as f64);
    }
    gauge!("ganger_leases_active").set(counts[5] as f64);
}

/// Whether the store answers, and what its clock says.
pub fn store(is_up: bool, offset_micros: i64, journal_fill: f64) {
    gauge!("ganger_store_up").set(if is_up { 1.0 } else { 0.0 });
    gauge!("ganger_clock_offset_seconds").set(offset_micros as f64 / 1e6);
    gauge!("ganger_journal_fill_ratio").set(journal_fill);
}

/// How many read the event stream.
pub fn stream_readers(count: usize) {
    gauge!("ganger_stream_readers").set(count as f64);
}
