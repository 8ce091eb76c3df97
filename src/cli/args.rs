//! The commands and their options.

use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

use super::parse::{self, Place};
use crate::domain::{JobId, JobState, Timestamp, WorkflowId};

/// Ganger's command line: submit jobs, look into them, follow and steer a node.
#[derive(Debug, Parser)]
#[command(name = "ganger", version, max_term_width = 100, propagate_version = true)]
#[command(after_help = "Exit status: 0 done, 1 refused or not completed, 2 wrong usage, 3 a wait ran out, \
    4 the node cannot be reached.")]
pub struct Args {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What every command understands.
#[derive(Debug, ClapArgs)]
pub(super) struct Global {
    /// The node [default: http://127.0.0.1:8080]; a path prefix is kept
    #[arg(long, env = "GANGER_URL", global = true, help_heading = "Global options")]
    pub(super) url: Option<String>,
    /// The API key; else ADMIN_TOKEN, else, on loopback, the development key
    ///
    /// Others on this machine can see the arguments of a process: prefer the environment.
    #[arg(
        long,
        env = "GANGER_TOKEN",
        hide_env_values = true,
        global = true,
        help_heading = "Global options"
    )]
    pub(super) token: Option<String>,
    /// Print the server's JSON and nothing else: one document, or one line per event
    #[arg(long, global = true, help_heading = "Global options")]
    pub(super) json: bool,
    /// How long one request may take, beyond what it waits for
    #[arg(long, value_name = "SPAN", value_parser = parse::span, default_value = "30s", global = true,
        help_heading = "Global options")]
    pub(super) timeout: Duration,
    /// Show times in UTC instead of local time
    #[arg(long, global = true, help_heading = "Global options")]
    pub(super) utc: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Submit a job
    Submit(Box<Submit>),
    /// Show a job: profile, attempts, timeline, dependency graph
    Get(Get),
    /// List jobs, newest first
    List(Box<List>),
    /// Follow a node's events as they happen
    Watch(Watch),
    /// Show the supervision tree, or restart a part of it
    Supervise(Supervise),
    /// Cancel a job: a waiting one at once, a running one cooperatively
    Cancel(Cancel),
    /// Run a failed or waiting job again, now
    Retry {
        /// The job
        id: JobId,
    },
    /// Show the counts of jobs, queues and workers
    Overview,
    /// Run the demo workflow on a real image and follow it to its end
    Demo(Demo),
    /// Get a ticket for a stream: good once, for 30 seconds, as ?ticket=
    Ticket,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Submit {
    /// What handles the job, such as email.send
    #[arg(value_name = "TYPE")]
    pub(super) kind: String,
    /// JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    pub(super) payload: Option<String>,
    /// Where it waits [default: default]
    #[arg(long)]
    pub(super) queue: Option<String>,
    /// Whose it is [default: default]
    #[arg(long)]
    pub(super) tenant: Option<String>,
    /// 0 to 9, 9 first [default: 5]
    #[arg(long, value_name = "N")]
    pub(super) priority: Option<i64>,
    /// How many attempts it has, 1 to 100 [default: 5]
    #[arg(long, value_name = "N")]
    pub(super) max_attempts: Option<i64>,
    /// Not before this span from now, such as 15m
    #[arg(long, value_name = "SPAN", value_parser = parse::span, conflicts_with = "at")]
    pub(super) delay: Option<Duration>,
    /// Not before this time: RFC 3339, or local without a zone
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    pub(super) at: Option<Timestamp>,
    /// How long an attempt may take [default: 300]
    #[arg(long, value_name = "N")]
    pub(super) timeout_seconds: Option<i64>,
    /// A repeat with the same key is answered with the first job
    #[arg(long, value_name = "KEY")]
    pub(super) idempotency_key: Option<String>,
    /// Jobs that must end first
    #[arg(long, value_name = "ID", num_args = 1..)]
    pub(super) depends_on: Vec<JobId>,
    /// What a failed dependency means
    #[arg(long, value_name = "POLICY")]
    pub(super) dependency_policy: Option<Policy>,
    /// A word to filter by; may be repeated
    #[arg(long, value_name = "TAG")]
    pub(super) tag: Vec<String>,
    /// A label that groups jobs
    #[arg(long, value_name = "ID")]
    pub(super) workflow_id: Option<WorkflowId>,
    /// Wait until it has ended, or at most this long; exits with 0 only if it completed
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, value_parser = parse::span)]
    pub(super) wait: Option<Option<Duration>>,
}

/// What a failed or canceled dependency means.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Policy {
    /// The job stays blocked
    Block,
    /// The job runs all the same
    AllowFailed,
}

impl Policy {
    /// As on the wire.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::AllowFailed => "allow_failed",
        }
    }
}

#[derive(Debug, ClapArgs)]
pub(super) struct Get {
    /// The job
    pub(super) id: JobId,
    /// Only its timeline
    #[arg(long)]
    pub(super) events: bool,
    /// Only its attempts
    #[arg(long)]
    pub(super) attempts: bool,
    /// Only its dependency graph
    #[arg(long)]
    pub(super) graph: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct List {
    /// One of these states; may be repeated
    #[arg(long, value_name = "STATE", value_parser = parse::state, value_delimiter = ',')]
    pub(super) state: Vec<JobState>,
    /// The queue
    #[arg(long)]
    pub(super) queue: Option<String>,
    /// The type
    #[arg(long = "type", value_name = "TYPE")]
    pub(super) kind: Option<String>,
    /// The tenant
    #[arg(long)]
    pub(super) tenant: Option<String>,
    /// The worker that runs it, or ran it last
    #[arg(long)]
    pub(super) worker: Option<String>,
    /// The workflow
    #[arg(long, value_name = "ID")]
    pub(super) workflow_id: Option<WorkflowId>,
    /// A tag it has
    #[arg(long)]
    pub(super) tag: Option<String>,
    /// Any part of its id, type or last error
    #[arg(long, value_name = "TEXT")]
    pub(super) q: Option<String>,
    /// Made at or after: a time, or how long ago
    #[arg(long, value_name = "TIME|SPAN", value_parser = parse::time_or_ago)]
    pub(super) created_after: Option<Timestamp>,
    /// Made before: a time, or how long ago
    #[arg(long, value_name = "TIME|SPAN", value_parser = parse::time_or_ago)]
    pub(super) created_before: Option<Timestamp>,
    /// The most jobs to list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) limit: u64,
    /// All of them, however many
    #[arg(long, conflicts_with = "limit")]
    pub(super) all: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Watch {
    /// Only this: queue:mail, workflow:ID, kind:worker.*; may be repeated
    #[arg(long, value_name = "TOPIC", value_delimiter = ',')]
    pub(super) topic: Vec<String>,
    /// Only this job, until it has ended
    #[arg(long, value_name = "ID")]
    pub(super) job: Option<JobId>,
    /// Go on behind this event: streamId:seq
    #[arg(long, value_name = "PLACE", value_parser = parse::place)]
    pub(super) since: Option<Place>,
}

#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Supervise {
    #[command(subcommand)]
    pub(super) action: Option<SuperviseAction>,
    /// Where to begin: names from the root, joined by /
    pub(super) path: Option<String>,
    /// How many levels below it [default: 2; with --kind, all]
    #[arg(long, value_name = "N")]
    pub(super) depth: Option<u32>,
    /// Actors of this kind only
    #[arg(long)]
    pub(super) kind: Option<String>,
    /// The most children of one actor [default: 20; with --kind, 100]
    #[arg(long, value_name = "N")]
    pub(super) limit: Option<u32>,
    /// Go on behind this child of PATH, as named where children were left out
    #[arg(long, value_name = "CURSOR")]
    pub(super) after: Option<String>,
    /// Show it again and again, until Ctrl-C; --watch=SPAN sets how often
    #[arg(long, value_name = "SPAN", num_args = 0..=1, require_equals = true, value_parser = parse::span,
        default_missing_value = "2s")]
    pub(super) watch: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub(super) enum SuperviseAction {
    /// Start an actor, and all below it, afresh; nothing durable is lost
    Restart {
        /// Names from the root, joined by /
        path: String,
    },
}

#[derive(Debug, ClapArgs)]
pub(super) struct Cancel {
    /// The job
    pub(super) id: JobId,
    /// Why, for its timeline
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Demo {
    /// The image: file:// under the node's inbox, data:, or http(s)://
    #[arg(long, value_name = "URL")]
    pub(super) source: Option<String>,
    /// Whose jobs they are [default: default]
    #[arg(long)]
    pub(super) tenant: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0199a1b2-0000-7000-8000-000000000001";

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("ganger").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_is_sound() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn every_documented_form_is_understood() {
        for line in [
            "submit noop",
            "submit noop --payload - --queue q --tenant t --priority 9 --max-attempts 3 --delay 15m",
            "submit noop --payload -1 --at 2026-11-23T19:00:00Z --timeout-seconds 5 --idempotency-key k",
            &format!("submit noop --depends-on {ID} {ID} --dependency-policy allow_failed --tag a --tag b"),
            &format!("submit noop --workflow-id {ID} --wait"),
            "submit noop --wait 10 --json --utc --timeout 5s --url http://n --token t",
            &format!("get {ID} --events --attempts --graph"),
            "list --state failed --state active,queued --queue q --type t --tenant x --worker w --all",
            &format!("list --workflow-id {ID} --tag a --q boom --created-after 15m --limit 5000"),
            "list --created-before 2026-11-23T19:00:00Z",
            "watch",
            &format!("watch --topic queue:a --topic kind:worker.* --job {ID} --since {ID}:4"),
            "supervise",
            "supervise node/shards --depth 2 --kind queue --watch --limit 5 --after 17",
            "supervise --watch=500ms node",
            "supervise restart node/shards/shard-17",
            &format!("cancel {ID} --reason why"),
            &format!("retry {ID}"),
            "overview",
            "demo --source data:image/png;base64,AA== --tenant t",
            "ticket --json",
            "--json overview",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).expect_err("refused"));
        }
    }

    #[test]
    fn wrong_usage_is_refused_with_2() {
        for line in [
            "",
            "nothing",
            "submit",
            "submit --wait noop",
            "submit noop --delay 1m --at 2026-11-23T19:00:00Z",
            "submit noop --dependency-policy maybe",
            "get",
            "get 17",
            "list --state done",
            "list --limit 0",
            "list --all --limit 5",
            "watch --since 4",
            "supervise restart",
            "overview --timeout soon",
        ] {
            assert_eq!(parse(line).expect_err("refused").exit_code(), 2, "{line}");
        }
    }
}
