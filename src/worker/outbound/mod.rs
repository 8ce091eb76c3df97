//! The guarded way out: no job can make the platform talk to its own network.
//!
//! ```text
//! URL ── check_url: scheme, userinfo, name, literal address ──▶ connect
//!                                                                  │ resolver: addresses filtered here,
//!                                                                  ▼ and only these are connected to
//! ```
//! The filter sits in the resolver of the HTTP client, so what was checked is what is connected to: an answer
//! that changes between check and use (rebinding) gains nothing. Redirects are off, and followed by hand, each
//! checked afresh, where a source may move; proxies of the environment are ignored.
//! [`OutboundAllow`] is the operator's list of exceptions.

mod address;
mod allow;
mod client;
mod resolver;

pub use allow::{OutboundAllow, OutboundAllowError};
pub use client::{Download, Outbound, OutboundError, OutboundRequest, OutboundResponse};
pub use resolver::{NameResolver, SystemResolver};

/// Why a URL is refused before anything is sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// It is no URL.
    #[error("not a valid URL: {0}")]
    Invalid(String),
    /// It can never be reached from here, whatever its name resolves to.
    #[error("this address is never allowed: {0}")]
    NeverAllowed(String),
}
