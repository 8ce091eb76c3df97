//! Where answers and notes go.

use std::io::{self, IsTerminal, Write};

use super::{
    CliError,
    args::Global,
    text::{clean_json, clean_lines},
};
use crate::domain::{Clock, Timestamp};

/// What a rendering depends on besides its data.
#[derive(Debug, Clone, Copy)]
pub(super) struct View {
    /// Whether colours are wanted.
    pub(super) colour: bool,
    /// The terminal's width; `None` where lines may be of any length.
    pub(super) width: Option<u16>,
    /// UTC rather than local time.
    pub(super) utc: bool,
    /// What ages are counted to.
    pub(super) now: Timestamp,
}

/// This process's standard output and error.
#[derive(Debug)]
pub(super) struct Screen {
    /// The server's JSON is wanted, and nothing else.
    pub(super) json: bool,
    /// Standard output is a terminal.
    pub(super) terminal: bool,
    colour: bool,
    utc: bool,
}

impl Screen {
    pub(super) fn of_this_process(global: &Global) -> Self {
        let terminal = io::stdout().is_terminal();
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colour = terminal && !set("NO_COLOR") && !dumb;
        Self { json: global.json, terminal, colour, utc: global.utc }
    }

    /// As it is now: a terminal's width may change between two answers.
    pub(super) fn view(&self) -> View {
        let width = if self.terminal { comfy_table::Table::new().width() } else { None };
        View { colour: self.colour, width, utc: self.utc, now: Clock::local() }
    }

    /// Writes a rendering, which is harmless already.
    pub(super) fn show(&self, text: &str) -> Result<(), CliError> {
        write(text, true)
    }

    /// Writes a rendering in the place of the last one, on a terminal.
    pub(super) fn show_anew(&self, text: &str) -> Result<(), CliError> {
        if !self.terminal {
            return write(text, true);
        }
        // From the top over the old lines, each cleared to its end, then what is below: no flicker.
        write(&format!("\x1b[H{}\x1b[K\n\x1b[J", text.trim_end().replace('\n', "\x1b[K\n")), false)
    }

    /// Writes the server's JSON: byte for byte, except that a terminal gets control characters as escapes.
    pub(super) fn document(&self, json: &str) -> Result<(), CliError> {
        let json = json.trim_end_matches(['\n', '\r']);
        if self.terminal { write(&clean_json(json), true) } else { write(json, true) }
    }

    /// As `document`, on one line.
    pub(super) fn document_line(&self, json: &str) -> Result<(), CliError> {
        // A line break in JSON is always between tokens.
        if json.contains(['\n', '\r']) {
            self.document(&json.replace(['\n', '\r'], " "))
        } else {
            self.document(json)
        }
    }

    /// Writes a part of a document.
    pub(super) fn part(&self, json: &str) -> Result<(), CliError> {
        if self.terminal { write(&clean_json(json), false) } else { write(json, false) }
    }

    /// Tells people something that is no answer.
    pub(super) fn note(&self, text: &str) {
        // Nobody can be told that standard error is closed.
        let _ = writeln!(io::stderr().lock(), "{}", clean_lines(text));
    }
}

fn write(text: &str, line: bool) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    let end = if line && !text.ends_with('\n') { "\n" } else { "" };
    out.write_all(text.as_bytes())
        .and_then(|()| out.write_all(end.as_bytes()))
        .and_then(|()| out.flush())
        .map_err(CliError::Output)
}
