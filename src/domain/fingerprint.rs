//! The fingerprint of an error: the same for the same cause, whatever ids, numbers and addresses its text names.
//!
//! A text is folded, then hashed together with the error's type. Folding puts `#` for what varies:
//!
//! ```text
//! numbers, times, versions   after 1,5 s at 2026-11-23T19:00:00Z    after #,# s at #
//! ids: uuid, hex, mixed      job 0192…-…, commit 9fceb02d, cus_9s6X  job #, commit #, cus_#
//! addresses                  10.0.0.7:5432, fe80::1, db-3:5432       #, #, db-#:#
//! pointers, mail addresses   0x7ffe3c, ada@example.org               #, #@#
//! URLs                       https://h/users/17?page=2               https://h/users/#?
//! ```
//! Words stay, quoted ones too: `column "email"` and `column "name"` are two causes. Folding what is folded
//! changes nothing.

use std::{fmt::Write as _, net::IpAddr};

use sha2::{Digest, Sha256};

/// How much of a text is looked at: as much as is kept of it.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// Stands for what varies.
const FOLDED: char = '#';

/// The shortest run of hex digits with a number among them that is taken for an id.
const HEX_ID_MIN: usize = 6;
/// The shortest run of hex digits without a number that is: no word is as long.
const HEX_WORD_MIN: usize = 8;

/// The fingerprint of an error: 16 hex digits.
#[must_use]
pub fn fingerprint(error_type: &str, message: &str) -> String {
    let folded = fold(message);
    let mut hash = Sha256::new();
    for part in [error_type, &folded] {
        hash.update(part.len().to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().take(8).fold(String::with_capacity(16), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A text with `#` for what varies, in one line.
#[must_use]
pub fn fold(text: &str) -> String {
    let text = text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or(text);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.trim();
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            out.push(' ');
            rest = rest.trim_start();
        } else if is_delimiter(first) {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            let end = rest.find(|c: char| c.is_whitespace() || is_delimiter(c)).unwrap_or(rest.len());
            word(&rest[..end], &mut out);
            rest = &rest[end..];
        }
    }
    out
}

/// What stands between words besides white space.
fn is_delimiter(c: char) -> bool {
    matches!(c, '"' | '\'' | '`' | '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>' | '|' | ';' | ',')
}

fn word(word: &str, out: &mut String) {
    if let Some(scheme) = word.find("://") {
        // All of the query varies.
        let query = word[scheme..].find('?').map(|at| scheme + at);
        runs(&word[..query.unwrap_or(word.len())], out);
        out.push_str(if query.is_some() { "?" } else { "" });
        return;
    }
    for (index, part) in word.split('=').enumerate() {
        if index > 0 {
            out.push('=');
        }
        value(part, out);
    }
}

fn value(part: &str, out: &mut String) {
    let core = part.trim_end_matches(['.', ':', '!', '?']);
    let is_numeric = core.contains(|c: char| c.is_ascii_digit());
    if is_numeric && core.parse::<IpAddr>().is_ok() {
        put(FOLDED, out);
    } else if is_mail_address(core) {
        put(FOLDED, out);
        out.push('@');
        put(FOLDED, out);
    } else {
        // The sign of a number varies with it.
        let unsigned = core.strip_prefix(['-', '+']).filter(|rest| rest.starts_with(char::is_numeric));
        runs(unsigned.unwrap_or(core), out);
    }
    runs(&part[core.len()..], out);
}

fn is_mail_address(word: &str) -> bool {
    let mut parts = word.split('@');
    let (name, host) = (parts.next(), parts.next());
    parts.next().is_none() && [name, host].iter().all(|part| part.is_some_and(|part| !part.is_empty()))
}

/// Folds run by run: letters and digits together, everything else as it is.
fn runs(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(behind) = behind_uuid(rest) {
            put(FOLDED, out);
            rest = behind;
        } else if first.is_ascii_alphanumeric() {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
            run(&rest[..end], out);
            rest = &rest[end..];
        } else {
            put(if first.is_numeric() { FOLDED } else { first }, out);
            rest = &rest[first.len_utf8()..];
        }
    }
}

/// What follows a UUID that `text` begins with.
fn behind_uuid(text: &str) -> Option<&str> {
    let (uuid, behind) = text.split_at_checked(36)?;
    let fits = uuid.bytes().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    (fits && !behind.starts_with(|c: char| c.is_ascii_alphanumeric())).then_some(behind)
}

fn run(run: &str, out: &mut String) {
    let digits = run.bytes().filter(u8::is_ascii_digit).count();
    let is_hex = run.bytes().all(|byte| byte.is_ascii_hexdigit());
    let hex_min = if digits > 0 { HEX_ID_MIN } else { HEX_WORD_MIN };
    if is_hex && run.len() >= hex_min {
        put(FOLDED, out);
        return;
    }
    let letters = run.trim_end_matches(|c: char| c.is_ascii_digit());
    if letters.contains(|c: char| c.is_ascii_digit()) || letters.is_empty() {
        // A number, a number with its unit, or digits among letters: no word.
        put(FOLDED, out);
        return;
    }
    out.push_str(letters);
    if digits > 0 {
        put(FOLDED, out);
    }
}

/// Appends a character; numbers joined by a point, a colon or the like are one.
fn put(c: char, out: &mut String) {
    if c == FOLDED {
        if out.ends_with(FOLDED) {
            return;
        }
        let joint = out.strip_suffix(['-', ':', '.', '/', '+', '_']);
        if joint.is_some_and(|before| before.ends_with(FOLDED)) {
            out.pop();
            return;
        }
    }
    out.push(c);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_varies_is_folded_and_words_are_not() {
        for (text, folded) in [
            ("took 31.5 s, at most 30", "took # s, at most #"),
            ("took 850ms (limit 1m30s)", "took # (limit #)"),
            ("at 2026-11-23T19:00:00.123Z", "at #"),
            ("at 2026-11-23 19:00:00+01:00", "at # #"),
            ("job 01928f3e-7c1a-7e2b-8f00-0123456789ab: gone", "job #: gone"),
            ("job aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "job #"),
            ("commit 9fceb02d0ae598e95dc970b74767f19372d61af8", "commit #"),
            ("etag \"deadbeef\" and cus_9s6XKzkNRiz8i3", "etag \"#\" and cus_#"),
            ("connect to 10.0.0.7:5432 refused", "connect to # refused"),
            ("connect to [fe80::1ff:fe23:4567:890a]:80", "connect to [#]:#"),
            ("connect to db-3.internal:5432.", "connect to db-#.internal:#."),
            ("segfault at 0x7ffe3c10", "segfault at #"),
            ("no mailbox ada.l@example.org!", "no mailbox #@#!"),
            (
                "GET https://api.test/v2/users/17/posts?page=2&x=y: 503",
                "GET https://api.test/v#/users/#/posts? #",
            ),
            ("open /tmp/job-77/part12.bin", "open /tmp/job-#/part#.bin"),
            ("offset=-5 size=+17", "offset=# size=#"),
            ("column \"email\" of user_id", "column \"email\" of user_id"),
            ("  two\n\tlines ", "two lines"),
            ("feed the facade of std::vec", "feed the facade of std::vec"),
            ("", ""),
        ] {
            assert_eq!(fold(text), folded, "{text}");
        }
    }

    #[test]
    fn a_fingerprint_is_short_stable_and_of_type_and_text() {
        let print = fingerprint("timeout", "took 31 s");
        assert_eq!(print, "9cf09aa59628b9f2", "stored: it must not change between versions");
        assert_eq!(print, fingerprint("timeout", "took 4 s"));
        assert_ne!(print, fingerprint("panic", "took 31 s"));
        assert_ne!(fingerprint("a", "bc"), fingerprint("ab", "c"));
    }

    /// Text as errors have it, with every kind of thing that is folded.
    fn texts() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[a-z]{1,9}",
            "[0-9]{1,6}",
            "[0-9a-f]{4,12}",
            "[ =:#@/.,_?\"'()+-]{1,3}",
            Just("://".to_owned()),
            "[½٣é\n]",
            "[a-z]{2,5}@[a-z]{2,5}",
            any::<u128>().prop_map(|id| uuid::Uuid::from_u128(id).to_string()),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn folding_what_is_folded_changes_nothing(text in prop_oneof![texts(), any::<String>()]) {
            let once = fold(&text);
            prop_assert_eq!(fold(&once), once);
        }

        #[test]
        fn errors_that_differ_in_ids_alone_are_one(
            words in proptest::collection::vec("[a-z]{1,7}", 1..6),
            (a, b) in (any::<u128>(), any::<u128>()),
            (m, n) in (any::<u32>(), any::<u32>()),
            (x, y) in (any::<[u8; 4]>(), any::<[u8; 4]>()),
        ) {
            let text = |id: u128, n: u32, ip: [u8; 4]| {
                let id = uuid::Uuid::from_u128(id);
                let ip = std::net::Ipv4Addr::from(ip);
                format!("{} {id} after {n} tries at {ip}:{n} ({n:#x}, /jobs/{id}/{n})", words.join(" "))
            };
            prop_assert_eq!(fingerprint("t", &text(a, m, x)), fingerprint("t", &text(b, n, y)));
        }

        #[test]
        fn errors_of_other_words_are_not(a in "[g-z]{1,9}( [g-z]{1,9}){0,3}", b in "[g-z]{1,9}( [g-z]{1,9}){0,3}") {
            prop_assume!(a != b);
            let text = |words: &str| format!("failed: {words} 17");
            prop_assert_ne!(fingerprint("t", &text(&a)), fingerprint("t", &text(&b)));
        }
    }
}
