//! `ganger watch`.
//!
//! ```text
//! open ─▶ hear … ─▶ lost ─▶ pause ─▶ open again behind the last event ─▶ …
//! ```
//! The first connection must succeed; later ones are tried until the node refuses. With `--job` it ends when the
//! job has: by its event, or by a look at the job after each greeting and reset, in case the event was missed.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    cli::{
        CliError, Outcome,
        args::Watch,
        model::StreamMessage,
        node::Node,
        render,
        screen::Screen,
        stream::{self, Backoff, Bookmark, Heard, Stream},
        text::{clean, cut},
    },
    domain::{JobId, JobView},
};

/// A ticket is good at the node that gave it, in the run that gave it: a few in a row may be lost.
const TICKETS_LOST_MAX: u32 = 5;
/// What is still under way of a job that has ended comes within this.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How much of a message that cannot be read is shown.
const NOISE_CHARS_MAX: usize = 200;

/// Follows the events until Ctrl-C, or until the job has ended.
pub(super) async fn run(node: &Node, screen: &Screen, args: &Watch) -> Result<Outcome, CliError> {
    tokio::select! {
        ended = Box::pin(follow(node, screen, args)) => ended,
        _ = tokio::signal::ctrl_c() => Ok(Outcome::Done),
    }
}

fn topics(args: &Watch) -> String {
    let job = args.job.map(|id| format!("job:{id}"));
    args.topic.iter().cloned().chain(job).collect::<Vec<_>>().join(",")
}

async fn follow(node: &Node, screen: &Screen, args: &Watch) -> Result<Outcome, CliError> {
    let topics = topics(args);
    let mut bookmark = Bookmark::at(args.since);
    let (mut backoff, mut connected, mut tickets_lost) = (Backoff::default(), false, 0);
    loop {
        let opened = match stream::ticket(node).await {
            Ok(ticket) => {
                Stream::open(node, ticket, &topics, bookmark.place()).await.map_err(|error| (error, true))
            }
            Err(error) => Err((error, false)),
        };
        let why = match opened {
            Ok(stream) => {
                (connected, tickets_lost) = (true, 0);
                match hear(node, screen, args.job, stream, &mut bookmark, &mut backoff).await {
                    Ok(Ended::Job) => return Ok(Outcome::Done),
                    Ok(Ended::Stream(why)) => why,
                    Err(error) if error.is_passing() => clean(&error.to_string()).into_owned(),
                    Err(error) => return Err(error),
                }
            }
            Err((CliError::Refused(refusal), true))
                if refusal.status() == 401 && tickets_lost < TICKETS_LOST_MAX =>
            {
                tickets_lost += 1;
                "the ticket was lost".to_owned()
            }
            Err((error, _)) if connected && error.is_passing() => clean(&error.to_string()).into_owned(),
            Err((error, _)) => return Err(error),
        };
        let pause = backoff.pause();
        screen.note(&format!("connection lost ({why}); connecting again in {:.1} s", pause.as_secs_f64()));
        sleep(pause).await;
    }
}

/// Why no more is heard.
enum Ended {
    /// The job has ended, and all of it was shown.
    Job,
    /// The connection has; why.
    Stream(String),
}

async fn hear(
    node: &Node,
    screen: &Screen,
    job: Option<JobId>,
    mut stream: Stream,
    bookmark: &mut Bookmark,
    backoff: &mut Backoff,
) -> Result<Ended, CliError> {
    // Set once the job is known to have ended by other means than its event.
    let mut ended: Option<JobView> = None;
    loop {
        let heard = match &ended {
            None => stream.next().await,
            Some(job) => match tokio::time::timeout(LAST_WORDS, stream.next()).await {
                Ok(heard) => heard,
                Err(_) => {
                    screen.note(&format!("job {} is {}", job.id, job.state));
                    return Ok(Ended::Job);
                }
            },
        };
        let (message, json) = match heard {
            Heard::Message(message, json) => (message, json),
            Heard::Noise(text) => {
                screen.note(&format!("not understood: {}", clean(&cut(&text, NOISE_CHARS_MAX))));
                continue;
            }
            Heard::End(_) if ended.is_some() => return Ok(Ended::Job),
            Heard::End(why) => return Ok(Ended::Stream(why)),
        };
        // A node that greets and hangs up, over and over, is not asked ever faster.
        if message.kind != "stream.hello" {
            backoff.reset();
        }
        if screen.json {
            screen.document_line(&json)?;
        } else if let Some(line) = render::event(&message, &screen.view()) {
            screen.show(&line)?;
        }
        // Only after it was shown: a reader that is stopped in between sees it again rather than never.
        bookmark.hear(&message);
        let Some(id) = job else { continue };
        if tells_of_end(&message, id) {
            // An old event of a job that was retried since is not its end.
            if look(node, id).await?.state.is_terminal() {
                return Ok(Ended::Job);
            }
        } else if matches!(message.kind.as_str(), "stream.hello" | "stream.reset") {
            ended = Some(look(node, id).await?).filter(|job| job.state.is_terminal());
        }
    }
}

fn tells_of_end(message: &StreamMessage, job: JobId) -> bool {
    let ended = ["completed", "failed", "canceled"];
    message.job_id == Some(job) && message.state.as_deref().is_some_and(|state| ended.contains(&state))
}

async fn look(node: &Node, id: JobId) -> Result<JobView, CliError> {
    node.get(&["jobs", &id.to_string()], &[]).await?.read()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Args, Command};

    const ID: &str = "0199a1b2-0000-7000-8000-000000000001";

    #[test]
    fn topics_are_joined_with_the_job() {
        let line = ["ganger", "watch", "--topic", "queue:a", "--topic", "kind:worker.*", "--job", ID];
        let Command::Watch(watch) = Args::try_parse_from(line).expect("well-formed").command else {
            panic!("a watch")
        };
        assert_eq!(topics(&watch), format!("queue:a,kind:worker.*,job:{ID}"));
    }

    #[test]
    fn only_the_jobs_own_terminal_events_tell_of_its_end() {
        let job: JobId = ID.parse().expect("an id");
        for (other, state, told) in [
            (ID, "completed", true),
            (ID, "canceled", true),
            (ID, "active", false),
            (&JobId::new().to_string(), "failed", false),
        ] {
            let json = format!(
                r#"{{"kind":"job.x","seq":1,"timestamp":"2026-11-23T19:00:00Z","jobId":"{other}","state":"{state}"}}"#
            );
            let message = serde_json::from_str(&json).expect("a message");
            assert_eq!(tells_of_end(&message, job), told, "{state}");
        }
    }
}
