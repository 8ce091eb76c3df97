//! Asking before many things are changed.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::cli::{CliError, Outcome, args::Consent, screen::Screen, text::clean};

/// Whether to go on: asked on a terminal alone, where somebody can answer. A script has decided already.
pub(super) fn asked(consent: Consent) -> bool {
    !consent.yes && io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks; anything but a yes is a no.
pub(super) fn agrees(question: &str) -> Result<bool, CliError> {
    let mut out = io::stderr().lock();
    // Nobody can be told that standard error is closed; then the answer is no, by the end of the input.
    drop(write!(out, "{} [y/N] ", clean(question)).and_then(|()| out.flush()));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| CliError::Usage(format!("cannot read the answer: {error}; --yes goes without")))?;
    Ok(is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// What is said after a no.
pub(super) fn left_alone(screen: &Screen) -> Outcome {
    screen.note("nothing was changed");
    Outcome::NotCompleted
}

#[cfg(test)]
mod tests {
    use super::is_yes;

    #[test]
    fn only_a_yes_is_one() {
        assert!(["y\n", "Y", " yes \r\n", "YES"].into_iter().all(is_yes));
        assert!(!["", "\n", "n", "yess", "ja", "1"].into_iter().any(is_yes));
    }
}
