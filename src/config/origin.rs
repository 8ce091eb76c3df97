//! Where the value of a setting came from.

use std::{ffi::OsString, fmt, path::PathBuf};

use url::Url;

/// What stands for a secret wherever settings are shown.
const MASK: &str = "***";

/// Who gave a setting its value, weakest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody.
    Default,
    /// The settings file.
    File {
        /// As it was named.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        variable: String,
    },
    /// A flag.
    Flag {
        /// With its dashes.
        flag: String,
    },
}

impl Origin {
    /// The kind, for programs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File { .. } => "file",
            Self::Environment { .. } => "environment",
            Self::Flag { .. } => "flag",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment { variable } => write!(f, "environment variable {variable}"),
            Self::Flag { flag } => write!(f, "flag {flag}"),
        }
    }
}

/// A setting as it was found, before and after it was read.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Its environment variable, which is its name in messages.
    pub name: String,
    /// Its flag, without dashes.
    pub flag: String,
    /// The text that was given, or its default; `None` where it has neither.
    pub(super) given: Option<OsString>,
    /// Who gave it.
    pub origin: Origin,
    /// Whether it is, or holds, a secret.
    pub is_secret: bool,
}

impl Setting {
    /// Its key in a settings file.
    #[must_use]
    pub fn key(&self) -> String {
        self.flag.replace('-', "_")
    }

    /// The text for people and logs: of a secret nothing, of a URL with a password all but that.
    #[must_use]
    pub fn shown(&self) -> Option<String> {
        let text = self.given.as_ref()?.to_string_lossy();
        Some(if self.is_secret { masked(&text) } else { text.into_owned() })
    }
}

fn masked(text: &str) -> String {
    let Some(mut url) = text.contains("://").then(|| Url::parse(text).ok()).flatten() else {
        return MASK.to_owned();
    };
    if url.password().is_some() && url.set_password(Some(MASK)).is_err() {
        return MASK.to_owned();
    }
    if url.query().is_some() {
        // Drivers take more there than anybody remembers: `password`, `sslpassword`, `passfile` …
        let pairs: Vec<(String, String)> = url
            .query_pairs()
            .map(|(name, value)| {
                let secret = name.contains("pass") || name.contains("secret") || name.contains("token");
                (name.into_owned(), if secret { MASK.to_owned() } else { value.into_owned() })
            })
            .collect();
        url.query_pairs_mut().clear().extend_pairs(pairs);
    }
    url.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_secret_is_shown() {
        for (text, shown) in [
            ("0123456789abcdef", "***"),
            ("whsec_abc://", "***"),
            ("postgres://u:p%40ss@db/a", "postgres://u:***@db/a"),
            (
                "postgres://db/a?user=u&password=p4ss&sslmode=require",
                "postgres://db/a?user=u&password=***&sslmode=require",
            ),
            ("smtps://user:pass@mail:465", "smtps://user:***@mail:465"),
            ("postgres://localhost/ganger", "postgres://localhost/ganger"),
        ] {
            assert_eq!(masked(text), shown);
        }
    }
}
