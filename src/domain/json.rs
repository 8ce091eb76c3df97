//! JSON kept byte for byte: what came in goes out, big integers and `\u0000` included.

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// A JSON value as the text it came as.
#[derive(Clone, PartialEq, Eq)]
pub struct RawJson(Arc<str>);

impl RawJson {
    /// `null`.
    #[must_use]
    pub fn null() -> Self {
        Self("null".into())
    }

    /// Takes text that is known to be JSON: from the store, or from a parser.
    #[must_use]
    pub fn trusted(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The text, shared.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl std::fmt::Debug for RawJson {
    /// Payloads are never logged: the length has to do.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RawJson({} bytes)", self.0.len())
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(Box::<str>::from(raw).into()))
    }
}

impl utoipa::PartialSchema for RawJson {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::schema::Object::with_type(utoipa::openapi::schema::SchemaType::AnyValue).into()
    }
}

impl utoipa::ToSchema for RawJson {}

/// Why a JSON value is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// Nested deeper than allowed.
    #[error("JSON nested deeper than {0} levels")]
    TooDeep(usize),
    /// A `\uD800`–`\uDFFF` escape without its other half: no string can hold it.
    #[error("a lone surrogate escape, which no text can hold")]
    LoneSurrogate,
    /// A number over the range of a double.
    #[error("a number that no double can hold")]
    NumberOutOfRange,
}

/// Checks `text`, which a parser has found to be well-formed JSON, for what the grammar allows and
/// we do not: nesting beyond `depth_max` (a scalar has depth 0, `[]` depth 1), lone surrogates,
/// numbers beyond a double.
///
/// # Errors
/// The first fault found.
pub fn check(text: &str, depth_max: usize) -> Result<(), JsonFault> {
    let bytes = text.as_bytes();
    let (mut depth, mut at) = (0_usize, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > depth_max {
                    return Err(JsonFault::TooDeep(depth_max));
                }
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            b'"' => at = check_string(bytes, at + 1)?,
            b'-' | b'0'..=b'9' => {
                let end = number_end(bytes, at);
                // Short numbers without an exponent are always in range; most are.
                if end - at > 300 || bytes[at..end].iter().any(|b| matches!(b, b'e' | b'E')) {
                    let value: f64 = text[at..end].parse().unwrap_or(f64::INFINITY);
                    if !value.is_finite() {
                        return Err(JsonFault::NumberOutOfRange);
                    }
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    Ok(())
}

/// `text` as two values are compared by it: numbers that a [`serde_json::Value`] would round (integers beyond 64 bits,
/// fractions of more digits than a double tells apart) are written as strings, digit for digit. What a `Value` holds
/// exactly stays as it is.
#[must_use]
pub fn comparable(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let (mut kept, mut done, mut at) = (String::new(), 0, 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = behind_string(bytes, at + 1),
            b'-' | b'0'..=b'9' => {
                let end = number_end(bytes, at);
                if is_rounded(&text[at..end]) {
                    kept.push_str(&text[done..at]);
                    // No other program writes its strings so.
                    kept.push_str("\"\\u0000number ");
                    kept.push_str(&text[at..end]);
                    kept.push('"');
                    done = end;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    if done == 0 {
        return Cow::Borrowed(text);
    }
    kept.push_str(&text[done..]);
    Cow::Owned(kept)
}

/// Whether a `Value` holds another number than this one; shorter ones than a double's 17 digits are left to it.
fn is_rounded(number: &str) -> bool {
    /// The most digits that tell two doubles apart.
    const DIGITS: usize = 17;
    if number.len() <= DIGITS {
        return false;
    }
    if number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return number.parse::<i64>().is_err() && number.parse::<u64>().is_err();
    }
    let digits = number.split(['e', 'E']).next().unwrap_or_default().bytes();
    digits.filter(u8::is_ascii_digit).skip_while(|digit| *digit == b'0').count() > DIGITS
}

/// The place behind the number that begins at `at`.
fn number_end(bytes: &[u8], at: usize) -> usize {
    let is_part = |byte: &&u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
    at + bytes[at..].iter().take_while(is_part).count()
}

/// The place behind the closing quote of the string that `at` is in.
fn behind_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

/// Walks a string from behind its opening quote to behind its closing one.
fn check_string(bytes: &[u8], mut at: usize) -> Result<usize, JsonFault> {
    let mut high_pending = false;
    while let Some(&byte) = bytes.get(at) {
        let escape_unit = (byte == b'\\' && bytes.get(at + 1) == Some(&b'u'))
            .then(|| bytes.get(at + 2..at + 6))
            .flatten()
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u16::from_str_radix(hex, 16).ok());
        match escape_unit {
            Some(0xD800..=0xDBFF) if high_pending => return Err(JsonFault::LoneSurrogate),
            Some(0xD800..=0xDBFF) => (high_pending, at) = (true, at + 6),
            Some(0xDC00..=0xDFFF) if high_pending => (high_pending, at) = (false, at + 6),
            Some(0xDC00..=0xDFFF) => return Err(JsonFault::LoneSurrogate),
            _ if high_pending => return Err(JsonFault::LoneSurrogate),
            Some(_) => at += 6,
            None if byte == b'\\' => at += 2,
            None if byte == b'"' => return Ok(at + 1),
            None => at += 1,
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_from_the_root() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(check(&nested(64), 64), Ok(()));
        assert_eq!(check(&nested(65), 64), Err(JsonFault::TooDeep(64)));
        assert_eq!(check(r#"{"a":"[[[[[["}"#, 1), Ok(()), "brackets in strings do not count");
    }

    #[test]
    fn surrogates_must_come_in_pairs() {
        assert_eq!(check(r#""\ud83d\ude00""#, 4), Ok(()));
        for bad in [r#""\ud83d""#, r#""\ude00""#, r#""\ud83dx\ude00""#, r#""\ud83d\ud83d\ude00""#] {
            assert_eq!(check(bad, 4), Err(JsonFault::LoneSurrogate), "{bad}");
        }
        assert_eq!(check(r#""\\ud83d \u0000""#, 4), Ok(()), "an escaped backslash is no escape");
    }

    #[test]
    fn numbers_must_fit_a_double() {
        assert_eq!(check("[1e308,-1.5E-400,123456789012345678901234567890]", 4), Ok(()));
        assert_eq!(check("1e400", 4), Err(JsonFault::NumberOutOfRange));
        assert_eq!(check(&"9".repeat(400), 4), Err(JsonFault::NumberOutOfRange));
    }

    #[test]
    fn numbers_that_would_be_rounded_are_compared_by_their_digits() {
        let value = |text: &str| {
            serde_json::from_str::<serde_json::Value>(&comparable(text)).expect("valid JSON").to_string()
        };
        for (one, other) in [
            ("12345678901234567890123", "12345678901234567890124"),
            (r#"{"b":[-9223372036854775809]}"#, r#"{"b":[-9223372036854775810]}"#),
            ("0.123456789012345678901", "0.123456789012345678902"),
        ] {
            assert_ne!(value(one), value(other));
        }
        let same = [(r#"{"a":1,"b":100000000000000000001}"#, r#"{ "b":100000000000000000001, "a":1 }"#)];
        assert!(same.iter().all(|(one, other)| value(one) == value(other)));
        for exact in [
            r#"{"a":"12345678901234567890123","b\\":"\"123456789012345678901"}"#,
            "18446744073709551615",
            "0.1",
        ] {
            assert_eq!(comparable(exact), exact, "nothing to do");
        }
    }

    #[test]
    fn a_value_comes_back_byte_for_byte() {
        let text = r#"{ "big": 9007199254740993, "nul": "\u0000", "a":1, "a":2 }"#;
        let value: RawJson = serde_json::from_str(text).expect("valid JSON");
        assert_eq!(serde_json::to_string(&value).expect("serialises"), text);
    }
}
