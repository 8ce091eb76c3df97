//! A list of jobs as a table.

use super::{
    paint::Tone,
    table::{Column, Rows},
};
use crate::{
    cli::{screen::View, time},
    domain::JobView,
};

/// One line a job. Later pages go without titles.
pub(in crate::cli) fn jobs(page: &[JobView], titles: bool, view: &View) -> String {
    let mut rows = Rows::new([
        Column::whole("ID", 0),
        Column::whole("STATE", 0),
        Column::text("TYPE", 1),
        Column::text("QUEUE", 2),
        Column::whole("ATTEMPTS", 4),
        Column::whole("AGE", 5).right(),
        Column::text("LAST ERROR", 3),
    ]);
    for job in page {
        let (id, age) = (job.id.to_string(), time::age(job.created_at, view.now));
        let attempts = format!("{}/{}", job.attempts, job.max_attempts);
        let plain = Tone::Plain;
        rows.push([
            (&id, plain),
            (job.state.name(), Tone::of_state(job.state.name())),
            (&job.kind, plain),
            (&job.queue, plain),
            (&attempts, plain),
            (&age, Tone::Dim),
            (job.last_error.as_deref().unwrap_or_default(), plain),
        ]);
    }
    rows.text(titles, 0, view)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{render::samples, text::corpus};

    #[test]
    fn a_wide_terminal_shows_everything() {
        let text = jobs(&samples::jobs(), true, &samples::view(Some(140)));
        insta::assert_snapshot!(text, @r#"
        ID                                    STATE   TYPE             QUEUE    ATTEMPTS  AGE  LAST ERROR
        019e1000-0000-7000-8000-000000000001  failed  email.send       mail     2/2       15m  smtp: connection refused by mail.example.org after t…
        019e1000-0000-7000-8000-000000000002  active  image.thumbnail  default  1/5       42s
        "#);
    }

    #[test]
    fn every_width_is_kept_and_the_id_is_always_whole() {
        for width in 48..200_u16 {
            let text = jobs(&samples::jobs(), true, &samples::view(Some(width)));
            for line in text.lines() {
                assert!(line.chars().count() <= usize::from(width), "{width}: {line}");
            }
            for job in samples::jobs() {
                assert!(text.contains(&job.id.to_string()), "{width}: {text}");
            }
            assert_eq!(text.lines().count(), samples::jobs().len() + 1, "{width}: {text}");
        }
    }

    #[test]
    fn hostile_errors_are_harmless() {
        let mut page = samples::jobs();
        for hostile in corpus::HOSTILE {
            page[0].last_error = Some(hostile.to_owned());
            page[0].kind = hostile.to_owned();
            corpus::assert_harmless(&jobs(&page, true, &samples::view(Some(100))));
            corpus::assert_harmless(&jobs(&page, true, &samples::view(None)));
        }
    }
}
