//! Which node is asked, and with which key.

use std::net::IpAddr;

use url::{Host, Url};

use super::CliError;

/// The node of a machine that was set up for nothing else.
const URL_DEFAULT: &str = "http://127.0.0.1:8080";
/// What a node without `ADMIN_TOKEN` takes; such a node listens on loopback only.
const DEVELOPMENT_TOKEN: &str = "dev-admin-token";

/// The address of a node; a path prefix is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address(Url);

impl Address {
    /// From what was given, or the default.
    pub(super) fn new(given: Option<&str>) -> Result<Self, CliError> {
        let text = given.map(str::trim).filter(|text| !text.is_empty()).unwrap_or(URL_DEFAULT);
        let wrong = |why: &str| CliError::Usage(format!("--url {text}: {why}"));
        let url = Url::parse(text).map_err(|error| wrong(&format!("{error}; write {URL_DEFAULT}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("it must begin with http:// or https://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(CliError::Usage("--url: keys do not go into a URL; use GANGER_TOKEN".to_owned()));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("it must end before any `?` or `#`"));
        }
        Ok(Self(url))
    }

    /// The address of a route below it; each segment is one, whatever it holds.
    pub(super) fn route(&self, segments: &[&str], query: &[(&str, String)]) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// For people.
    pub(super) fn shown(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether it names this machine, whatever the network.
    pub(super) fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => IpAddr::V6(ip).to_canonical().is_loopback(),
            None => false,
        }
    }
}

/// The key: the one given, else `ADMIN_TOKEN`, else the development key, which is of use on loopback only and
/// is sent nowhere else.
pub(super) fn token(given: Option<String>, admin: Option<String>, address: &Address) -> Option<String> {
    let set = |token: &String| !token.is_empty();
    given
        .filter(set)
        .or(admin.filter(set))
        .or_else(|| address.is_loopback().then(|| DEVELOPMENT_TOKEN.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::new(Some(text)).expect("an address")
    }

    #[test]
    fn a_prefix_is_kept_as_given() {
        let segments = ["api", "v1", "jobs"];
        for (base, route) in [
            ("http://node:8080", "http://node:8080/api/v1/jobs"),
            ("http://node:8080/", "http://node:8080/api/v1/jobs"),
            ("https://host/team%20a/ganger", "https://host/team%20a/ganger/api/v1/jobs"),
            ("https://host/ganger/", "https://host/ganger/api/v1/jobs"),
        ] {
            assert_eq!(address(base).route(&segments, &[]).as_str(), route);
        }
        assert_eq!(Address::new(None).ok(), Some(address("http://127.0.0.1:8080")));
        assert_eq!(Address::new(Some("")).ok(), Some(address("http://127.0.0.1:8080")));
    }

    #[test]
    fn segments_and_queries_cannot_break_out() {
        let url = address("http://n").route(&["jobs", "../x?y#z"], &[("q", "a&b=c +".to_owned())]);
        assert_eq!(url.as_str(), "http://n/jobs/..%2Fx%3Fy%23z?q=a%26b%3Dc+%2B");
    }

    #[test]
    fn what_is_no_address_is_a_usage_fault() {
        for bad in ["localhost:8080", "node", "ftp://n", "http://u:p@n", "http://n/?a=b", "http://n/#f"] {
            assert!(matches!(Address::new(Some(bad)), Err(CliError::Usage(_))), "{bad}");
        }
    }

    #[test]
    fn the_development_key_stays_on_this_machine() {
        let some = |text: &str| Some(text.to_owned());
        for loopback in
            ["http://localhost:1", "http://127.9.9.9", "http://[::1]", "http://[::ffff:127.0.0.1]/p"]
        {
            assert_eq!(token(None, None, &address(loopback)).as_deref(), Some(DEVELOPMENT_TOKEN));
        }
        for remote in ["http://localhost.evil.example", "http://10.0.0.1", "https://node", "http://0.0.0.0"] {
            assert_eq!(token(None, None, &address(remote)), None, "{remote}");
            assert_eq!(token(None, some("a"), &address(remote)), some("a"));
        }
        assert_eq!(token(some("t"), some("a"), &address("http://[::1]")), some("t"));
        assert_eq!(token(some(""), some("a"), &address("http://[::1]")), some("a"));
    }
}
