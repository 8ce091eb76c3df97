//! The supervision tree as an indented table.

use super::{
    paint::Tone,
    table::{Column, Rows},
};
use crate::cli::{
    model::Actor,
    screen::View,
    text::{clean, count},
    time,
};

/// So many hints are enough to understand how it is done.
const HINTS_MAX: usize = 3;
/// Deeper levels are drawn at this one.
const DEPTH_DRAWN_MAX: usize = 12;
const COLUMNS: [Column; 10] = [
    Column::text("NAME", 0).at_least(24),
    Column::whole("KIND", 8),
    Column::whole("STATUS", 0),
    Column::whole("MAILBOX", 2).right(),
    Column::whole("HANDLED", 5).right(),
    Column::whole("MSG/S", 3).right(),
    Column::whole("MEAN", 7).right(),
    Column::whole("P99", 6).right(),
    Column::whole("RESTARTS", 1).right(),
    Column::text("LAST RESTART", 4),
];

/// The tree; `kind` is the filter it was asked with, under which an actor's count of children says nothing of how
/// many would be shown.
pub(in crate::cli) fn actors(root: &Actor, kind: Option<&str>, view: &View) -> String {
    let mut rows = Rows::new(COLUMNS);
    let mut hints = Vec::new();
    let mut stack = vec![Line::Actor(root, 0)];
    while let Some(line) = stack.pop() {
        match line {
            Line::Actor(actor, depth) => {
                push(&mut rows, actor, depth, kind, view);
                stack.extend(
                    left_out(actor, kind)
                        .filter(|_| !actor.children.is_empty())
                        .map(|text| Line::Rest(text, depth + 1)),
                );
                hints.extend(hint(actor));
                stack.extend(actor.children.iter().rev().map(|child| Line::Actor(child, depth + 1)));
            }
            Line::Rest(text, depth) => {
                let name = format!("{}{text}", indent(depth));
                let mut cells = [("", Tone::Plain); COLUMNS.len()];
                cells[0] = (&name, Tone::Dim);
                rows.push(cells);
            }
        }
    }
    let mut page = rows.text(true, 0, view);
    hints.truncate(HINTS_MAX);
    page.extend(hints);
    page
}

enum Line<'a> {
    Actor(&'a Actor, usize),
    Rest(String, usize),
}

/// How many children are not shown.
fn left_out(actor: &Actor, kind: Option<&str>) -> Option<String> {
    let missing = actor.child_count.saturating_sub(actor.children.len() as u64);
    match kind {
        Some(_) => cursor(actor).map(|_| "… more".to_owned()),
        None => (missing > 0).then(|| format!("… {} more", count(missing))),
    }
}

/// How to see children that were left out of a page.
fn hint(actor: &Actor) -> Option<String> {
    let cursor = cursor(actor)?;
    Some(format!("more of {0}: ganger supervise {0} --after {cursor}\n", clean(&actor.path)))
}

fn cursor(actor: &Actor) -> Option<String> {
    let cursor = actor.next_child.as_ref()?.text().trim_matches('"');
    (cursor != "null").then(|| clean(cursor).into_owned())
}

fn indent(depth: usize) -> String {
    "  ".repeat(depth.min(DEPTH_DRAWN_MAX))
}

fn push(rows: &mut Rows<{ COLUMNS.len() }>, actor: &Actor, depth: usize, kind: Option<&str>, view: &View) {
    let plain = Tone::Plain;
    // Where none are shown, a line of their own would double the table.
    let hidden = left_out(actor, kind).filter(|_| actor.children.is_empty());
    let hidden = hidden.map_or_else(String::new, |text| format!(" {text}"));
    let name = format!("{}{}{hidden}", indent(depth), actor.name);
    let mailbox = format!("{}/{}", count(actor.mailbox.depth), count(actor.mailbox.high_water));
    let (mean, p99) = if actor.messages.handled == 0 {
        ("-".to_owned(), "-".to_owned())
    } else {
        let p99 = actor.messages.p99_micros.map_or_else(|| "-".to_owned(), time::micros);
        (time::micros(actor.messages.mean_micros), p99)
    };
    let last = actor
        .last_restart
        .as_ref()
        .map(|last| format!("{} ago: {}", time::age(last.at, view.now), last.reason));
    let restarts = if actor.restarts > 0 { Tone::Waiting } else { plain };
    rows.push([
        (&name, plain),
        (&actor.kind, Tone::Dim),
        (&actor.status, Tone::of_state(&actor.status)),
        (&mailbox, plain),
        (&count(actor.messages.handled), plain),
        (&format!("{:.1}", actor.messages.per_second), plain),
        (&mean, plain),
        (&p99, plain),
        (&count(actor.restarts), restarts),
        (last.as_deref().unwrap_or_default(), plain),
    ]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{render::samples, text::corpus};

    #[test]
    fn the_tree_is_an_indented_table() {
        insta::assert_snapshot!(actors(&samples::actors(), None, &samples::view(Some(150))), @r#"
        NAME                                      KIND     STATUS        MAILBOX    HANDLED  MSG/S  MEAN    P99  RESTARTS  LAST RESTART
        node                                      node     running           0/2         12    0.0   8µs      -         0
          mail                                    queue    running      14/1,024  1,234,567  812.4  42µs  2.0ms         2  5m ago: panicked: index out of bou…
            019e1000-0000-7000-8000-000000000002  lease    running           0/1          3    0.1   5µs      -         0
            … 4,999 more
          journal-0                               journal  quarantined       0/0          0    0.0     -      -         9  45m ago: store away
          workers … 2 more                        workers  running           0/0          0    0.0     -      -         0
        more of node/mail: ganger supervise node/mail --after 117
        "#);
    }

    #[test]
    fn a_narrow_terminal_leaves_columns_out() {
        for width in 44..150 {
            let text = actors(&samples::actors(), None, &samples::view(Some(width)));
            let mut table = text.lines().filter(|line| !line.starts_with("more of"));
            assert!(table.all(|line| line.chars().count() <= usize::from(width)), "{width}\n{text}");
            assert!(text.contains("STATUS"), "{width}\n{text}");
        }
    }

    #[test]
    fn under_a_filter_only_a_cursor_tells_of_more() {
        let text = actors(&samples::actors(), Some("lease"), &samples::view(None));
        assert!(text.contains("… more\n") && !text.contains("4,999"), "{text}");
    }

    #[test]
    fn a_hostile_tree_is_harmless() {
        for hostile in corpus::HOSTILE {
            let mut tree = samples::actors();
            tree.children[0].name = hostile.to_owned();
            tree.children[0].last_restart.as_mut().expect("restarted").reason = hostile.to_owned();
            tree.children[1].status = hostile.to_owned();
            corpus::assert_harmless(&actors(&tree, None, &samples::view(Some(100))));
        }
    }
}
