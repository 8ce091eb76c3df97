//! The counts as a page.

use super::{
    paint::{Tone, title},
    table::{Column, Rows},
};
use crate::cli::{model::Overview, screen::View, text::count, time};

/// The counts of jobs by state, and the waiting jobs of each queue that has any.
pub(in crate::cli) fn overview(counts: &Overview, view: &View) -> String {
    let mut rows = Rows::new([Column::whole("", 0), Column::whole("", 0).right()]);
    for (state, jobs) in [
        ("queued", counts.queued_jobs),
        ("scheduled", counts.scheduled_jobs),
        ("retrying", counts.retrying_jobs),
        ("blocked", counts.blocked_jobs),
        ("throttled", counts.throttled_jobs),
        ("active", counts.active_jobs),
        ("completed", counts.completed_jobs),
        ("failed", counts.failed_jobs),
        ("canceled", counts.canceled_jobs),
    ] {
        let tone = if jobs == 0 { Tone::Dim } else { Tone::of_state(state) };
        rows.push([(state, tone), (&count(jobs), tone)]);
    }
    rows.push([("all", Tone::Plain), (&count(counts.total_jobs), Tone::Plain)]);
    let mut page = format!("{}  at {}\n", title("Jobs", view), time::at(counts.last_updated_at, view.utc));
    page.push_str(&rows.text(false, 2, view));
    page.push_str(&format!(
        "\n  {} workers, {} jobs delayed, mean execution {}\n",
        count(counts.active_workers),
        count(counts.delayed_backlog),
        time::micros(counts.average_exec_ms * 1_000.0)
    ));
    let mut queues = Rows::new([Column::text("", 0), Column::whole("", 0).right()]);
    for (queue, waiting) in counts.queue_lengths.iter().filter(|(_, waiting)| **waiting > 0) {
        queues.push([(queue, Tone::Plain), (&count(*waiting), Tone::Plain)]);
    }
    if !queues.is_empty() {
        page.push_str(&format!("\n{}\n{}", title("Queued", view), queues.text(false, 2, view)));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{render::samples, text::corpus};

    #[test]
    fn the_counts_are_a_page() {
        insta::assert_snapshot!(overview(&samples::overview(), &samples::view(Some(80))), @r#"
        Jobs  at 2026-11-23 19:15:00.000 UTC
          queued          20
          scheduled        6
          retrying         3
          blocked          2
          throttled        0
          active           4
          completed  123,400
          failed           1
          canceled        20
          all        123,456

          2 workers, 9 jobs delayed, mean execution 412.5ms

        Queued
          mail      18
          media/eu   2
        "#);
    }

    #[test]
    fn hostile_queues_are_harmless() {
        for hostile in corpus::HOSTILE {
            let mut counts = samples::overview();
            counts.queue_lengths.insert(hostile.to_owned(), 3);
            corpus::assert_harmless(&overview(&counts, &samples::view(Some(40))));
        }
    }
}
