//! Colours, few and always beside a word that says the same.

use comfy_table::Color;

use crate::cli::{screen::View, text::clean};

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Dim,
    Good,
    Bad,
    Busy,
    Waiting,
}

impl Tone {
    /// Of a job's state, or an actor's or attempt's status.
    pub(super) fn of_state(state: &str) -> Self {
        match state {
            "completed" | "running" => Self::Good,
            "failed" | "quarantined" | "lease_expired" => Self::Bad,
            "active" | "started" | "starting" => Self::Busy,
            "retrying" | "blocked" | "throttled" | "scheduled" | "restarting" | "draining" => Self::Waiting,
            "canceled" | "released" | "stopped" | "stopping" => Self::Dim,
            _ => Self::Plain,
        }
    }

    pub(super) fn color(self) -> Option<Color> {
        match self {
            Self::Plain => None,
            Self::Dim => Some(Color::DarkGrey),
            Self::Good => Some(Color::DarkGreen),
            Self::Bad => Some(Color::DarkRed),
            Self::Busy => Some(Color::DarkCyan),
            Self::Waiting => Some(Color::DarkYellow),
        }
    }

    fn code(self) -> Option<u8> {
        match self {
            Self::Plain => None,
            Self::Dim => Some(90),
            Self::Good => Some(32),
            Self::Bad => Some(31),
            Self::Busy => Some(36),
            Self::Waiting => Some(33),
        }
    }
}

/// `text`, which must be clean already, in a tone.
pub(super) fn paint(text: &str, tone: Tone, view: &View) -> String {
    match tone.code() {
        Some(code) if view.colour && !text.is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
        _ => text.to_owned(),
    }
}

/// A section's title.
pub(super) fn title(text: &str, view: &View) -> String {
    if view.colour { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

/// A state in its tone.
pub(in crate::cli) fn state_word(state: &str, view: &View) -> String {
    paint(&clean(state), Tone::of_state(state), view)
}
