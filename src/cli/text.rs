//! Text of others, made safe for a terminal.
//!
//! A payload, an error or a name may hold anything: escape sequences that move the cursor, rewrite the title or
//! answer for the user, and marks that turn the reading direction around. What people see is always escaped; what
//! programs get (`--json` into a pipe) is always the server's own bytes.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a terminal may do more with `c` than draw it.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Direction marks, embeddings and isolates: text that reads other than it is.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Line and paragraph separators, byte order mark, interlinear marks, language tags.
            | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `text` on one line, with nothing in it that a terminal would obey.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    escape(text, |c| !is_unsafe(c))
}

/// As `clean`, with line breaks and tabs kept.
pub(super) fn clean_lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| c == '\n' || c == '\t' || !is_unsafe(c))
}

fn escape(text: &str, is_kept: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().all(&is_kept) {
        return Cow::Borrowed(text);
    }
    let mut cleaned = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if is_kept(c) => cleaned.push(c),
            '\n' => cleaned.push_str("\\n"),
            '\r' => cleaned.push_str("\\r"),
            '\t' => cleaned.push_str("\\t"),
            c if u32::from(c) < 0x80 => {
                let _ = write!(cleaned, "\\x{:02x}", u32::from(c));
            }
            c => {
                let _ = write!(cleaned, "\\u{{{:x}}}", u32::from(c));
            }
        }
    }
    Cow::Owned(cleaned)
}

/// JSON for a terminal: the same document, with what a terminal would obey as `\u` escapes. Outside of strings
/// JSON has none of it, so a document stays a document.
pub(super) fn clean_json(json: &str) -> Cow<'_, str> {
    let is_kept = |c: char| c == '\n' || c == '\r' || c == '\t' || !is_unsafe(c);
    if json.chars().all(is_kept) {
        return Cow::Borrowed(json);
    }
    let mut cleaned = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_kept(c) {
            cleaned.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(cleaned, "\\u{unit:04x}");
        }
    }
    Cow::Owned(cleaned)
}

/// The first `max` characters of `text`, and a sign that there was more.
pub(super) fn cut(text: &str, max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(max) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}

/// A number for people: `4,900`.
pub(super) fn count(number: impl TryInto<i128>) -> String {
    let Ok(number) = number.try_into() else { return "?".to_owned() };
    let digits = number.unsigned_abs().to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if number < 0 {
        grouped.push('-');
    }
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
pub(super) mod corpus {
    /// What has been used against terminals and their readers.
    pub(in crate::cli) const HOSTILE: [&str; 16] = [
        "\u{1b}[2J\u{1b}[H",
        "\u{1b}]0;title\u{7}",
        "\u{1b}]52;c;ZXZpbA==\u{1b}\\",
        "\u{1b}]8;;http://evil\u{1b}\\link\u{1b}]8;;\u{1b}\\",
        "\u{1b}[6n",
        "\u{1b}P$q\"p\u{1b}\\",
        "\u{1b}[?1049h",
        "\u{9b}31mred",
        "\u{90}dcs\u{9c}",
        "progress\rdone",
        "a\u{8}\u{8}b",
        "\u{0}\u{7f}",
        "user\u{202e}gpj.exe",
        "\u{2066}x\u{2069}",
        "line\u{2028}line\u{85}next",
        "\u{feff}\u{e0041}tag",
    ];

    /// Panics if a terminal would obey anything in `shown` but line breaks.
    pub(in crate::cli) fn assert_harmless(shown: &str) {
        let bad: Vec<char> = shown.chars().filter(|c| *c != '\n' && super::is_unsafe(*c)).collect();
        assert!(bad.is_empty(), "{bad:?} in {shown:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::{corpus::*, *};

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        for text in HOSTILE {
            assert_harmless(&clean(text));
            assert_harmless(&clean_lines(text));
            assert!(!clean(text).is_empty(), "it is shown, not dropped");
        }
        assert_eq!(clean("\u{1b}[31mred\u{9b}0m\n\u{202e}"), "\\x1b[31mred\\u{9b}0m\\n\\u{202e}");
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        for text in ["", "plain", "Grüße, 日本語, 🙂, e\u{301}, \"quoted\" \\n"] {
            assert!(matches!(clean(text), Cow::Borrowed(same) if same == text));
        }
        assert_eq!(clean_lines("a\n\tb\r\n"), "a\n\tb\\r\n");
    }

    #[test]
    fn json_for_a_terminal_is_the_same_document() {
        for text in HOSTILE {
            let json = serde_json::to_string(&[text]).expect("serialises");
            let shown = clean_json(&json);
            assert_harmless(&shown);
            let back: [String; 1] = serde_json::from_str(&shown).expect("still JSON");
            assert_eq!(back, [text]);
        }
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, shown) in [(0, "0"), (999, "999"), (1_000, "1,000"), (-1_234_567, "-1,234,567")] {
            assert_eq!(count(number), shown);
        }
    }

    #[test]
    fn a_cut_says_so() {
        assert_eq!((cut("äöü", 3), cut("äöü!", 3)), ("äöü".into(), "äöü…".into()));
    }
}
