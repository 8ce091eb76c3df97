//! A live look at a node as a page of lines.

use serde_json::Value;

use super::{
    lists::{queue_status, slots},
    paint::{Tone, paint, title},
    table::{Column, Rows},
    values::{Cell, millis, number, plain, state, table},
};
use crate::{
    cli::{
        model::{Actor, Overview},
        screen::View,
        text::{clean, count, cut},
        time,
    },
    domain::Timestamp,
};

/// Without a terminal's height, so many lines of each list.
const LINES_PLAIN: usize = 20;
/// Header, its blank line, three lists with a title, a heading and a blank line each, and the keys.
const LINES_FIXED: usize = 13;

/// By what queues are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Order {
    Name,
    Queued,
    Active,
    Came,
    Left,
    Oldest,
}

impl Order {
    const ALL: [Self; 6] = [Self::Name, Self::Queued, Self::Active, Self::Came, Self::Left, Self::Oldest];

    fn at(self) -> usize {
        Self::ALL.iter().position(|&order| order == self).unwrap_or(0)
    }

    pub(in crate::cli) fn next(self) -> Self {
        Self::ALL[(self.at() + 1) % Self::ALL.len()]
    }

    pub(in crate::cli) fn previous(self) -> Self {
        Self::ALL[(self.at() + Self::ALL.len() - 1) % Self::ALL.len()]
    }

    fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Queued => "queued",
            Self::Active => "active",
            Self::Came => "in/s",
            Self::Left => "out/s",
            Self::Oldest => "oldest",
        }
    }
}

/// A queue, and how many jobs a second came into it and left it.
#[derive(Debug, Clone)]
pub(in crate::cli) struct QueueLine {
    pub(in crate::cli) queue: Value,
    pub(in crate::cli) came: Option<f64>,
    pub(in crate::cli) left: Option<f64>,
}

impl QueueLine {
    fn number(&self, pointer: &str) -> f64 {
        self.queue.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0)
    }

    fn rank(&self, order: Order) -> f64 {
        match order {
            Order::Name => 0.0,
            Order::Queued => self.number("/counts/queued"),
            Order::Active => self.number("/counts/active"),
            Order::Came => self.came.unwrap_or(0.0),
            Order::Left => self.left.unwrap_or(0.0),
            Order::Oldest => self.number("/oldestQueuedAgeMs"),
        }
    }
}

/// All that is shown.
#[derive(Debug)]
pub(in crate::cli) struct TopView<'a> {
    pub(in crate::cli) url: &'a str,
    /// When it was seen.
    pub(in crate::cli) taken: Timestamp,
    pub(in crate::cli) overview: &'a Overview,
    /// Absent where the node has no such route.
    pub(in crate::cli) queues: Option<Vec<QueueLine>>,
    pub(in crate::cli) workers: Option<&'a [Value]>,
    pub(in crate::cli) actors: &'a [Actor],
    /// Why the node does not answer.
    pub(in crate::cli) away: Option<&'a str>,
    pub(in crate::cli) paused: bool,
    pub(in crate::cli) order: Order,
}

/// The page; of `height` lines where that is known, with the keys below.
pub(in crate::cli) fn top(seen: &TopView<'_>, height: Option<usize>, view: &View) -> String {
    let mut lines = header(seen, view);
    let room = height.map_or(3 * LINES_PLAIN, |height| height.saturating_sub(LINES_FIXED));
    // Short lists leave their room to the others; queues, which are looked for most, take it first.
    let wanted =
        [seen.queues.as_ref().map_or(0, Vec::len), seen.workers.map_or(0, <[Value]>::len), seen.actors.len()];
    let shares = shares(wanted, room);
    lines.push(String::new());
    section(&mut lines, "Queues", seen.queues.is_some(), queues(seen, shares[0], view), view);
    section(&mut lines, "Workers", seen.workers.is_some(), workers(seen, shares[1], view), view);
    section(&mut lines, "Busiest actors", true, actors(seen, shares[2], view), view);
    if let Some(height) = height {
        lines.truncate(height.saturating_sub(1));
        lines.resize(height.saturating_sub(1), String::new());
        let keys = format!(
            "q quit  p {}  tab/arrows sort by {}",
            if seen.paused { "go on" } else { "pause" },
            seen.order.name()
        );
        lines.push(paint(&cut(&keys, fits(view)), Tone::Dim, view));
    }
    lines.join("\n")
}

/// Each list's lines: at least a third of the room if it wants that, and what others leave.
fn shares(wanted: [usize; 3], room: usize) -> [usize; 3] {
    let mut shares = wanted.map(|wanted| wanted.min(room / 3));
    let mut left = room.saturating_sub(shares.iter().sum());
    for (share, wanted) in shares.iter_mut().zip(wanted) {
        let more = (wanted - *share).min(left);
        *share += more;
        left -= more;
    }
    shares
}

fn fits(view: &View) -> usize {
    view.width.map_or(usize::MAX, |width| usize::from(width).saturating_sub(1))
}

fn header(seen: &TopView<'_>, view: &View) -> Vec<String> {
    let counts = seen.overview;
    let mut first = format!("ganger top  {}  {}", clean(seen.url), time::at(seen.taken, view.utc));
    if seen.paused {
        first.push_str("  paused");
    }
    let first = cut(&first, fits(view)).into_owned();
    let states = [
        ("queued", counts.queued_jobs),
        ("active", counts.active_jobs),
        ("scheduled", counts.scheduled_jobs),
        ("retrying", counts.retrying_jobs),
        ("blocked", counts.blocked_jobs),
        ("throttled", counts.throttled_jobs),
        ("failed", counts.failed_jobs),
        ("workers", counts.active_workers),
    ];
    let states: Vec<String> =
        states.iter().map(|(name, number)| format!("{name} {}", count(*number))).collect();
    let second = cut(&states.join("  "), fits(view)).into_owned();
    let mut lines = vec![title(&first, view), second];
    if let Some(why) = seen.away {
        let old = time::span(view.now.millis_since(seen.taken).max(0));
        let stale = format!("STALE for {old}: {}; connecting again", clean(why));
        lines.push(paint(&cut(&stale, fits(view)), Tone::Bad, view));
    }
    lines
}

fn section(lines: &mut Vec<String>, name: &str, has: bool, body: String, view: &View) {
    lines.push(title(name, view));
    if body.is_empty() {
        lines.push(format!("  {}", if has { "none" } else { "not told by this node, or not to this key" }));
    } else {
        lines.extend(body.lines().map(str::to_owned));
    }
    lines.push(String::new());
}

fn rate(rate: Option<f64>) -> Cell {
    match rate {
        None => ("-".to_owned(), Tone::Dim),
        Some(0.0) => ("0.0".to_owned(), Tone::Dim),
        Some(rate) => (format!("{rate:.1}"), Tone::Plain),
    }
}

fn queues(seen: &TopView<'_>, most: usize, view: &View) -> String {
    let Some(mut lines) = seen.queues.clone() else { return String::new() };
    let name = |line: &QueueLine| line.queue["name"].as_str().unwrap_or_default().to_owned();
    lines.sort_by(|a, b| {
        b.rank(seen.order).total_cmp(&a.rank(seen.order)).then_with(|| name(a).cmp(&name(b)))
    });
    lines.truncate(most);
    if lines.is_empty() {
        return String::new();
    }
    let mut rows = Rows::new([
        Column::text("QUEUE", 0).at_least(16),
        Column::whole("STATUS", 1),
        Column::whole("QUEUED", 0).right(),
        Column::whole("ACTIVE", 2).right(),
        Column::whole("IN/S", 3).right(),
        Column::whole("OUT/S", 3).right(),
        Column::whole("OLDEST", 4).right(),
        Column::whole("FAILED", 5).right(),
    ]);
    for line in &lines {
        let cells = [
            plain(&line.queue, "/name"),
            queue_status(&line.queue),
            number(&line.queue, "/counts/queued"),
            number(&line.queue, "/counts/active"),
            rate(line.came),
            rate(line.left),
            millis(&line.queue, "/oldestQueuedAgeMs"),
            number(&line.queue, "/counts/failed"),
        ];
        rows.push(cells.each_ref().map(|(text, tone)| (text.as_str(), *tone)));
    }
    rows.text(true, 0, view)
}

fn workers(seen: &TopView<'_>, most: usize, view: &View) -> String {
    let mut all: Vec<Value> = seen.workers.unwrap_or_default().to_vec();
    // Those that have gone last; a worker that is silent is what one looks for.
    let age = |worker: &Value| worker["heartbeatAgeMs"].as_f64().unwrap_or(0.0);
    let is_gone = |worker: &Value| matches!(worker["status"].as_str(), Some("stopped"));
    all.sort_by(|a, b| is_gone(a).cmp(&is_gone(b)).then_with(|| age(b).total_cmp(&age(a))));
    all.truncate(most);
    if all.is_empty() {
        return String::new();
    }
    let columns = [
        Column::text("WORKER", 0).at_least(24),
        Column::whole("STATUS", 0),
        Column::whole("BUSY", 0).right(),
        Column::whole("HEARTBEAT", 1).right(),
        Column::text("QUEUES", 2),
    ];
    table(columns, &all, true, view, |worker| {
        [
            plain(worker, "/workerId"),
            state(worker, "/status"),
            slots(worker),
            millis(worker, "/heartbeatAgeMs"),
            plain(worker, "/queues"),
        ]
    })
}

fn actors(seen: &TopView<'_>, most: usize, view: &View) -> String {
    let mut busiest: Vec<&Actor> = seen.actors.iter().collect();
    busiest.sort_by(|a, b| {
        let load = |actor: &Actor| (actor.mailbox.depth, actor.messages.per_second);
        let ((depth_a, rate_a), (depth_b, rate_b)) = (load(a), load(b));
        depth_b.cmp(&depth_a).then_with(|| rate_b.total_cmp(&rate_a)).then_with(|| a.path.cmp(&b.path))
    });
    busiest.truncate(most);
    if busiest.is_empty() {
        return String::new();
    }
    let mut rows = Rows::new([
        Column::text("ACTOR", 0).at_least(24),
        Column::whole("STATUS", 3),
        Column::whole("MAILBOX", 0).right(),
        Column::whole("MSG/S", 1).right(),
        Column::whole("P99", 2).right(),
        Column::whole("RESTARTS", 4).right(),
    ]);
    for actor in busiest {
        let restarts = if actor.restarts > 0 { Tone::Waiting } else { Tone::Dim };
        rows.push([
            (&actor.path, Tone::Plain),
            (&actor.status, Tone::of_state(&actor.status)),
            (&count(actor.mailbox.depth), Tone::Plain),
            (&format!("{:.1}", actor.messages.per_second), Tone::Plain),
            (&actor.messages.p99_micros.map_or_else(|| "-".to_owned(), time::micros), Tone::Plain),
            (&count(actor.restarts), restarts),
        ]);
    }
    rows.text(true, 0, view)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::{render::samples, text::corpus};

    fn queues_seen() -> Vec<QueueLine> {
        let queue = |name: &str, queued: i64, paused: bool| QueueLine {
            queue: json!({ "name": name, "paused": paused, "counts": { "queued": queued, "active": 1 },
                "oldestQueuedAgeMs": 1_500 }),
            came: Some(12.34),
            left: None,
        };
        vec![queue("a", 3, false), queue("mail", 1_200, true), queue("b", 3, false)]
    }

    fn page(
        order: Order,
        height: Option<usize>,
        view: &View,
        change: impl FnOnce(&mut TopView<'_>),
    ) -> String {
        let tree = samples::actors();
        let workers =
            [json!({ "workerId": "n/local", "status": "running", "concurrency": 4, "activeLeaseCount": 1,
            "heartbeatAgeMs": 900, "queues": ["*"] })];
        let mut seen = TopView {
            url: "http://127.0.0.1:8080",
            taken: view.now.plus_millis(-4_200),
            overview: &samples::overview(),
            queues: Some(queues_seen()),
            workers: Some(&workers),
            actors: &tree.children,
            away: None,
            paused: false,
            order,
        };
        change(&mut seen);
        top(&seen, height, view)
    }

    #[test]
    fn a_plain_look_is_a_page() {
        insta::assert_snapshot!(page(Order::Queued, None, &samples::view(None), |_| {}), @r"
        ganger top  http://127.0.0.1:8080  2026-11-23 19:14:55.800 UTC
        queued 20  active 4  scheduled 6  retrying 3  blocked 2  throttled 0  failed 1  workers 2

        Queues
        QUEUE  STATUS  QUEUED  ACTIVE  IN/S  OUT/S  OLDEST
        mail   paused   1,200       1  12.3      -    1.5s
        a      open         3       1  12.3      -    1.5s
        b      open         3       1  12.3      -    1.5s

        Workers
        WORKER   STATUS   BUSY  HEARTBEAT  QUEUES
        n/local  running   1/4      900ms  *

        Busiest actors
        ACTOR           STATUS       MAILBOX  MSG/S    P99  RESTARTS
        node/mail       running           14  812.4  2.0ms         2
        node/journal-0  quarantined        0    0.0      -         9
        node/workers    running            0    0.0      -         0
        ");
    }

    #[test]
    fn a_screen_is_filled_and_never_overflows() {
        for (width, height) in [(80, 24), (44, 10), (200, 60), (10, 3)] {
            let text = page(Order::Name, Some(height), &samples::view(Some(width)), |_| {});
            assert_eq!(text.lines().count(), height, "{width}x{height}\n{text}");
            if width >= 44 {
                let is_wide = |line: &str| line.chars().count() > usize::from(width);
                assert!(!text.lines().any(is_wide), "{width}x{height}\n{text}");
            }
        }
    }

    #[test]
    fn the_order_can_be_changed_round_and_back() {
        let first = |order| {
            let text = page(order, None, &samples::view(None), |_| {});
            text.lines().skip_while(|line| !line.starts_with("QUEUE")).nth(1).expect("a queue").to_owned()
        };
        assert!(first(Order::Queued).starts_with("mail") && first(Order::Name).starts_with('a'));
        let round = (0..6).fold(Order::Queued, |order, _| order.next());
        assert_eq!((round, Order::Name.previous()), (Order::Queued, Order::Oldest));
    }

    #[test]
    fn a_node_that_is_away_is_marked_with_the_age_of_what_is_shown() {
        let text =
            page(Order::Queued, None, &samples::view(None), |seen| seen.away = Some("cannot reach it"));
        assert!(text.contains("STALE for 4.2s: cannot reach it"), "{text}");
        let text = page(Order::Queued, None, &samples::view(None), |seen| {
            (seen.queues, seen.workers, seen.paused) = (None, None, true);
        });
        assert!(text.contains("paused\n") && text.matches("not told by this node").count() == 2, "{text}");
    }

    #[test]
    fn hostile_names_are_harmless() {
        for hostile in corpus::HOSTILE {
            let text = page(Order::Queued, Some(40), &samples::view(Some(80)), |seen| {
                seen.queues = Some(vec![QueueLine {
                    queue: json!({ "name": hostile, "counts": hostile }),
                    came: None,
                    left: None,
                }]);
                seen.away = Some(hostile);
                seen.url = hostile;
            });
            corpus::assert_harmless(&text);
        }
    }

    #[test]
    fn lists_share_the_room() {
        assert_eq!(shares([100, 100, 100], 30), [10, 10, 10]);
        assert_eq!(shares([100, 1, 2], 30), [27, 1, 2]);
        assert_eq!(shares([0, 0, 0], 30), [0, 0, 0]);
    }
}
