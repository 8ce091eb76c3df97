//! Who may do what: one table of all routes, and the guard that enforces it.
//!
//! Deny by default: a route without a row answers 405, whatever its handler would do.

mod guard;
mod origin;
mod rules;
mod ticket;

use axum::{extract::FromRequestParts, http::request::Parts};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

pub use guard::{StreamPlace, guard};
pub use origin::frontier;
pub use rules::{Capability, Load, Needs, RULES, Rule};
pub use ticket::Tickets;

use super::problem::ApiError;
use crate::store::ops::Requester;

/// The hash of a key. Keys are compared by it, in constant time: their lengths do not show either.
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The hash of `key`.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// Whether `key` has this hash.
    #[must_use]
    pub fn matches(&self, key: &str) -> bool {
        self.0.ct_eq(&Self::of(key).0).into()
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Digest(…)")
    }
}

/// What the node knows of keys and origins.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// The hash of the bootstrap admin key.
    pub admin_token: Digest,
    /// The one other origin whose pages may use this node, such as `https://console.example`.
    pub dashboard_origin: Option<String>,
    /// Whether the well-known development key is in force. Such a node listens on loopback only, and
    /// answers to loopback names only: a page of another name that resolves to 127.0.0.1 is of the
    /// node's own origin to a browser, and would know the key.
    pub development: bool,
}

/// What a caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Admin,
    /// Every control, no keys.
    Operator,
    /// Every read but keys.
    Viewer,
    /// Submits, reads and controls its own tenant's jobs.
    Submitter,
    /// The worker protocol and nothing else.
    Worker,
}

impl Role {
    /// Whether this role has a capability.
    #[must_use]
    pub fn may(self, capability: Capability) -> bool {
        use {Capability as C, Role as R};
        match self {
            R::Admin => true,
            R::Operator => !matches!(capability, C::ManageKeys | C::Work),
            R::Viewer => matches!(capability, C::ReadJobs | C::ReadNode | C::Describe),
            R::Submitter => matches!(capability, C::ReadJobs | C::Submit | C::ControlJobs | C::Describe),
            R::Worker => matches!(capability, C::Work),
        }
    }
}

/// A caller whose credentials were checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Principal {
    /// What it is.
    pub role: Role,
}

impl Principal {
    /// Whether it may see the proof of a lease.
    #[must_use]
    pub fn sees_lease_tokens(self) -> bool {
        self.role == Role::Admin
    }

    /// The caller of this request, for the audit log.
    #[must_use]
    pub fn requester(self, reason: Option<String>) -> Requester {
        let request_id = super::problem::REQUEST_ID.try_with(|id| id.to_string()).unwrap_or_default();
        Requester { actor: format!("{:?}", self.role).to_lowercase(), request_id, reason }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = ApiError;

    /// The principal that the guard has put there; without a guard, nobody.
    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().copied().ok_or_else(ApiError::unauthorized)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_compared_by_their_hash() {
        let digest = Digest::of("secret");
        assert!(digest.matches("secret"));
        for other in ["", "secre", "secret ", "Secret"] {
            assert!(!digest.matches(other));
        }
        assert_eq!(format!("{digest:?}"), "Digest(…)");
    }

    #[test]
    fn roles_have_what_the_contract_gives_them() {
        use {Capability as C, Role as R};
        let table: Vec<String> = [R::Admin, R::Operator, R::Viewer, R::Submitter, R::Worker]
            .into_iter()
            .map(|role| {
                let marks: String =
                    C::ALL.iter().map(|capability| if role.may(*capability) { 'x' } else { '.' }).collect();
                format!("{role:?} {marks}")
            })
            .collect();
        // Describe, ReadJobs, ReadNode, Submit, ControlJobs, Operate, ManageKeys, Work
        assert_eq!(
            table,
            [
                "Admin xxxxxxxx",
                "Operator xxxxxx..",
                "Viewer xxx.....",
                "Submitter xx.xx...",
                "Worker .......x"
            ]
        );
    }
}
