//! `ganger jobs`.

use std::{path::PathBuf, time::Duration};

use clap::{Args as ClapArgs, Subcommand};

use super::{Cancel, Consent, HowMany, Submit, Watching};
use crate::{
    cli::parse,
    domain::{JobId, JobState, Timestamp, WorkflowId},
};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Jobs {
    /// Submit a job
    Submit(Box<Submit>),
    /// Submit many jobs, all or none; as ndjson, any number of them as they come
    Batch(Batch),
    /// List jobs, newest first
    List(Box<List>),
    /// Show a job's profile
    Get(One),
    /// Show all of a job: profile, attempts, timeline, dependency graph
    Inspect {
        /// The job
        id: JobId,
    },
    /// Show its timeline, oldest first
    Events {
        /// The job
        id: JobId,
    },
    /// Show its attempts
    Attempts {
        /// The job
        id: JobId,
    },
    /// Show its dependency graph
    Graph {
        /// The job
        id: JobId,
    },
    /// Show what its handlers have logged
    Logs(Logs),
    /// Say why it is not running, or that it is
    Explain(One),
    /// Wait until it has ended; exits with 0 only if it completed
    Wait {
        /// The job
        id: JobId,
        /// Wait at most this long, then exit with 3
        #[arg(value_name = "SPAN", value_parser = parse::span)]
        limit: Option<Duration>,
    },
    /// Change a job that waits
    #[command(visible_alias = "update")]
    Patch(Patch),
    /// Forget a job that has ended
    Delete {
        /// The job
        id: JobId,
    },
    /// Run a failed or waiting job again, now
    Retry {
        /// The job
        id: JobId,
    },
    /// Cancel a job: a waiting one at once, a running one cooperatively
    Cancel(Cancel),
    /// Change many jobs at once
    #[command(subcommand)]
    Bulk(Box<Bulk>),
}

/// One job.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct One {
    /// The job
    pub(in crate::cli) id: JobId,
    #[command(flatten)]
    pub(in crate::cli) watching: Watching,
}

#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct Batch {
    /// JSON (an array of submissions, or {"jobs": […]}), or, as *.ndjson or *.jsonl, one submission a line; - for
    /// standard input
    pub(in crate::cli) file: PathBuf,
    /// One submission a line, whatever the file is called
    #[arg(long)]
    pub(in crate::cli) ndjson: bool,
}

/// Which jobs.
#[derive(Debug, Default, ClapArgs)]
pub(in crate::cli) struct Filter {
    /// One of these states; may be repeated
    #[arg(long, value_name = "STATE", value_parser = parse::state, value_delimiter = ',')]
    pub(in crate::cli) state: Vec<JobState>,
    /// The queue
    #[arg(long)]
    pub(in crate::cli) queue: Option<String>,
    /// The type
    #[arg(long = "type", value_name = "TYPE")]
    pub(in crate::cli) kind: Option<String>,
    /// The tenant
    #[arg(long)]
    pub(in crate::cli) tenant: Option<String>,
    /// The worker that runs it, or ran it last
    #[arg(long)]
    pub(in crate::cli) worker: Option<String>,
    /// The workflow
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) workflow_id: Option<WorkflowId>,
    /// A tag it has
    #[arg(long)]
    pub(in crate::cli) tag: Option<String>,
    /// Any part of its id, type or last error
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) q: Option<String>,
    /// Made at or after: a time, or how long ago
    #[arg(long, value_name = "TIME|SPAN", value_parser = parse::time_or_ago)]
    pub(in crate::cli) created_after: Option<Timestamp>,
    /// Made before: a time, or how long ago
    #[arg(long, value_name = "TIME|SPAN", value_parser = parse::time_or_ago)]
    pub(in crate::cli) created_before: Option<Timestamp>,
}

#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    pub(in crate::cli) filter: Filter,
    #[command(flatten)]
    pub(in crate::cli) some: HowMany,
}

#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct Logs {
    /// The job
    pub(in crate::cli) id: JobId,
    /// Go on with new lines until it has ended
    #[arg(long, short)]
    pub(in crate::cli) follow: bool,
    /// Only of this attempt
    #[arg(long, value_name = "N")]
    pub(in crate::cli) attempt: Option<u32>,
    /// Only lines at least this loud: trace, debug, info, warn, error
    #[arg(long)]
    pub(in crate::cli) level: Option<String>,
    /// The most lines to show [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(in crate::cli) limit: Option<u64>,
}

#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct Patch {
    /// The job
    pub(in crate::cli) id: JobId,
    /// 0 to 9, 9 first
    #[arg(long, value_name = "N")]
    pub(in crate::cli) priority: Option<i64>,
    /// Where it waits
    #[arg(long)]
    pub(in crate::cli) queue: Option<String>,
    /// Not before: a time, or a span from now
    #[arg(long, value_name = "TIME|SPAN", value_parser = parse::time_or_ahead)]
    pub(in crate::cli) run_at: Option<Timestamp>,
    /// JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    pub(in crate::cli) payload: Option<String>,
    /// How many attempts it has, 1 to 100
    #[arg(long, value_name = "N")]
    pub(in crate::cli) max_attempts: Option<i64>,
    /// Its tags from now on; may be repeated
    #[arg(long, value_name = "TAG")]
    pub(in crate::cli) tag: Vec<String>,
    /// It has no tags any more
    #[arg(long, conflicts_with = "tag")]
    pub(in crate::cli) no_tags: bool,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Bulk {
    /// Cancel them
    Cancel(SomeJobs),
    /// Run them again, now
    Retry(SomeJobs),
    /// Forget those that have ended
    Delete(SomeJobs),
    /// Change those that wait
    Update {
        #[command(flatten)]
        which: SomeJobs,
        #[command(flatten)]
        patch: SetPatch,
    },
}

/// Some jobs, by their ids or by what they have in common, and how it is done.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct SomeJobs {
    /// These jobs
    pub(in crate::cli) ids: Vec<JobId>,
    #[command(flatten)]
    pub(in crate::cli) filter: Filter,
    /// Every job there is
    #[arg(long)]
    pub(in crate::cli) everything: bool,
    /// Only count: nothing is changed
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) reason: Option<String>,
    /// In the background: the answer is an operation
    #[arg(long = "async", conflicts_with = "dry_run")]
    pub(in crate::cli) background: bool,
    #[command(flatten)]
    pub(in crate::cli) consent: Consent,
}

/// What becomes of them.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct SetPatch {
    /// 0 to 9, 9 first
    #[arg(long, value_name = "N")]
    pub(in crate::cli) set_priority: Option<i64>,
    /// Where they wait
    #[arg(long, value_name = "QUEUE")]
    pub(in crate::cli) set_queue: Option<String>,
    /// Not before: a time, or a span from now
    #[arg(long, value_name = "TIME|SPAN", value_parser = parse::time_or_ahead)]
    pub(in crate::cli) set_run_at: Option<Timestamp>,
    /// JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    pub(in crate::cli) set_payload: Option<String>,
    /// How many attempts they have, 1 to 100
    #[arg(long, value_name = "N")]
    pub(in crate::cli) set_max_attempts: Option<i64>,
    /// Their tags from now on; may be repeated
    #[arg(long, value_name = "TAG")]
    pub(in crate::cli) set_tag: Vec<String>,
}
