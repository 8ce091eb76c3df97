//! `ganger top`: a live view of a node.
//!
//! ```text
//! sample (each second) ─▶ state (what is shown, keys) ─▶ render::top (pure) ─▶ terminal, put back whatever happens
//! ```
//! Without a terminal, or with `--once`, one look as plain text. A node that goes away leaves its last look on the
//! screen, marked with its time, until it is back.

mod sample;
mod state;
mod terminal;

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use crossterm::event::EventStream;
use futures_util::{FutureExt, StreamExt, future::BoxFuture};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};

use super::{CliError, Outcome, args, node::Node, render, screen::Screen};
use sample::Sample;
use state::{Key, State};
use terminal::Terminal;

/// Each look is several requests.
const EVERY_MIN: Duration = Duration::from_millis(200);
/// A node that does not answer for so long is shown as away.
const AWAY: Duration = Duration::from_secs(3);

/// Shows the node until it is told to stop.
pub(super) async fn run(node: &Node, screen: &Screen, args: &args::Top) -> Result<Outcome, CliError> {
    let first = sample::take(node).await?;
    let is_live = screen.terminal && !screen.json && !args.once && io::stdin().is_terminal();
    if !is_live {
        if screen.json {
            screen.document(&first.json())?;
        } else {
            let state = State::new(node.address.shown(), first);
            screen.show(&render::top(&state.view(), None, &screen.view()))?;
        }
        return Ok(Outcome::Done);
    }
    let mut patient = node.clone();
    patient.timeout = node.timeout.min(AWAY);
    Box::pin(live(&patient, screen, args.every.max(EVERY_MIN), first)).await
}

async fn live(node: &Node, screen: &Screen, every: Duration, first: Sample) -> Result<Outcome, CliError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::Output)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(CliError::Output)?;
    let mut state = State::new(node.address.shown(), first);
    let terminal = Terminal::enter().map_err(CliError::Output)?;
    let mut events = EventStream::new();
    let mut due = Instant::now() + every;
    let mut looking: Option<BoxFuture<'_, Result<Sample, CliError>>> = None;
    loop {
        let (width, height) = terminal.size();
        let view = super::screen::View { width: Some(width), ..screen.view() };
        let page = render::top(&state.view(), Some(usize::from(height)), &view);
        terminal.draw(&page, height).map_err(CliError::Output)?;
        let is_idle = looking.is_none();
        let look = async {
            match &mut looking {
                Some(look) => look.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            looked = look => {
                looking = None;
                due = Instant::now() + every;
                state.hear(looked);
            }
            () = sleep_until(due), if is_idle && !state.is_paused() => looking = Some(sample::take(node).boxed()),
            event = events.next() => match event {
                // Nobody can press anything any more.
                None | Some(Err(_)) => return Ok(Outcome::Done),
                Some(Ok(event)) => match Key::of(&event) {
                    Some(Key::Quit) => return Ok(Outcome::Done),
                    Some(key) => state.press(key),
                    None => {}
                },
            },
            _ = terminate.recv() => return Ok(Outcome::Done),
            _ = hangup.recv() => return Ok(Outcome::Done),
        }
    }
}
