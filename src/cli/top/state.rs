//! What is on the screen, and what keys do to it.

use std::collections::HashMap;

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde_json::Value;

use super::sample::Sample;
use crate::{
    cli::{
        CliError,
        render::{Order, QueueLine, TopView},
    },
    domain::{Clock, JobState, Timestamp},
};

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// Leave.
    Quit,
    /// Hold the view, or go on.
    Pause,
    /// Sort by the next column.
    Next,
    /// Sort by the one before.
    Previous,
}

impl Key {
    /// Of an event; `None` where it asks for nothing.
    pub(super) fn of(event: &Event) -> Option<Self> {
        let Event::Key(KeyEvent { code, modifiers, kind, .. }) = event else { return None };
        if *kind == KeyEventKind::Release {
            return None;
        }
        match code {
            // A terminal in raw mode hands Ctrl-C over as a key.
            KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Some(Self::Quit),
            KeyCode::Char('q') | KeyCode::Esc => Some(Self::Quit),
            KeyCode::Char('p' | ' ') => Some(Self::Pause),
            KeyCode::Tab | KeyCode::Right | KeyCode::Down => Some(Self::Next),
            KeyCode::BackTab | KeyCode::Left | KeyCode::Up => Some(Self::Previous),
            _ => None,
        }
    }
}

/// The last look, what was before it, and how it is shown.
#[derive(Debug)]
pub(super) struct State {
    url: String,
    last: Sample,
    taken: Timestamp,
    /// Jobs that came into and left each queue, a second, since the look before.
    rates: HashMap<String, (f64, f64)>,
    /// Why the node does not answer.
    away: Option<String>,
    paused: bool,
    order: Order,
}

impl State {
    pub(super) fn new(url: &str, first: Sample) -> Self {
        Self {
            url: url.to_owned(),
            last: first,
            taken: Clock::local(),
            rates: HashMap::new(),
            away: None,
            paused: false,
            order: Order::Queued,
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(super) fn press(&mut self, key: Key) {
        match key {
            Key::Quit => {}
            Key::Pause => self.paused = !self.paused,
            Key::Next => self.order = self.order.next(),
            Key::Previous => self.order = self.order.previous(),
        }
    }

    /// Takes a look in, or that there was none.
    pub(super) fn hear(&mut self, looked: Result<Sample, CliError>) {
        // What came while it was paused must not move the view.
        if self.paused {
            return;
        }
        match looked {
            Ok(sample) => {
                self.rates = rates(&self.last, &sample);
                (self.last, self.taken, self.away) = (sample, Clock::local(), None);
            }
            Err(error) => self.away = Some(error.to_string()),
        }
    }

    pub(super) fn view(&self) -> TopView<'_> {
        let line = |queue: &Value| {
            let name = queue["name"].as_str().unwrap_or_default();
            let (came, left) =
                self.rates.get(name).copied().map_or_else(|| told(queue), |(i, o)| (Some(i), Some(o)));
            QueueLine { queue: queue.clone(), came, left }
        };
        TopView {
            url: &self.url,
            taken: self.taken,
            overview: &self.last.overview,
            queues: self.last.queues.as_ref().map(|queues| queues.iter().map(line).collect()),
            workers: self.last.workers.as_deref(),
            actors: &self.last.actors,
            away: self.away.as_deref(),
            paused: self.paused,
            order: self.order,
        }
    }
}

/// What the node itself says of a queue's rates: a number, or an object with one of some names.
fn told(queue: &Value) -> (Option<f64>, Option<f64>) {
    let throughput = &queue["throughput"];
    let named = |names: &[&str]| names.iter().find_map(|name| throughput.get(name)?.as_f64());
    let came = named(&["inPerSecond", "submittedPerSecond", "enqueuedPerSecond", "in"]);
    let left = named(&["outPerSecond", "finishedPerSecond", "lastMinute", "perSecond", "out"]);
    (came, throughput.as_f64().or(left))
}

fn rates(before: &Sample, now: &Sample) -> HashMap<String, (f64, f64)> {
    let seconds = now.at.duration_since(before.at).as_secs_f64();
    if seconds <= 0.0 {
        return HashMap::new();
    }
    let totals = |sample: &Sample| -> HashMap<String, (i64, i64)> {
        let queues = sample.queues.iter().flatten();
        queues.filter_map(|queue| Some((queue["name"].as_str()?.to_owned(), counted(queue)?))).collect()
    };
    let earlier = totals(before);
    let rate = |from: i64, to: i64| (to.saturating_sub(from)).max(0) as f64 / seconds;
    let of = |(name, (all, ended)): (String, (i64, i64))| {
        // A queue that is new came with all it has.
        let (all_before, ended_before) = earlier.get(&name).copied().unwrap_or((0, 0));
        (name, (rate(all_before, all), rate(ended_before, ended)))
    };
    totals(now).into_iter().map(of).collect()
}

/// All jobs of a queue, and those that have ended.
fn counted(queue: &Value) -> Option<(i64, i64)> {
    let counts = queue["counts"].as_object()?;
    let sum = |wanted: &dyn Fn(JobState) -> bool| {
        let states = JobState::ALL.into_iter().filter(|state| wanted(*state));
        states.filter_map(|state| counts.get(state.name())?.as_i64()).sum()
    };
    Some((sum(&|_| true), sum(&JobState::is_terminal)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_ask_for_what_they_say() {
        let key = |code, modifiers| Key::of(&Event::Key(KeyEvent::new(code, modifiers)));
        assert_eq!(key(KeyCode::Char('q'), KeyModifiers::NONE), Some(Key::Quit));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Key::Quit));
        assert_eq!(key(KeyCode::Char('c'), KeyModifiers::NONE), None);
        assert_eq!(key(KeyCode::Tab, KeyModifiers::NONE), Some(Key::Next));
        assert_eq!(key(KeyCode::Left, KeyModifiers::NONE), Some(Key::Previous));
        assert_eq!(key(KeyCode::Char('p'), KeyModifiers::NONE), Some(Key::Pause));
    }

    #[test]
    fn a_queues_totals_are_of_all_states() {
        let queue = json!({ "counts": { "queued": 3, "active": 1, "completed": 10, "failed": 2, "canceled": 1, "total": 17 } });
        assert_eq!(counted(&queue), Some((17, 13)));
        assert_eq!(counted(&json!({ "name": "bare" })), None);
    }

    #[test]
    fn a_nodes_own_rates_are_taken_in_any_shape() {
        assert_eq!(told(&json!({ "throughput": 2.5 })), (None, Some(2.5)));
        assert_eq!(
            told(&json!({ "throughput": { "inPerSecond": 1, "outPerSecond": 2 } })),
            (Some(1.0), Some(2.0))
        );
        assert_eq!(told(&json!({ "throughput": { "odd": "x" } })), (None, None));
        assert_eq!(told(&json!({})), (None, None));
    }
}
