//! Logs: text for people, JSON for machines, on standard error.

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
        LogFormat::Text => registry.with(fmt::layer().with_writer(std::io::stderr)).try_init(),
        LogFormat::Json => registry.with(fmt::layer().json().with_writer(std::io::stderr)).try_init(),
    };
    // A second node in one process logs with the first one's settings.
    drop(started);
    Ok(())
}
