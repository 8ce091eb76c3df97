//! Signatures of outgoing webhooks, by the Standard Webhooks specification.
//!
//! `webhook-signature` is `v1,` and the base64 HMAC-SHA256 over `id.timestamp.body`; while a secret is rotated
//! there is one for each secret, parted by spaces, and a receiver accepts any.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const PREFIX: &str = "whsec_";
/// The specification's bounds for a secret.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookSignerError {
    /// It does not start with `whsec_`.
    #[error("a webhook secret starts with whsec_")]
    Prefix,
    /// What follows is not base64.
    #[error("a webhook secret is base64 after whsec_")]
    Encoding,
    /// It is too short to be safe, or longer than receivers take.
    #[error("a webhook secret is 24 to 64 bytes long, this one has {0}")]
    Length(usize),
}

/// Signs webhooks with the operator's secrets; with none it adds no signature.
#[derive(Clone, Default)]
pub struct WebhookSigner {
    secrets: Vec<Vec<u8>>,
}

impl WebhookSigner {
    /// Reads `WEBHOOK_SECRET`: one or more `whsec_…`, parted by commas, newest first.
    pub fn parse(text: &str) -> Result<Self, WebhookSignerError> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        Ok(Self { secrets: parts.map(secret).collect::<Result<_, _>>()? })
    }

    /// A fresh secret as text, for [`parse`](Self::parse) and for receivers.
    pub fn generate_secret() -> String {
        let key: [u8; 32] = rand::random();
        format!("{PREFIX}{}", STANDARD.encode(key))
    }

    /// Whether there is anything to sign with.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// The three headers for a message; without secrets the first two.
    pub fn headers(&self, id: &str, at: DateTime<Utc>, body: &[u8]) -> Vec<(&'static str, String)> {
        let timestamp = at.timestamp().to_string();
        let mut headers = vec![("webhook-id", id.to_owned()), ("webhook-timestamp", timestamp.clone())];
        let signatures: Vec<String> = self
            .secrets
            .iter()
            .filter_map(|secret| Hmac::<Sha256>::new_from_slice(secret).ok())
            .map(|mut mac| {
                mac.update(format!("{id}.{timestamp}.").as_bytes());
                mac.update(body);
                format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
            })
            .collect();
        if !signatures.is_empty() {
            headers.push(("webhook-signature", signatures.join(" ")));
        }
        headers
    }
}

impl fmt::Debug for WebhookSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookSigner({} secrets)", self.secrets.len())
    }
}

fn secret(text: &str) -> Result<Vec<u8>, WebhookSignerError> {
    let encoded = text.strip_prefix(PREFIX).ok_or(WebhookSignerError::Prefix)?;
    let bytes = STANDARD.decode(encoded).map_err(|_| WebhookSignerError::Encoding)?;
    if SECRET_BYTES.contains(&bytes.len()) { Ok(bytes) } else { Err(WebhookSignerError::Length(bytes.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specifications_own_example_verifies() {
        let signer = WebhookSigner::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let at = DateTime::from_timestamp(1_614_265_330, 0).unwrap();
        let headers = signer.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", at, br#"{"test": 2432232314}"#);
        assert_eq!(headers[2].1, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn each_secret_signs_and_none_signs_nothing() {
        let both = format!("{}, {}", WebhookSigner::generate_secret(), WebhookSigner::generate_secret());
        let signer = WebhookSigner::parse(&both).unwrap();
        let headers = signer.headers("id", DateTime::UNIX_EPOCH, b"");
        assert_eq!(headers[2].1.split(' ').count(), 2);
        assert_eq!(WebhookSigner::default().headers("id", DateTime::UNIX_EPOCH, b"").len(), 2);
    }

    #[test]
    fn a_bad_secret_is_named() {
        assert_eq!(WebhookSigner::parse("secret").unwrap_err(), WebhookSignerError::Prefix);
        assert_eq!(WebhookSigner::parse("whsec_???").unwrap_err(), WebhookSignerError::Encoding);
        assert_eq!(WebhookSigner::parse("whsec_AAAA").unwrap_err(), WebhookSignerError::Length(3));
    }
}
