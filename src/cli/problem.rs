//! A refusal, as a node tells it (RFC 9457), or as something between us and the node does.

use std::fmt;

use serde::Deserialize;

use super::text::{clean, cut};
use crate::domain::FieldError;

/// How much of an answer that is no problem document is shown.
const FOREIGN_CHARS_MAX: usize = 200;

/// What of a problem document is shown; all of it may be missing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: Option<String>,
    detail: Option<String>,
    errors: Vec<FieldError>,
}

/// An answer with an error status.
#[derive(Debug)]
pub struct Refusal {
    status: u16,
    /// Absent if it was no node that refused.
    problem: Option<Problem>,
    foreign: String,
    retry_after: Option<String>,
    location: Option<String>,
}

impl Refusal {
    /// From a problem document; from any other answer, its beginning is kept.
    pub(super) fn new(status: u16, media_type: &str, body: &str) -> Self {
        let is_json = media_type.split(';').next().is_some_and(|media| media.trim().ends_with("json"));
        match serde_json::from_str(body) {
            Ok(problem) if is_json => Self { problem: Some(problem), ..Self::foreign(status, "") },
            _ => Self::foreign(status, body),
        }
    }

    fn foreign(status: u16, body: &str) -> Self {
        let foreign = cut(body.trim(), FOREIGN_CHARS_MAX).into_owned();
        Self { status, problem: None, foreign, retry_after: None, location: None }
    }

    #[cfg(test)]
    pub(super) fn without_problem(status: u16, media_type: &str, body: &str) -> Self {
        Self::new(status, media_type, body)
    }

    pub(super) fn with_retry_after(mut self, seconds: Option<String>) -> Self {
        self.retry_after = seconds;
        self
    }

    pub(super) fn with_location(mut self, location: Option<String>) -> Self {
        self.location = location;
        self
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// Whether a gateway says that it cannot reach the node.
    pub(super) fn is_gateway(&self) -> bool {
        self.problem.is_none() && matches!(self.status, 502..=504)
    }

    /// Whether the same request may do better in a moment.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self.status, 429 | 503) || self.is_gateway()
    }

    /// `title: detail`, then a line for each field at fault, then what can be done.
    pub(super) fn report(&self) -> String {
        let mut lines = vec![clean(&self.to_string()).into_owned()];
        for field in self.problem.iter().flat_map(|problem| &problem.errors) {
            let pointer = if field.pointer.is_empty() { "/" } else { &field.pointer };
            lines.push(format!("  {}: {}", clean(pointer), clean(&field.detail)));
        }
        if let Some(seconds) = &self.retry_after {
            lines.push(format!("Try again after {} s.", clean(seconds)));
        }
        if let Some(location) = &self.location {
            lines.push(format!("It names {}: is --url right?", clean(location)));
        }
        match self.status {
            401 => lines.push("Name a key with GANGER_TOKEN (or ADMIN_TOKEN), or with --token.".to_owned()),
            502..=504 if self.is_gateway() => {
                lines.push("A gateway answered, not the node: is the node behind --url running?".to_owned());
            }
            _ => {}
        }
        lines.join("\n")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            Some(Problem { title: Some(title), detail: Some(detail), .. }) => write!(f, "{title}: {detail}"),
            Some(Problem { title: Some(only), .. } | Problem { detail: Some(only), .. }) => f.write_str(only),
            Some(_) => write!(f, "refused with status {}", self.status),
            None if self.foreign.is_empty() => write!(f, "refused with status {}", self.status),
            None => write!(f, "refused with status {}: {}", self.status, self.foreign),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBLEM: &str = "application/problem+json";

    #[test]
    fn a_problem_is_told_with_a_line_for_each_field() {
        let body = r#"{"type":"urn:ganger:problem:validation_failed","title":"Unprocessable Entity","status":422,
            "detail":"2 fields are not valid","errors":[
            {"pointer":"/priority","detail":"must be between 0 and 9"},{"pointer":"","detail":"too large"}]}"#;
        assert_eq!(
            Refusal::new(422, PROBLEM, body).report(),
            "Unprocessable Entity: 2 fields are not valid\n  /priority: must be between 0 and 9\n  /: too large"
        );
    }

    #[test]
    fn what_can_be_done_is_said() {
        let body = r#"{"title":"Too Many Requests","detail":"slow down"}"#;
        let report = Refusal::new(429, PROBLEM, body).with_retry_after(Some("7".into())).report();
        assert_eq!(report, "Too Many Requests: slow down\nTry again after 7 s.");
        assert!(Refusal::new(401, PROBLEM, "{}").report().contains("GANGER_TOKEN"));
    }

    #[test]
    fn another_servers_answer_is_shown_in_short_and_harmless() {
        let refusal = Refusal::new(502, "text/html", &format!("<h1>\u{1b}[2J{}", "x".repeat(5_000)));
        let report = refusal.report();
        assert!(report.len() < 500 && !report.contains('\u{1b}'), "{report}");
        assert!(refusal.is_gateway() && refusal.is_passing());
        assert!(!Refusal::new(503, PROBLEM, "{}").is_gateway());
    }
}
