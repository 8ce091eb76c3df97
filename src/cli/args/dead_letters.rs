//! `ganger dlq`.

use clap::{Args as ClapArgs, Subcommand};

use super::Consent;
use crate::{
    cli::parse,
    domain::{JobId, Timestamp},
};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum DeadLetters {
    /// List them, newest first
    List(ListDeadLetters),
    /// Show them by what went wrong
    Groups(ListDeadLetters),
    /// Run them again, with changes or as they are
    Replay(Box<Replay>),
    /// Forget them and their jobs
    Delete(SomeDeadLetters),
}

/// Which dead letters.
#[derive(Debug, Default, ClapArgs)]
pub(in crate::cli) struct DeadLetterFilter {
    /// The queue
    #[arg(long)]
    pub(in crate::cli) queue: Option<String>,
    /// What went wrong
    #[arg(long)]
    pub(in crate::cli) error_type: Option<String>,
    /// The job's type
    #[arg(long = "type", value_name = "TYPE")]
    pub(in crate::cli) kind: Option<String>,
    /// The tenant
    #[arg(long)]
    pub(in crate::cli) tenant: Option<String>,
    /// The group, as `dlq groups` names it
    #[arg(long)]
    pub(in crate::cli) fingerprint: Option<String>,
    /// Failed at or after: a time, or how long ago
    #[arg(long, value_name = "TIME|SPAN", value_parser = parse::time_or_ago)]
    pub(in crate::cli) failed_after: Option<Timestamp>,
    /// Failed before: a time, or how long ago
    #[arg(long, value_name = "TIME|SPAN", value_parser = parse::time_or_ago)]
    pub(in crate::cli) failed_before: Option<Timestamp>,
}

#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct ListDeadLetters {
    #[command(flatten)]
    pub(in crate::cli) filter: DeadLetterFilter,
    #[command(flatten)]
    pub(in crate::cli) some: super::HowMany,
}

/// Some dead letters, by their jobs' ids or by what they have in common.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct SomeDeadLetters {
    /// Of these jobs
    pub(in crate::cli) ids: Vec<JobId>,
    #[command(flatten)]
    pub(in crate::cli) filter: DeadLetterFilter,
    /// Every dead letter there is
    #[arg(long)]
    pub(in crate::cli) everything: bool,
    /// Only look: nothing is changed
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    #[command(flatten)]
    pub(in crate::cli) consent: Consent,
}

#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct Replay {
    #[command(flatten)]
    pub(in crate::cli) which: SomeDeadLetters,
    /// Into this queue
    #[arg(long, value_name = "QUEUE")]
    pub(in crate::cli) set_queue: Option<String>,
    /// With this payload: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    pub(in crate::cli) set_payload: Option<String>,
    /// As this type
    #[arg(long, value_name = "TYPE")]
    pub(in crate::cli) set_type: Option<String>,
    /// With this priority, 0 to 9, 9 first
    #[arg(long, value_name = "N")]
    pub(in crate::cli) set_priority: Option<i64>,
}
