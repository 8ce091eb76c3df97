//! Names of queues, types, tenants, tags and keys.

/// The longest name, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// Whether `name` is `[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}`.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() <= NAME_BYTES_MAX
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"._:/-".contains(b))
}

/// Whether `key` is 1–255 printable ASCII characters.
#[must_use]
pub fn is_idempotency_key(key: &str) -> bool {
    (1..=255).contains(&key.len()) && key.bytes().all(|b| (0x20..=0x7e).contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_at_their_edges() {
        for good in ["a", "A9", "mail.send:eu/west-1_".trim_end_matches('_'), &"x".repeat(128)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".a", "-", "a b", "ä", "a\0", &"x".repeat(129)] {
            assert!(!is_name(bad), "{bad:?}");
        }
        assert!(is_idempotency_key(&"k".repeat(255)));
        assert!(!is_idempotency_key(&"k".repeat(256)));
        assert!(!is_idempotency_key(""));
        assert!(!is_idempotency_key("tab\t"));
    }
}
