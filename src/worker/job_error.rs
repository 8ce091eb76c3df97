//! How a job's attempt fails: a type to group by, words for a person, and whether to try again.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Why an attempt failed, and what should happen next.
///
/// Any [`std::error::Error`] turns into a retryable one through `?`; its type name becomes `error_type` and its
/// chain of sources the message. It is no `std::error::Error` itself, which is what makes that possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobError {
    /// A short stable name that dead letters are grouped by, such as `timeout` or `invalid_payload`.
    pub error_type: String,
    /// What went wrong, for a person.
    pub message: String,
    /// Where it went wrong, when known.
    pub stack_trace: Option<String>,
    /// Whether another attempt may help; if not the job is dead-lettered at once.
    pub retryable: bool,
    /// The earliest time for the next attempt, when the other side named one; else the job's backoff decides.
    pub retry_after: Option<Duration>,
}

impl JobError {
    /// A failure that another attempt may cure.
    pub fn retryable(error_type: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            error_type: error_type.into(),
            message: message.into(),
            stack_trace: None,
            retryable: true,
            retry_after: None,
        }
    }

    /// A failure that no further attempt can cure.
    pub fn fatal(error_type: impl Into<String>, message: impl Into<String>) -> Self {
        Self { retryable: false, ..Self::retryable(error_type, message) }
    }

    /// Asks for the next attempt no sooner than after `delay`.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Adds where it happened.
    #[must_use]
    pub fn with_stack(mut self, stack_trace: impl Into<String>) -> Self {
        self.stack_trace = Some(stack_trace.into());
        self
    }

    /// A retryable failure whose message is `error` and its sources.
    pub fn caused_by(error_type: impl Into<String>, error: &dyn Error) -> Self {
        Self::retryable(error_type, chain(error))
    }

    /// The payload does not have the shape that the job's type needs; trying again cannot help.
    pub fn invalid_payload(message: impl Into<String>) -> Self {
        Self::fatal("invalid_payload", message)
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error_type, self.message)
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for JobError {
    fn from(error: E) -> Self {
        let name = std::any::type_name::<E>();
        Self::caused_by(name.split('<').next().unwrap_or(name), &error)
    }
}

/// `error` and its sources in one line, without saying the same words twice.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_std_error_becomes_a_retryable_failure_named_after_its_type() {
        fn fails() -> Result<(), JobError> {
            Err(std::io::Error::other("disk gone"))?;
            Ok(())
        }
        let error = fails().unwrap_err();
        assert_eq!(error.error_type, "std::io::error::Error");
        assert_eq!(error.message, "disk gone");
        assert!(error.retryable);
    }
}
