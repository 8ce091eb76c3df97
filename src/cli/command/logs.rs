//! `ganger jobs logs`.
//!
//! Lines are read from the job's own list; while it runs, the stream only says when to look again, so that a line is
//! never lost with a message.

use std::time::Duration;

use serde_json::{Value, value::RawValue};
use tokio::time::timeout;

use super::list::Pages;
use crate::{
    cli::{
        CliError, Outcome,
        args::Logs,
        node::Node,
        render,
        screen::Screen,
        stream::{self, Heard, Stream},
    },
    domain::{JobId, JobView},
};

/// Without a word of the stream it is looked this often.
const LOOK: Duration = Duration::from_secs(2);
/// The most lines of a page.
const PAGE_MAX: &str = "1000";

/// Shows the lines there are; with `--follow`, those that come, until the job has ended.
pub(super) async fn run(node: &Node, screen: &Screen, args: &Logs) -> Result<Outcome, CliError> {
    if args.follow {
        return tokio::select! {
            ended = Box::pin(follow(node, screen, args)) => ended,
            _ = tokio::signal::ctrl_c() => Ok(Outcome::Done),
        };
    }
    let id = args.id.to_string();
    let route = ["jobs", &id, "logs"];
    let mut pages = Pages::new(node, &route, query(args), args.limit);
    if screen.json {
        pages.write_json(screen).await?;
        return Ok(Outcome::Done);
    }
    let mut left = args.limit.unwrap_or(u64::MAX);
    while let Some(page) = pages.next().await? {
        for line in page.read::<Vec<Value>>()? {
            if left > 0 {
                screen.show(&render::log_line(&line, &screen.view()))?;
            }
            left = left.saturating_sub(1);
        }
    }
    Ok(Outcome::Done)
}

fn query(args: &Logs) -> Vec<(&'static str, String)> {
    let attempt = args.attempt.map(|attempt| ("attempt", attempt.to_string()));
    let level = args.level.as_ref().map(|level| ("level", level.clone()));
    attempt.into_iter().chain(level).collect()
}

/// The list's end, read again and again.
struct Tail<'a> {
    node: &'a Node,
    id: String,
    filter: Vec<(&'static str, String)>,
    /// The query of the last page; `None` for the first.
    query: Option<String>,
    /// The last line that was shown.
    seq: i64,
}

impl Tail<'_> {
    /// Shows what is new.
    async fn show(&mut self, screen: &Screen) -> Result<(), CliError> {
        let route = ["jobs", &self.id, "logs"];
        loop {
            let answer = match &self.query {
                Some(query) => self.node.get_page(&route, query).await?,
                None => self.node.get(&route, &self.filter).await?,
            };
            for raw in answer.read::<Vec<Box<RawValue>>>()? {
                let line: Value = serde_json::from_str(raw.get()).unwrap_or_default();
                // A line without a number is shown each time rather than never.
                let seq = line["seq"].as_i64().unwrap_or(i64::MAX);
                if seq <= self.seq {
                    continue;
                }
                if screen.json {
                    screen.document_line(raw.get())?;
                } else {
                    screen.show(&render::log_line(&line, &screen.view()))?;
                }
                self.seq = line["seq"].as_i64().unwrap_or(self.seq);
            }
            match answer.next {
                Some(next) if self.query.as_ref() != Some(&next) => self.query = Some(next),
                _ => return Ok(()),
            }
        }
    }
}

async fn follow(node: &Node, screen: &Screen, args: &Logs) -> Result<Outcome, CliError> {
    let id = args.id;
    let mut filter = query(args);
    filter.push(("limit", PAGE_MAX.to_owned()));
    let mut tail = Tail { node, id: id.to_string(), filter, query: None, seq: 0 };
    let mut stream: Option<Stream> = None;
    loop {
        if stream.is_none() {
            // Before looking: what is said in between is heard. Without a stream there is still the clock.
            stream = open(node, id).await.ok();
        }
        let looked = look(node, screen, &mut tail).await;
        match looked {
            Ok(true) => return Ok(Outcome::Done),
            Ok(false) => {}
            Err(error) if error.is_passing() && tail.seq > 0 => screen.note(&error.to_string()),
            Err(error) => return Err(error),
        }
        match &mut stream {
            None => tokio::time::sleep(LOOK).await,
            Some(open) => {
                if let Ok(Heard::End(_)) = timeout(LOOK, open.next()).await {
                    stream = None;
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }
}

async fn open(node: &Node, id: JobId) -> Result<Stream, CliError> {
    Stream::open(node, stream::ticket(node).await?, &format!("job:{id}"), None).await
}

/// Shows what is new; whether the job had ended before, so that nothing more comes.
async fn look(node: &Node, screen: &Screen, tail: &mut Tail<'_>) -> Result<bool, CliError> {
    let job: JobView = node.get(&["jobs", &tail.id], &[]).await?.read()?;
    tail.show(screen).await?;
    if job.state.is_terminal() {
        screen.note(&format!("job {} is {}", job.id, job.state));
    }
    Ok(job.state.is_terminal())
}
