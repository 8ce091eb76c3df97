//! `ganger queues`.

use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};

use super::{Consent, Watching, submit::RetryWay};
use crate::cli::parse;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Queues {
    /// List them
    List(super::HowMany),
    /// Show one
    Get {
        /// The queue
        name: String,
        #[command(flatten)]
        watching: Watching,
    },
    /// Change how one works, or make it
    Set(Box<SetQueue>),
    /// Start no more of its jobs
    Pause {
        /// The queue
        name: String,
        /// Why, for the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// End a pause or a drain
    Resume {
        /// The queue
        name: String,
        /// Why, for the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Take no more jobs, end those that wait and run, then pause
    Drain {
        /// The queue
        name: String,
        /// Why, for the audit log
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Cancel all that waits there
    Purge(Purge),
}

#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct Purge {
    /// The queue
    pub(in crate::cli) name: String,
    /// Only count: nothing is canceled
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) reason: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) consent: Consent,
}

/// What is left out stays as it is.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct SetQueue {
    /// The queue
    pub(in crate::cli) name: String,
    /// How many of its jobs run at once; none for as many as workers take
    #[arg(long, value_name = "N|none", value_parser = bound)]
    pub(in crate::cli) concurrency: Option<Bound>,
    /// How many jobs may wait there, further ones are refused; none for any number
    #[arg(long, value_name = "N|none", value_parser = bound)]
    pub(in crate::cli) max_depth: Option<Bound>,
    #[command(flatten)]
    pub(in crate::cli) retry: RetryWay,
    /// Whose turn it is
    #[arg(long, value_name = "WAY")]
    pub(in crate::cli) fairness: Option<Fairness>,
    /// The share of a tenant or key; may be repeated
    #[arg(long, value_name = "KEY=N", value_parser = weight)]
    pub(in crate::cli) weight: Vec<(String, f64)>,
    /// Waiting so long lifts a job's priority by one; none for never
    #[arg(long, value_name = "SPAN|none", value_parser = span_bound)]
    pub(in crate::cli) aging: Option<Bound>,
    /// How long its leases last without a renewal; none for the node's own
    #[arg(long, value_name = "SPAN|none", value_parser = span_bound)]
    pub(in crate::cli) lease_ttl: Option<Bound>,
    /// Into how many parts it is split, 1 to 64
    #[arg(long, value_name = "N")]
    pub(in crate::cli) partitions: Option<u64>,
}

/// A number, or that there is none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::cli) enum Bound {
    /// No bound.
    None,
    /// A whole number.
    Count(u64),
    /// A span.
    Span(Duration),
}

impl Bound {
    /// As on the wire.
    pub(in crate::cli) fn json(self) -> serde_json::Value {
        match self {
            Self::None => serde_json::Value::Null,
            Self::Count(count) => count.into(),
            // Whole seconds as whole numbers: the contract's fields are often integers.
            Self::Span(span) if span.subsec_nanos() == 0 => span.as_secs().into(),
            Self::Span(span) => span.as_secs_f64().into(),
        }
    }
}

fn bound(text: &str) -> Result<Bound, String> {
    match text {
        "none" => Ok(Bound::None),
        _ => text.parse().map(Bound::Count).map_err(|_| "a whole number, or none".to_owned()),
    }
}

fn span_bound(text: &str) -> Result<Bound, String> {
    if text == "none" { Ok(Bound::None) } else { parse::span(text).map(Bound::Span) }
}

fn weight(text: &str) -> Result<(String, f64), String> {
    let parsed = text.rsplit_once('=').and_then(|(key, weight)| Some((key.to_owned(), weight.parse().ok()?)));
    parsed.ok_or_else(|| "write a share as acme=3".to_owned())
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(in crate::cli) enum Fairness {
    /// First in, first out
    None,
    /// Tenants in turn
    Tenant,
    /// Fairness keys in turn
    Key,
}

impl Fairness {
    /// As on the wire.
    pub(in crate::cli) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Tenant => "tenant",
            Self::Key => "key",
        }
    }
}
