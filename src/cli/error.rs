//! What stops a command, and what the caller can do about it.

use std::io;

use super::{
    EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE,
    problem::Refusal,
    text::{clean, clean_lines},
};

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The arguments make no sense together, or what they name cannot be read.
    #[error("{0}")]
    Usage(String),
    /// The node understood and refused.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// No answer came from the node.
    #[error("cannot reach the node at {url}: {why}")]
    Unreachable {
        /// What was tried.
        url: String,
        /// The innermost cause.
        why: String,
    },
    /// Something answered, in a way this version cannot read.
    #[error("cannot read the answer of {url}: {why}")]
    Unreadable {
        /// Who answered.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The answer could not be written.
    #[error("cannot write the answer")]
    Output(#[source] io::Error),
}

impl CliError {
    /// What is said of it, over as many lines as it takes; `None` if silence is right.
    #[must_use]
    pub fn report(&self) -> Option<String> {
        Some(match self {
            Self::Usage(why) => format!("error: {}\n\nFor more, try `ganger --help`.", clean_lines(why)),
            Self::Refused(refusal) => refusal.report(),
            Self::Unreachable { .. } => format!(
                "{}\nIs it running? Start one with `ganger-node`, or name another with --url or GANGER_URL.",
                clean(&self.to_string())
            ),
            Self::Unreadable { .. } => {
                format!("{}\nIs a Ganger node of this version behind --url?", clean(&self.to_string()))
            }
            // Whoever read the answer has seen enough, as in `ganger list | head`.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return None,
            Self::Output(error) => format!("cannot write the answer: {error}"),
        })
    }

    /// What the shell is told.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) => EXIT_USAGE,
            Self::Refused(refusal) if refusal.is_gateway() => EXIT_UNREACHABLE,
            Self::Refused(_) | Self::Unreadable { .. } => EXIT_REFUSED,
            Self::Unreachable { .. } => EXIT_UNREACHABLE,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Output(_) => EXIT_REFUSED,
        }
    }

    /// Whether the same request may do better in a moment.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(refusal) => refusal.is_passing(),
            Self::Usage(_) | Self::Unreadable { .. } | Self::Output(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_its_exit_status() {
        let refused = |status| CliError::Refused(Box::new(Refusal::without_problem(status, "text/html", "")));
        let unreachable = CliError::Unreachable { url: "http://n".into(), why: "refused".into() };
        for (error, status) in [
            (CliError::Usage("x".into()), 2),
            (refused(404), 1),
            (refused(500), 1),
            (refused(502), 4),
            (unreachable, 4),
            (CliError::Output(io::ErrorKind::BrokenPipe.into()), 0),
            (CliError::Output(io::ErrorKind::StorageFull.into()), 1),
        ] {
            assert_eq!(error.exit_status(), status, "{error:?}");
        }
    }

    #[test]
    fn an_unreachable_node_is_named_with_what_to_do() {
        let error =
            CliError::Unreachable { url: "http://127.0.0.1:9".into(), why: "Connection refused".into() };
        let report = error.report().expect("said aloud");
        assert!(report.starts_with("cannot reach the node at http://127.0.0.1:9: Connection refused\n"));
        assert!(report.contains("ganger-node") && report.contains("--url"), "{report}");
    }
}
