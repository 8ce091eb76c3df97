//! Logs: text for people, JSON for machines, on standard error; colours on a terminal alone.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{ConfigError, LogFormat};

/// Starts logging, once a process.
///
/// # Errors
/// `LOG_LEVEL` is not a filter.
pub fn start(level: &str, format: LogFormat) -> Result<(), ConfigError> {
    let filter = EnvFilter::try_new(level)
        .map_err(|error| ConfigError::Bad(format!("LOG_LEVEL: {level:?} is not a log filter: {error}")))?;
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format {
        LogFormat::Text => {
            registry.with(fmt::layer().with_ansi(has_colours()).with_writer(stderr)).try_init()
        }
        LogFormat::Json => {
            registry.with(fmt::layer().json().with_span_list(false).with_writer(stderr)).try_init()
        }
    };
    // A second node in one process logs with the first one's settings.
    drop(started);
    Ok(())
}

/// Codes in a file or a collector are noise, and <https://no-color.org> is kept.
fn has_colours() -> bool {
    let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stderr().is_terminal() && !is_refused
}
