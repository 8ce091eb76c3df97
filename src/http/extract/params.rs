//! The query of a URL: decoded strictly, each parameter checked where it is used.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr};

use axum::{extract::FromRequestParts, http::request::Parts};
use percent_encoding::percent_decode_str;

use crate::{
    domain::{FieldError, Timestamp, name},
    http::{limits::FILTER_BYTES_MAX, problem::ApiError},
};

/// The parameters of a query, in their order. Unknown ones are ignored.
#[derive(Debug, Clone, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Decodes a query; `None` when it is not UTF-8.
    #[must_use]
    pub fn parse(query: &str) -> Option<Self> {
        let decode = |text: &str| {
            let spaced = text.replace('+', " ");
            percent_decode_str(&spaced).decode_utf8().ok().map(|text| text.into_owned())
        };
        let mut pairs = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode(name)?, decode(value)?));
        }
        Some(Self(pairs))
    }

    /// The names that were given.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// All values of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The one value of `name`; an empty one is as good as none.
    ///
    /// # Errors
    /// 422 when it is given more than once: which one would count is anybody's guess.
    pub fn one<'a>(&'a self, name: &'a str) -> Result<Option<&'a str>, ApiError> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(fault(name, "given more than once")),
            (value, None) => Ok(value.filter(|value| !value.is_empty())),
        }
    }

    /// A number within `range`.
    ///
    /// # Errors
    /// 422 when it is none, or beyond the range.
    pub fn number<T>(&self, name: &str, range: RangeInclusive<T>, default: T) -> Result<T, ApiError>
    where
        T: FromStr + PartialOrd + Display + Copy,
    {
        let Some(text) = self.one(name)? else { return Ok(default) };
        let value = text.parse().ok().filter(|value| range.contains(value));
        value.ok_or_else(|| fault(name, &format!("must be between {} and {}", range.start(), range.end())))
    }

    /// A name of a queue, type, tenant or tag.
    ///
    /// # Errors
    /// 422 when it cannot be one.
    pub fn name(&self, name: &str) -> Result<Option<String>, ApiError> {
        match self.one(name)? {
            Some(value) if !name::is_name(value) => {
                Err(fault(name, "must match [A-Za-z0-9][A-Za-z0-9._:/-]{0,127}"))
            }
            value => Ok(value.map(str::to_owned)),
        }
    }

    /// A text without control characters (some stores cannot even compare with them).
    ///
    /// # Errors
    /// 422 when it has some, or is too long.
    pub fn text(&self, name: &str) -> Result<Option<String>, ApiError> {
        match self.one(name)? {
            Some(value) if value.len() > FILTER_BYTES_MAX || value.chars().any(char::is_control) => {
                Err(fault(name, &format!("at most {FILTER_BYTES_MAX} bytes, without control characters")))
            }
            value => Ok(value.map(str::to_owned)),
        }
    }

    /// A time.
    ///
    /// # Errors
    /// 422 when it is none.
    pub fn time(&self, name: &str) -> Result<Option<Timestamp>, ApiError> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        // A `+` of an offset that was not escaped has become a space.
        let text = text.replace(' ', "+");
        let value = serde_json::from_value(serde_json::Value::String(text));
        value.map(Some).map_err(|_| fault(name, "not an RFC 3339 time such as 2026-11-23T19:00:00Z"))
    }
}

/// 422 for a parameter of the query.
pub(crate) fn fault(name: &str, detail: &str) -> ApiError {
    ApiError::invalid(vec![FieldError::new(format!("/{name}"), format!("query parameter {name}: {detail}"))])
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Self::parse(parts.uri.query().unwrap_or_default())
            .ok_or_else(|| ApiError::malformed("malformed_query", "the query is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_or_refused() {
        let params = Params::parse("state=queued&state=failed&q=a%20b+c&empty=&flag").expect("valid");
        assert_eq!(params.all("state").collect::<Vec<_>>(), ["queued", "failed"]);
        assert_eq!(params.one("q").expect("once"), Some("a b c"));
        assert_eq!(params.one("empty").expect("once"), None);
        assert!(params.one("state").is_err());
        assert!(Params::parse("q=%ff").is_none());
    }

    #[test]
    fn numbers_hold_at_their_edges() {
        let limit = |text: &str| Params::parse(text).expect("valid").number("limit", 1..=1_000, 100).ok();
        assert_eq!(limit(""), Some(100));
        assert_eq!((limit("limit=1"), limit("limit=1000")), (Some(1), Some(1_000)));
        for bad in ["limit=0", "limit=1001", "limit=-1", "limit=x", "limit=1e3", "limit=99999999999999999999"]
        {
            assert_eq!(limit(bad), None, "{bad}");
        }
        let seconds = |text: &str| Params::parse(text).expect("valid").number("s", 0.0..=60.0, 30.0).ok();
        assert_eq!((seconds("s=0.25"), seconds("s=NaN"), seconds("s=inf")), (Some(0.25), None, None));
    }

    #[test]
    fn times_take_offsets_whether_escaped_or_not() {
        let time = |text: &str| Params::parse(text).expect("valid").time("at").ok().flatten();
        assert!(time("at=2026-11-23T19:00:00Z").is_some());
        assert_eq!(time("at=2026-11-23T19:00:00%2B01:00"), time("at=2026-11-23T19:00:00+01:00"));
        assert_eq!(time("at=yesterday"), None);
    }
}
