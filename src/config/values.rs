//! The values of single settings, read strictly: what is wrong is said with what would be right.

use std::{net::SocketAddr, time::Duration};

use tracing_subscriber::EnvFilter;
use url::Url;

use super::LogFormat;
use crate::{
    domain::name,
    worker::{OutboundAllow, SmtpSettings, WebhookSigner},
};

/// What a filter of logs may say of a target.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// An address to listen on.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "not an IP address with a port, such as 127.0.0.1:8080 or [::1]:0".to_owned())
}

/// A duration such as `250ms`, `30s`, `15m`, `2h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let hint = || "not a duration such as 250ms, 30s, 15m or 2h".to_owned();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| hint())?;
    let millis = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => return Err(hint()),
    };
    millis.map(Duration::from_millis).ok_or_else(|| "too long a duration".to_owned())
}

/// Yes or no, as people write it.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err("not one of true, 1, yes, false, 0 and no".to_owned()),
    }
}

/// A whole number.
pub(super) fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "not a whole number".to_owned())
}

/// Directives for logs. A filter takes any word as the name of a target and would then log nothing else: a level that
/// is misspelt must not silence a node.
pub(super) fn log_level(text: &str) -> Result<String, String> {
    let hint =
        || "not a level (off, error, warn, info, debug, trace) or directives such as ganger=debug,info";
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let is_directive = |directive: &str| match directive.rsplit_once('=') {
        Some((target, level)) => !target.is_empty() && is_level(level),
        None => is_level(directive),
    };
    if !text.split(',').map(str::trim).all(is_directive) {
        return Err(hint().to_owned());
    }
    let trimmed: Vec<&str> = text.split(',').map(str::trim).collect();
    let filter = trimmed.join(",");
    EnvFilter::try_new(&filter).map_err(|error| format!("{}: {error}", hint()))?;
    Ok(filter)
}

/// How logs are written.
pub(super) fn log_format(text: &str) -> Result<LogFormat, String> {
    match text.to_ascii_lowercase().as_str() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("not text or json".to_owned()),
    }
}

/// Exceptions from the guard of outbound calls.
pub(super) fn outbound_allow(text: &str) -> Result<OutboundAllow, String> {
    text.parse::<OutboundAllow>().map_err(|error| {
        format!("{error}; write *, hosts, host:port pairs and networks, comma separated: hooks.internal,10.1.0.0/16")
    })
}

/// A name as the contract has them.
pub(super) fn node_id(text: &str) -> Result<String, String> {
    if name::is_name(text) {
        Ok(text.to_owned())
    } else {
        Err("not a name: 1 to 128 letters, digits and . _ : / -, the first a letter or digit".to_owned())
    }
}

/// An origin: scheme, host and port, nothing else.
pub(super) fn origin(text: &str) -> Result<String, String> {
    let is_origin = |url: &Url| {
        let shown = url.as_str();
        matches!(url.scheme(), "http" | "https")
            && shown == format!("{}/", url.origin().ascii_serialization())
    };
    match Url::parse(text) {
        Ok(url) if is_origin(&url) => Ok(text.to_owned()),
        Ok(_) | Err(_) => Err("not an origin such as https://console.example.com, without a path".to_owned()),
    }
}

/// A database's URL.
pub(super) fn postgres_url(text: &str) -> Result<String, String> {
    let is_postgres = text.starts_with("postgres://") || text.starts_with("postgresql://");
    if is_postgres {
        Ok(text.to_owned())
    } else {
        Err("must begin with postgres:// or postgresql://".to_owned())
    }
}

/// A mail server's URL.
pub(super) fn smtp_url(text: &str) -> Result<String, String> {
    let hint = "not a mail server such as smtps://user:password@mail.example.com";
    if !(text.starts_with("smtp://") || text.starts_with("smtps://")) {
        return Err(hint.to_owned());
    }
    SmtpSettings::parse(text).map_err(|_| hint.to_owned())?;
    Ok(text.to_owned())
}

/// The sender of mails.
pub(super) fn smtp_from(text: &str) -> Result<String, String> {
    let is_sender = text.parse::<lettre::message::Mailbox>().is_ok();
    if is_sender {
        Ok(text.to_owned())
    } else {
        Err("not a sender such as Ganger <ganger@example.com>".to_owned())
    }
}

/// Secrets that webhooks are signed with.
pub(super) fn webhook_secret(text: &str) -> Result<String, String> {
    let signer = WebhookSigner::parse(text).map_err(|error| error.to_string())?;
    if signer.is_empty() {
        Err("holds no secret; write whsec_… or leave it out".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, millis) in [("250ms", 250), ("30s", 30_000), ("15m", 900_000), ("2h", 7_200_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)));
        }
        for bad in ["", "30", "s", "1.5s", "-1s", "1d", "99999999999999999999s", "18446744073709551615h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_switch_is_read_as_people_write_it() {
        for (text, value) in
            [("1", true), ("TRUE", true), ("yes", true), ("0", false), ("False", false), ("no", false)]
        {
            assert_eq!(switch(text), Ok(value), "{text}");
        }
        for bad in ["", "2", "on", "y", " true"] {
            assert!(switch(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_filter_of_logs_names_levels() {
        for good in
            ["info", "DEBUG", "off", "ganger=debug,info", "ganger=debug, sqlx=off", "a[span{x=1}]=trace,warn"]
        {
            assert!(log_level(good).is_ok(), "{good}: {:?}", log_level(good));
        }
        for bad in [
            "",
            "garbage",
            "verbose",
            "info,",
            "ganger",
            "ganger=loud",
            "=info",
            "in fo",
            "ganger=debug;info",
        ] {
            assert!(log_level(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_origin_is_nothing_more() {
        for good in ["https://console.example.com", "http://localhost:5173", "https://a.example/"] {
            assert!(origin(good).is_ok(), "{good}");
        }
        for bad in
            ["", "*", "null", "console.example.com", "https://a.example/x", "https://u@a.example", "ftp://a"]
        {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn exceptions_of_the_guard_are_hosts_and_networks() {
        for good in ["", "*", "hooks.internal, api:8443", "10.1.0.0/16,::1", "_srv.a-b.example."] {
            assert!(outbound_allow(good).is_ok(), "{good}");
        }
        for bad in
            ["http://x", "a b", "10.0.0.0/33", "a;b", "!!", "-a", "a..b", "host:0", "10.0.0.300", "a_b:x"]
        {
            assert!(outbound_allow(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_and_secrets_are_checked_before_the_start() {
        assert!(
            smtp_url("smtps://u:p@mail.example.com").is_ok() && smtp_url("smtp://localhost:1025").is_ok()
        );
        assert!(smtp_url("mail.example.com").is_err() && smtp_url("http://mail").is_err());
        assert!(smtp_from("Ganger <a@example.com>").is_ok() && smtp_from("a@b.example").is_ok());
        assert!(smtp_from("nobody").is_err() && smtp_from("").is_err());
        assert!(postgres_url("postgres://localhost/a").is_ok() && postgres_url("mysql://x").is_err());
        assert!(webhook_secret("").is_err() && webhook_secret("secret").is_err());
        assert!(webhook_secret(&WebhookSigner::generate_secret()).is_ok());
        assert!(node_id("eu-1.a").is_ok() && node_id("").is_err() && node_id("a b").is_err());
        assert!(address("[::1]:0").is_ok() && address("localhost:80").is_err() && address(":80").is_err());
    }
}
