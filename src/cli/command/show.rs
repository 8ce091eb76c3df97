//! What most commands do: ask once, or again and again, and show the answer.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, value::RawValue};

use super::list::Pages;
use crate::cli::{
    CliError, Outcome,
    args::{HowMany, Watching},
    node::{Answer, Call, Node},
    render,
    screen::{Screen, View},
    time,
};

/// Looking costs the node work.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Shows what `look` gives (JSON if that is wanted, else text) each `every`, until Ctrl-C. The first look must
/// succeed; a node that restarts later is what one watches for.
pub(super) async fn repeat(
    screen: &Screen,
    every: Duration,
    look: impl AsyncFn() -> Result<String, CliError>,
) -> Result<Outcome, CliError> {
    let every = every.max(INTERVAL_MIN);
    let watch = async {
        let mut last = look().await?;
        loop {
            if screen.json {
                screen.document_line(&last)?;
            } else {
                let view = screen.view();
                screen.show_anew(&format!("{}\n{last}", time::at(view.now, view.utc)))?;
            }
            last = loop {
                tokio::time::sleep(every).await;
                match look().await {
                    Ok(text) => break text,
                    Err(error) if error.is_passing() => screen.note(&error.to_string()),
                    Err(error) => return Err(error),
                }
            };
        }
    };
    tokio::select! {
        ended = watch => ended,
        _ = tokio::signal::ctrl_c() => Ok(Outcome::Done),
    }
}

/// Asks, and shows the answer as `text` makes it.
pub(super) async fn thing<T: DeserializeOwned>(
    node: &Node,
    screen: &Screen,
    call: &Call,
    watching: Watching,
    text: impl Fn(&T, &View) -> String,
) -> Result<Outcome, CliError> {
    let shown = |answer: Answer| match screen.json {
        true => Ok(answer.body),
        false => Ok::<_, CliError>(text(&answer.read()?, &screen.view())),
    };
    match watching.watch {
        Some(every) => repeat(screen, every, async || shown(node.call(call).await?)).await,
        None => {
            let answer = node.call(call).await?;
            if screen.json {
                screen.document(&answer.body)?
            } else {
                screen.show(&shown(answer)?)?
            }
            Ok(Outcome::Done)
        }
    }
}

/// Makes a change, and shows what the node says of it; `done` where it says nothing.
pub(super) async fn change(
    node: &Node,
    screen: &Screen,
    call: &Call,
    done: &str,
) -> Result<Outcome, CliError> {
    let answer = node.call(call).await?;
    if screen.json {
        if !answer.body.is_empty() {
            screen.document(&answer.body)?;
        }
        return Ok(Outcome::Done);
    }
    let said: Option<Value> = if answer.body.is_empty() { None } else { Some(answer.read()?) };
    screen.show(&said.map_or_else(|| done.to_owned(), |said| render::changed(&said, done)))?;
    Ok(Outcome::Done)
}

/// A list, and how its items are drawn.
pub(super) struct Listing<'a, T> {
    pub(super) route: &'a [&'a str],
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) how_many: HowMany,
    /// What there is none of.
    pub(super) what: &'static str,
    pub(super) table: fn(&[T], bool, &View) -> String,
}

impl<T: DeserializeOwned> Listing<'_, T> {
    pub(super) async fn run(&self, node: &Node, screen: &Screen) -> Result<Outcome, CliError> {
        if let Some(every) = self.how_many.watching.watch {
            return repeat(screen, every, async || self.look(node, screen).await).await;
        }
        let limit = self.how_many.limit();
        let mut pages = self.pages(node);
        if screen.json {
            pages.write_json(screen).await?;
            return Ok(Outcome::Done);
        }
        let mut shown = 0_u64;
        while let Some(page) = pages.next().await? {
            let mut items: Vec<T> = page.read()?;
            let room = limit.map_or(u64::MAX, |limit| limit - shown.min(limit));
            items.truncate(usize::try_from(room).unwrap_or(usize::MAX));
            if !items.is_empty() {
                screen.show(&(self.table)(&items, shown == 0, &screen.view()))?;
            }
            shown += items.len() as u64;
        }
        if shown == 0 {
            screen.note(&format!("no {} match", self.what));
        } else if pages.has_more() {
            let hint = "--limit N shows more than";
            screen.note(&format!("… older ones were left out: {hint} {shown}, --all shows all"));
        }
        Ok(Outcome::Done)
    }

    fn pages<'b>(&'b self, node: &'b Node) -> Pages<'b> {
        Pages::new(node, self.route, self.query.clone(), self.how_many.limit())
    }

    /// All pages as one text.
    async fn look(&self, node: &Node, screen: &Screen) -> Result<String, CliError> {
        let mut pages = self.pages(node);
        let mut bodies = Vec::new();
        while let Some(page) = pages.next().await? {
            bodies.push(page);
        }
        if screen.json {
            let mut items: Vec<Box<RawValue>> = Vec::new();
            for body in &bodies {
                items.extend(body.read::<Vec<Box<RawValue>>>()?);
            }
            let items: Vec<&str> = items.iter().map(|item| item.get()).collect();
            return Ok(format!("[{}]", items.join(",")));
        }
        let mut items: Vec<T> = Vec::new();
        for body in &bodies {
            items.extend(body.read::<Vec<T>>()?);
        }
        Ok(if items.is_empty() {
            format!("no {} match\n", self.what)
        } else {
            (self.table)(&items, true, &screen.view())
        })
    }
}
