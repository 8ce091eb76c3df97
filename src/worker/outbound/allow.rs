//! `OUTBOUND_ALLOW`: what the operator lets through the guard.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use url::Host;

use super::address::canonical;

/// An entry of `OUTBOUND_ALLOW` that is neither `*`, a host, a `host:port` nor a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no host, host:port or network")]
pub struct OutboundAllowError(String);

/// Exceptions from the guard: names (which may then resolve to anything), addresses, networks, or everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboundAllow {
    everything: bool,
    hosts: Vec<(Host, Option<u16>)>,
    networks: Vec<IpNet>,
}

impl OutboundAllow {
    /// No exceptions.
    pub fn none() -> Self {
        Self::default()
    }

    /// Everything, as `*`: for machines that reach nothing worth guarding.
    pub fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// Whether a URL with this host and port needs no further check.
    pub(super) fn allows_host(&self, host: &Host<&str>, port: u16) -> bool {
        let host = match host {
            Host::Domain(name) => Host::Domain(name.trim_end_matches('.').to_ascii_lowercase()),
            Host::Ipv4(v4) => Host::Ipv4(*v4),
            Host::Ipv6(v6) => Host::Ipv6(*v6),
        };
        self.everything
            || self
                .hosts
                .iter()
                .any(|(allowed, at)| *allowed == host && at.is_none_or(|allowed_port| allowed_port == port))
    }

    /// Whether `address` lies in an allowed network.
    pub(super) fn allows_address(&self, address: IpAddr) -> bool {
        let spelled = canonical(address);
        self.everything || self.networks.iter().any(|net| net.contains(&spelled) || net.contains(&address))
    }

    fn add(&mut self, entry: &str) -> Option<()> {
        if entry == "*" {
            self.everything = true;
        } else if let Ok(network) = entry.parse::<IpNet>() {
            self.networks.push(network);
        } else if let Ok(address) = entry.trim_matches(['[', ']']).parse::<IpAddr>() {
            self.networks.push(address.into());
        } else if let Ok(socket) = entry.parse::<SocketAddr>() {
            let host = match socket.ip() {
                IpAddr::V4(v4) => Host::Ipv4(v4),
                IpAddr::V6(v6) => Host::Ipv6(v6),
            };
            self.hosts.push((host, Some(socket.port())));
        } else {
            let (name, port) = match entry.rsplit_once(':') {
                Some((name, port)) => (name, Some(port.parse().ok().filter(|&port: &u16| port > 0)?)),
                None => (entry, None),
            };
            // A slash here is a network that does not parse, not part of a name.
            match Host::parse(name.trim_end_matches('.')).ok()? {
                Host::Domain(name) if name.split('.').all(is_label) => {
                    self.hosts.push((Host::Domain(name), port))
                }
                Host::Domain(_) | Host::Ipv4(_) | Host::Ipv6(_) => return None,
            }
        }
        Some(())
    }
}

/// Whether a part of a name could stand in DNS: a URL's host may hold more, which would be a slip here.
fn is_label(label: &str) -> bool {
    let inner = label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    (1..=63).contains(&label.len()) && inner && !label.starts_with('-') && !label.ends_with('-')
}

impl FromStr for OutboundAllow {
    type Err = OutboundAllowError;

    fn from_str(list: &str) -> Result<Self, Self::Err> {
        let mut allow = Self::none();
        for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            allow.add(entry).ok_or_else(|| OutboundAllowError(entry.to_owned()))?;
        }
        Ok(allow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_entry_allows_just_what_it_names() {
        let allow: OutboundAllow =
            "hooks.internal, api.internal:8443, 10.1.0.0/16, 192.168.0.7, 127.0.0.1:9000, [::1]:9000"
                .parse()
                .unwrap();
        assert!(allow.allows_host(&Host::Domain("Hooks.internal."), 80));
        assert!(allow.allows_host(&Host::Domain("api.internal"), 8443));
        assert!(!allow.allows_host(&Host::Domain("api.internal"), 443));
        assert!(allow.allows_address("10.1.2.3".parse().unwrap()));
        assert!(allow.allows_address("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!allow.allows_address("10.2.0.1".parse().unwrap()));
        assert!(allow.allows_address("192.168.0.7".parse().unwrap()));
        assert!(allow.allows_host(&Host::Ipv4([127, 0, 0, 1].into()), 9000));
        assert!(!allow.allows_host(&Host::Ipv4([127, 0, 0, 1].into()), 9001));
        assert!(!allow.allows_address("127.0.0.1".parse().unwrap()));
        assert!(allow.allows_host(&Host::Ipv6(std::net::Ipv6Addr::LOCALHOST), 9000));
        assert!(OutboundAllow::everything().allows_address("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_bad_entry_is_named() {
        for bad in ["10.0.0.0/33", "host:port", "http://x", "a b", ":80", "!!", "a..b", "-a", "a:0"] {
            assert_eq!(bad.parse::<OutboundAllow>(), Err(OutboundAllowError(bad.to_owned())));
        }
        assert_eq!(" , ".parse::<OutboundAllow>(), Ok(OutboundAllow::none()));
    }
}
