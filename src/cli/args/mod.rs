//! The commands and their options.

mod dead_letters;
mod jobs;
mod queues;
mod submit;

use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand};

use super::parse::{self, Place};
use crate::domain::{JobId, Timestamp};

pub(super) use dead_letters::{DeadLetterFilter, DeadLetters, ListDeadLetters, Replay, SomeDeadLetters};
pub(super) use jobs::{Batch, Bulk, Filter, Jobs, List, Logs, Patch, SetPatch, SomeJobs};
pub(super) use queues::{Purge, Queues, SetQueue};
pub(super) use submit::Submit;

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
    /// The API key; else GANGER_KEY, else ADMIN_TOKEN, else, on loopback, the development key
    ///
    /// Others on this machine can see the arguments of a process: prefer the environment.
    #[arg(
        long,
        env = "GANGER_TOKEN",
        visible_alias = "key",
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
    /// Show all of a job: profile, attempts, timeline, dependency graph
    Get(Get),
    /// List jobs, newest first
    List(Box<List>),
    /// Everything about jobs: batches, logs, changes, many at once
    #[command(subcommand, visible_alias = "job")]
    Jobs(Jobs),
    /// Changes to many jobs that go on in the background
    #[command(subcommand, visible_alias = "operation")]
    Operations(Operations),
    /// Queues: look, set, pause, drain, purge
    #[command(subcommand, visible_alias = "queue")]
    Queues(Queues),
    /// Workers: look, cordon, drain
    #[command(subcommand, visible_alias = "worker")]
    Workers(Workers),
    /// Dead letters: look, replay, delete
    #[command(subcommand)]
    Dlq(DeadLetters),
    /// Follow a node's events as they happen
    #[command(visible_alias = "events")]
    Watch(Watch),
    /// A live view of queues, workers and actors
    Top(Top),
    /// Show the supervision tree, or restart a part of it
    #[command(visible_alias = "supervision")]
    Supervise(Supervise),
    /// Cancel a job: a waiting one at once, a running one cooperatively
    Cancel(Cancel),
    /// Run a failed or waiting job again, now
    Retry {
        /// The job
        id: JobId,
    },
    /// Show the counts of jobs, queues and workers
    Overview(Watching),
    /// Show the last hour: rates, latencies, what is dead, blocked or throttled
    Dashboard {
        /// How fine the trend is [default: 300]
        #[arg(long, value_name = "N")]
        bucket_seconds: Option<u64>,
        #[command(flatten)]
        watching: Watching,
    },
    /// Show who changed what, newest first
    Audit(Box<Audit>),
    /// Show whether the node lives and is ready, part by part
    Health(Watching),
    /// Print the API's description, OpenAPI 3.1
    Openapi,
    /// Run the demo workflow on a real image and follow it to its end
    Demo(Demo),
    /// Get a ticket for a stream: good once, for 30 seconds, as ?ticket=
    Ticket,
}

/// Looking again and again.
#[derive(Debug, Clone, Copy, Default, ClapArgs)]
pub(super) struct Watching {
    /// Show it again and again, until Ctrl-C; --watch=SPAN sets how often
    #[arg(long, value_name = "SPAN", num_args = 0..=1, require_equals = true, value_parser = parse::span,
        default_missing_value = "2s")]
    pub(super) watch: Option<Duration>,
}

/// How much of a list.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub(super) struct HowMany {
    /// The most to list
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) limit: u64,
    /// All of them, however many
    #[arg(long, conflicts_with = "limit")]
    pub(super) all: bool,
    #[command(flatten)]
    pub(super) watching: Watching,
}

impl HowMany {
    /// The most, or `None` for all.
    pub(super) fn limit(&self) -> Option<u64> {
        (!self.all).then_some(self.limit)
    }
}

/// Consent that was given beforehand.
#[derive(Debug, Clone, Copy, ClapArgs)]
pub(super) struct Consent {
    /// Do not ask on a terminal
    #[arg(long, short)]
    pub(super) yes: bool,
}

#[derive(Debug, ClapArgs)]
pub(super) struct Audit {
    /// Who did it
    #[arg(long)]
    pub(super) actor: Option<String>,
    /// What was done, such as job.updated
    #[arg(long)]
    pub(super) action: Option<String>,
    /// To what kind of thing, such as queue
    #[arg(long)]
    pub(super) object_type: Option<String>,
    /// To which
    #[arg(long, value_name = "ID")]
    pub(super) object_id: Option<String>,
    /// At or after: a time, or how long ago
    #[arg(long, value_name = "TIME|SPAN", value_parser = parse::time_or_ago)]
    pub(super) created_after: Option<Timestamp>,
    /// Before: a time, or how long ago
    #[arg(long, value_name = "TIME|SPAN", value_parser = parse::time_or_ago)]
    pub(super) created_before: Option<Timestamp>,
    #[command(flatten)]
    pub(super) how_many: HowMany,
}

#[derive(Debug, Subcommand)]
pub(super) enum Operations {
    /// List them, newest first
    List(HowMany),
    /// Show one
    Get {
        /// The operation
        id: String,
        #[command(flatten)]
        watching: Watching,
    },
    /// End one early; what it has changed stays changed
    Abort {
        /// The operation
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Workers {
    /// List them
    List(HowMany),
    /// Show one
    Get {
        /// The worker
        id: String,
        #[command(flatten)]
        watching: Watching,
    },
    /// Give it no more jobs
    Cordon {
        /// The worker
        id: String,
    },
    /// Give it jobs again
    Resume {
        /// The worker
        id: String,
    },
    /// Let it end its jobs and leave
    Drain {
        /// The worker
        id: String,
    },
}

#[derive(Debug, ClapArgs)]
pub(super) struct Top {
    /// One look and the end, as when the output is no terminal
    #[arg(long)]
    pub(super) once: bool,
    /// How often it looks
    #[arg(long, value_name = "SPAN", value_parser = parse::span, default_value = "1s")]
    pub(super) every: Duration,
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
    #[command(flatten)]
    pub(super) watching: Watching,
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
            "submit noop --expires-at 2h --unique type,queue,/payload/a --unique-period 1h --on-conflict reject",
            "submit noop --unique type --unique-states queued,active --retry fixed --retry-base 5s --on-finish http://x",
            "jobs batch jobs.json",
            "jobs batch - --ndjson --json",
            "job list --state queued --watch",
            &format!("jobs get {ID} --watch=1s"),
            &format!("jobs logs {ID} --follow --limit 5"),
            &format!("jobs wait {ID} 2.5"),
            &format!(
                "jobs patch {ID} --priority 9 --queue q --run-at 15m --payload {{}} --max-attempts 3 --tag a"
            ),
            &format!("jobs patch {ID} --no-tags"),
            &format!("jobs bulk cancel {ID} {ID} --yes"),
            "jobs bulk retry --state failed --queue q --dry-run",
            "jobs bulk delete --everything --async -y",
            "jobs bulk update --tag a --set-priority 3 --set-queue q --set-tag b",
            "operations list --watch",
            &format!("operations abort {ID}"),
            "queues list --all",
            "queues set q --concurrency none --max-depth 10 --retry linear --fairness key --weight a=3 --weight b=1",
            "queue purge q --dry-run",
            "workers drain w/1",
            "dlq list --error-type smtp --type email.send",
            "dlq groups --watch=5s",
            &format!("dlq replay {ID} --set-queue q --set-payload [] --set-type t --set-priority 1"),
            "dlq delete --queue q -y",
            "dashboard --bucket-seconds 60 --watch",
            "audit --limit 5",
            "health --watch --key k",
            "events --topic kind:queue.*",
            "supervision node",
            "top --once --every 2s",
            "--json overview",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).expect_err("refused"));
        }
    }

    /// The commands without further ones, as they are typed, each with its options.
    fn leaves(command: &clap::Command, above: &str, found: &mut Vec<(String, Vec<String>)>) {
        let further: Vec<&clap::Command> =
            command.get_subcommands().filter(|command| command.get_name() != "help").collect();
        if further.is_empty() || command.get_name() == "supervise" {
            let own = command.get_arguments().filter(|arg| !arg.is_global_set());
            let options = own.filter_map(|arg| arg.get_long()).map(|long| format!("--{long}"));
            found.push((above.to_owned(), options.collect()));
        }
        for command in further {
            leaves(command, format!("{above} {}", command.get_name()).trim_start(), found);
        }
    }

    #[test]
    fn the_handbook_has_every_command_and_option_and_no_other() {
        let handbook = include_str!("../../../docs/cli.md").replace('\n', " ");
        let mut commands = Vec::new();
        leaves(&<Args as clap::CommandFactory>::command(), "", &mut commands);
        assert!(commands.len() > 40, "{commands:?}");
        let named: Vec<&str> =
            handbook.split("**`").skip(1).filter_map(|rest| rest.split('`').next()).collect();
        let is = |named: &str, command: &str| {
            let words: Vec<&str> =
                named.split(' ').filter(|word| word.starts_with(char::is_lowercase)).collect();
            words.join(" ") == command
        };
        for (command, options) in &commands {
            assert!(named.iter().any(|named| is(named, command)), "docs/cli.md lacks **`{command}`**");
            for option in options.iter().filter(|option| *option != "--help" && *option != "--version") {
                let stands = |end: &str| handbook.contains(&format!("{option}{end}"));
                let found = [" ", "`", "]", "[", "=", ")"].into_iter().any(stands);
                assert!(found, "docs/cli.md lacks {option} of `{command}`");
            }
        }
        for named in named {
            assert!(
                commands.iter().any(|(command, _)| is(named, command)),
                "docs/cli.md has **`{named}`**, which is none"
            );
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
            "jobs",
            "jobs patch",
            "jobs bulk explode",
            "queues set",
            "queues set q --weight a",
            "queues set q --concurrency many",
            "submit noop --unique-period 1h",
            "submit noop --unique type --on-conflict maybe",
            &format!("jobs patch {ID} --tag a --no-tags"),
            "dlq replay --set-priority high",
        ] {
            assert_eq!(parse(line).expect_err("refused").exit_code(), 2, "{line}");
        }
    }
}
