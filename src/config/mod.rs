//! Settings: flags, environment variables and keys of a file, of one name, checked before anything starts.
//!
//! `--http-addr`, `HTTP_ADDR` and `http_addr` are the same setting; a flag wins over the environment, and that over
//! the file. A bad value stops the start with a message that names it and where it came from. Read by `bin` and
//! `system` alone, which pass parts down.
//!
//! ```text
//! flags, environment, file ─▶ launch (which value, from where) ─▶ values (read strictly) ─▶ Config ─▶ check
//! ```
//! To add a setting, add a field with `long`, `env` and a reader in `values`: the file, `ganger-node config` and
//! the messages follow from it.

mod file;
mod launch;
mod origin;
mod show;
mod values;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Parser;

pub use launch::{Launch, LaunchError};
pub use origin::{Origin, Setting};
pub use show::{json, table};

use crate::worker::OutboundAllow;

/// The key that a node without `ADMIN_TOKEN` takes, on loopback alone.
pub const DEVELOPMENT_KEY: &str = "dev-admin-token";
/// The shortest admin key that a node takes off loopback: 128 bits in hex.
pub const ADMIN_TOKEN_CHARS_MIN: usize = 32;

/// A day: a stop or a lease that takes longer is a mistake in a unit.
const SPAN_MAX: Duration = Duration::from_secs(86_400);
/// A month: a job that waits longer between two attempts is forgotten.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Ten years, as for every delay of a submission.
const DEDUPE_WINDOW_MAX: Duration = Duration::from_secs(87_600 * 3_600);

/// Every setting of a node.
#[derive(Debug, Clone, Parser)]
#[command(name = "ganger-node", version, about = "A node of Ganger, a distributed job platform")]
pub struct Config {
    /// Where the node listens. Port 0 takes a free one.
    #[arg(long, env = "HTTP_ADDR", default_value = "127.0.0.1:8080", value_parser = values::address)]
    pub http_addr: SocketAddr,
    /// The durable store; without it an embedded one in DATA_DIR.
    #[arg(long, env = "POSTGRES_URL", hide_env_values = true, value_parser = values::postgres_url)]
    pub postgres_url: Option<String>,
    /// Makes the node a member of a cluster; not available in this version.
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<String>,
    /// Part of REDIS_URL; not available in this version.
    #[arg(long, env = "REDIS_ADDR")]
    pub redis_addr: Option<String>,
    /// The embedded store, content, thumbnails, reports and outbox.
    #[arg(long, env = "DATA_DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// The bootstrap admin key. Without it the node listens on loopback only.
    #[arg(long, env = "ADMIN_TOKEN", hide_env_values = true)]
    pub admin_token: Option<String>,
    /// An origin besides the node's own whose pages may use it, such as `https://console.example.com`.
    #[arg(long, env = "DASHBOARD_ORIGIN", value_parser = values::origin)]
    pub dashboard_origin: Option<String>,
    /// The node's name; by default one that is kept in DATA_DIR.
    #[arg(long, env = "NODE_ID", value_parser = values::node_id)]
    pub node_id: Option<String>,
    /// Where file.ingest finds files; DATA_DIR/inbox by default.
    #[arg(long, env = "INGEST_ROOT")]
    pub ingest_root: Option<PathBuf>,
    /// Hosts, host:port pairs and networks, comma separated, that outbound calls may reach although they are
    /// private; `*` for all.
    #[arg(long, env = "OUTBOUND_ALLOW", default_value = "", value_parser = values::outbound_allow)]
    pub outbound_allow: OutboundAllow,
    /// How long a lease lasts without a renewal.
    #[arg(long, env = "LEASE_TTL", default_value = "30s", value_parser = values::duration)]
    pub lease_ttl: Duration,
    /// How often workers renew their leases.
    #[arg(long, env = "HEARTBEAT_INTERVAL", default_value = "10s", value_parser = values::duration)]
    pub heartbeat_interval: Duration,
    /// The first delay after a failed attempt.
    #[arg(long, env = "BASE_RETRY_DELAY", default_value = "5s", value_parser = values::duration)]
    pub base_retry_delay: Duration,
    /// The longest delay after a failed attempt.
    #[arg(long, env = "MAX_RETRY_DELAY", default_value = "15m", value_parser = values::duration)]
    pub max_retry_delay: Duration,
    /// How long an idempotency key holds unless the submission says.
    #[arg(long, env = "DEFAULT_DEDUPE_WINDOW", default_value = "15m", value_parser = values::duration)]
    pub default_dedupe_window: Duration,
    /// The queues that this node's own worker serves, comma separated; `*` for all.
    #[arg(long, env = "WORKER_QUEUES", default_value = "*")]
    pub worker_queues: String,
    /// How many jobs this node's own worker runs at once; 0 for none. The number of cores by default.
    #[arg(long, env = "WORKER_CONCURRENCY", value_parser = values::number)]
    pub worker_concurrency: Option<usize>,
    /// How long SIGTERM lets running jobs go on before they are stopped and given back.
    #[arg(long, env = "SHUTDOWN_GRACE", default_value = "20s", value_parser = values::duration)]
    pub shutdown_grace: Duration,
    /// The most leases at once on this node.
    #[arg(long, env = "LEASE_ACTORS_MAX", default_value = "20000", value_parser = values::number)]
    pub lease_actors_max: usize,
    /// What is logged: `info`, or directives such as `ganger=debug,info`.
    #[arg(long, env = "LOG_LEVEL", default_value = "info", value_parser = values::log_level)]
    pub log_level: String,
    /// How: `text` or `json`.
    #[arg(long, env = "LOG_FORMAT", default_value = "text", value_parser = values::log_format)]
    pub log_format: LogFormat,
    /// Whether the schema is brought up to date at the start.
    #[arg(long, env = "AUTO_MIGRATE", default_value = "true", value_parser = values::switch,
        action = clap::ArgAction::Set)]
    pub auto_migrate: bool,
    /// The store was restored from a backup: raise every epoch far enough that no fence is given twice.
    #[arg(long, env = "RESTORED", default_value = "false", value_parser = values::switch,
        action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub restored: bool,
    /// SMTP server for email.send, such as smtps://user:password@mail.example.com; without it mails go to
    /// DATA_DIR/outbox.
    #[arg(long, env = "SMTP_URL", hide_env_values = true, value_parser = values::smtp_url)]
    pub smtp_url: Option<String>,
    /// The sender of mails.
    #[arg(long, env = "SMTP_FROM", value_parser = values::smtp_from)]
    pub smtp_from: Option<String>,
    /// Secrets (`whsec_…`, comma separated) that webhooks are signed with; by default one that is kept in
    /// DATA_DIR.
    #[arg(long, env = "WEBHOOK_SECRET", hide_env_values = true, value_parser = values::webhook_secret)]
    pub webhook_secret: Option<String>,
    /// Seed the demo workflow, tell what happens, and go on serving.
    #[arg(long)]
    pub demo: bool,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// Settings that cannot be used together, or a value that cannot be used at all.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// One of them; names the setting and says what to do.
    #[error("{0}")]
    Bad(String),
}

fn bad(text: impl Into<String>) -> ConfigError {
    ConfigError::Bad(text.into())
}

impl Config {
    /// Checks what clap cannot: what settings mean together.
    ///
    /// # Errors
    /// The first setting at fault.
    pub fn check(&self) -> Result<(), ConfigError> {
        let has_redis = self.redis_url.is_some() || self.redis_addr.is_some();
        if has_redis && self.postgres_url.is_none() {
            return Err(bad("REDIS_URL is set but POSTGRES_URL is missing: a cluster needs both"));
        }
        if has_redis {
            return Err(bad(
                "REDIS_URL: this version runs alone, with POSTGRES_URL or an embedded store; clusters are not \
                 available yet",
            ));
        }
        let is_loopback = self.http_addr.ip().is_loopback();
        match self.admin_token.as_deref() {
            None if !is_loopback => {
                return Err(bad(format!(
                    "HTTP_ADDR: {} is not a loopback address and ADMIN_TOKEN is not set; set a key of at least \
                     {ADMIN_TOKEN_CHARS_MIN} characters",
                    self.http_addr
                )));
            }
            Some(token)
                if !is_loopback && (token.len() < ADMIN_TOKEN_CHARS_MIN || token == DEVELOPMENT_KEY) =>
            {
                return Err(bad(format!(
                    "ADMIN_TOKEN: too short for an address other than loopback; at least \
                     {ADMIN_TOKEN_CHARS_MIN} characters"
                )));
            }
            Some("") => return Err(bad("ADMIN_TOKEN is empty; unset it or give a key")),
            Some(token) if !token.bytes().all(|b| b.is_ascii_graphic()) => {
                return Err(bad("ADMIN_TOKEN: only visible ASCII characters fit into a header"));
            }
            Some(_) | None => {}
        }
        if self.lease_ttl < Duration::from_secs(1) || self.lease_ttl > SPAN_MAX {
            return Err(bad("LEASE_TTL: must be between 1s and 24h"));
        }
        if self.heartbeat_interval.is_zero() || self.heartbeat_interval * 2 > self.lease_ttl {
            return Err(bad(
                "HEARTBEAT_INTERVAL: must be at most half of LEASE_TTL, or leases run out between two",
            ));
        }
        if self.shutdown_grace > SPAN_MAX {
            return Err(bad("SHUTDOWN_GRACE: must be at most 24h"));
        }
        if self.max_retry_delay > RETRY_DELAY_MAX {
            return Err(bad("MAX_RETRY_DELAY: must be at most 720h"));
        }
        if self.default_dedupe_window.is_zero() || self.default_dedupe_window > DEDUPE_WINDOW_MAX {
            return Err(bad("DEFAULT_DEDUPE_WINDOW: must be between 1ms and 87600h"));
        }
        if self.base_retry_delay > self.max_retry_delay {
            return Err(bad("BASE_RETRY_DELAY: must not be longer than MAX_RETRY_DELAY"));
        }
        if self.lease_actors_max == 0 {
            return Err(bad("LEASE_ACTORS_MAX: must be at least 1"));
        }
        if self.worker_concurrency.is_some_and(|wanted| wanted > self.lease_actors_max) {
            return Err(bad("WORKER_CONCURRENCY: must not be over LEASE_ACTORS_MAX"));
        }
        if let Some(queues) = self.worker_queue_names()
            && let Some(name) = queues.iter().find(|name| !crate::domain::name::is_name(name))
        {
            return Err(bad(format!("WORKER_QUEUES: {name:?} is not a queue name")));
        }
        Ok(())
    }

    /// The queues that the node's own worker serves; `None` for all.
    #[must_use]
    pub fn worker_queue_names(&self) -> Option<Vec<String>> {
        let names: Vec<String> = self.worker_queues.split(',').map(|name| name.trim().to_owned()).collect();
        (!names.iter().any(|name| name == "*")).then_some(names)
    }

    /// How many jobs the node's own worker runs at once.
    #[must_use]
    pub fn concurrency(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.worker_concurrency.unwrap_or_else(cores)
    }

    /// Where file.ingest finds files.
    #[must_use]
    pub fn ingest_root(&self) -> PathBuf {
        self.ingest_root.clone().unwrap_or_else(|| self.data_dir.join("inbox"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &[&str]) -> Config {
        Config::try_parse_from(std::iter::once("ganger-node").chain(args.iter().copied())).expect("parses")
    }

    fn fault(args: &[&str]) -> String {
        config(args).check().expect_err("must be refused").to_string()
    }

    #[test]
    fn the_defaults_are_sound() {
        assert_eq!(config(&[]).check(), Ok(()));
    }

    #[test]
    fn every_refusal_names_its_setting() {
        assert!(fault(&["--http-addr", "0.0.0.0:80"]).contains("ADMIN_TOKEN"));
        assert!(fault(&["--http-addr", "0.0.0.0:80", "--admin-token", "short"]).contains("ADMIN_TOKEN"));
        assert!(fault(&["--redis-url", "redis://x"]).contains("POSTGRES_URL is missing"));
        assert!(fault(&["--redis-url", "redis://x", "--postgres-url", "postgres://x"]).contains("REDIS_URL"));
        assert!(fault(&["--lease-ttl", "10s", "--heartbeat-interval", "6s"]).contains("HEARTBEAT_INTERVAL"));
        assert!(fault(&["--base-retry-delay", "1h"]).contains("BASE_RETRY_DELAY"));
        assert!(fault(&["--shutdown-grace", "25h"]).contains("SHUTDOWN_GRACE"));
        assert!(fault(&["--default-dedupe-window", "0s"]).contains("DEFAULT_DEDUPE_WINDOW"));
        assert!(fault(&["--max-retry-delay", "9999h"]).contains("MAX_RETRY_DELAY"));
        assert!(fault(&["--worker-queues", "a, b b"]).contains("WORKER_QUEUES"));
        assert!(fault(&["--admin-token", ""]).contains("ADMIN_TOKEN"));
        assert!(fault(&["--worker-concurrency", "30000"]).contains("WORKER_CONCURRENCY"));
    }
}
