//! `ganger submit`.

use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};

use crate::{
    cli::parse,
    domain::{JobId, JobState, Timestamp, WorkflowId},
};

#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct Submit {
    /// What handles the job, such as email.send
    #[arg(value_name = "TYPE")]
    pub(in crate::cli) kind: String,
    /// JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    pub(in crate::cli) payload: Option<String>,
    /// Where it waits [default: default]
    #[arg(long)]
    pub(in crate::cli) queue: Option<String>,
    /// Whose it is [default: default]
    #[arg(long)]
    pub(in crate::cli) tenant: Option<String>,
    /// 0 to 9, 9 first [default: 5]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) priority: Option<i64>,
    /// How many attempts it has, 1 to 100 [default: 5]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) max_attempts: Option<i64>,
    /// Not before this span from now, such as 15m
    #[arg(long, value_name = "SPAN", value_parser = parse::span, conflicts_with = "at")]
    pub(in crate::cli) delay: Option<Duration>,
    /// Not before this time: RFC 3339, or local without a zone
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    pub(in crate::cli) at: Option<Timestamp>,
    /// How long an attempt may take [default: 300]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) timeout_seconds: Option<i64>,
    /// A repeat with the same key is answered with the first job
    #[arg(long, value_name = "KEY")]
    pub(in crate::cli) idempotency_key: Option<String>,
    /// Jobs that must end first
    #[arg(long, value_name = "ID", num_args = 1..)]
    pub(in crate::cli) depends_on: Vec<JobId>,
    /// What a failed dependency means
    #[arg(long, value_name = "POLICY")]
    pub(in crate::cli) dependency_policy: Option<Policy>,
    /// A word to filter by; may be repeated
    #[arg(long, value_name = "TAG")]
    pub(in crate::cli) tag: Vec<String>,
    /// A label that groups jobs
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) workflow_id: Option<WorkflowId>,
    /// Canceled if it has not started by then: a time, or a span from now
    #[arg(long, value_name = "TIME|SPAN", value_parser = parse::time_or_ahead)]
    pub(in crate::cli) expires_at: Option<Timestamp>,
    /// Only one like it: what must be equal, as type, queue, tenant or a pointer such as /payload/user
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    pub(in crate::cli) unique: Vec<String>,
    /// How long it stays the only one
    #[arg(long, value_name = "SPAN", value_parser = parse::span, requires = "unique")]
    pub(in crate::cli) unique_period: Option<Duration>,
    /// In which states of the other
    #[arg(long, value_name = "STATE", value_parser = parse::state, value_delimiter = ',', requires = "unique")]
    pub(in crate::cli) unique_states: Vec<JobState>,
    /// What is done if there is another
    #[arg(long, value_name = "WAY", requires = "unique")]
    pub(in crate::cli) on_conflict: Option<OnConflict>,
    /// How long its idempotency key holds [default: as the node is set]
    #[arg(long, value_name = "SPAN", value_parser = parse::span, requires = "idempotency_key")]
    pub(in crate::cli) dedupe_window: Option<Duration>,
    #[command(flatten)]
    pub(in crate::cli) retry: RetryWay,
    /// JSON that is kept with it
    #[arg(long, value_name = "JSON")]
    pub(in crate::cli) metadata: Option<String>,
    /// The job that it belongs to
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) parent_job_id: Option<JobId>,
    /// Where a signed webhook goes when it has ended
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) on_finish: Option<String>,
    /// The version of its payload's schema
    #[arg(long, value_name = "N")]
    pub(in crate::cli) schema_version: Option<i64>,
    /// Wait until it has ended, or at most this long; exits with 0 only if it completed
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, value_parser = parse::span)]
    pub(in crate::cli) wait: Option<Option<Duration>>,
}

/// What a failed or canceled dependency means.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(in crate::cli) enum Policy {
    /// The job stays blocked
    Block,
    /// The job runs all the same
    AllowFailed,
}

impl Policy {
    /// As on the wire.
    pub(in crate::cli) fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::AllowFailed => "allow_failed",
        }
    }
}

/// How attempts follow one another.
#[derive(Debug, Clone, Copy, Default, ClapArgs)]
pub(in crate::cli) struct RetryWay {
    /// How the delay grows from attempt to attempt
    #[arg(long = "retry", value_name = "STRATEGY")]
    pub(in crate::cli) strategy: Option<Strategy>,
    /// The first delay
    #[arg(long = "retry-base", value_name = "SPAN", value_parser = parse::span)]
    pub(in crate::cli) base: Option<Duration>,
    /// The longest delay
    #[arg(long = "retry-max", value_name = "SPAN", value_parser = parse::span)]
    pub(in crate::cli) max: Option<Duration>,
    /// How much of it is chance, 0 to 1
    #[arg(long = "retry-jitter", value_name = "SHARE")]
    pub(in crate::cli) jitter: Option<f64>,
}

impl RetryWay {
    /// The contract's object; `None` if nothing was said.
    pub(in crate::cli) fn body(&self) -> Option<serde_json::Value> {
        let mut body = serde_json::Map::new();
        let mut add = |name: &str, value: Option<serde_json::Value>| {
            body.extend(value.map(|value| (name.to_owned(), value)));
        };
        add("strategy", self.strategy.map(|strategy| strategy.name().into()));
        add("baseSeconds", self.base.map(|base| base.as_secs_f64().into()));
        add("maxSeconds", self.max.map(|max| max.as_secs_f64().into()));
        add("jitter", self.jitter.map(Into::into));
        (!body.is_empty()).then_some(serde_json::Value::Object(body))
    }
}

/// How a delay grows.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(in crate::cli) enum Strategy {
    /// It doubles
    Exponential,
    /// By the same each time
    Linear,
    /// Not at all
    Fixed,
}

impl Strategy {
    fn name(self) -> &'static str {
        match self {
            Self::Exponential => "exponential",
            Self::Linear => "linear",
            Self::Fixed => "fixed",
        }
    }
}

/// What is done with a job that is not the only one.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(in crate::cli) enum OnConflict {
    /// The other is the answer
    Existing,
    /// It is refused
    Reject,
    /// A waiting other takes its payload
    Replace,
}

impl OnConflict {
    /// As on the wire.
    pub(in crate::cli) fn name(self) -> &'static str {
        match self {
            Self::Existing => "existing",
            Self::Reject => "reject",
            Self::Replace => "replace",
        }
    }
}
