//! Where the next page of a list begins, as text that callers hand back unread.

use axum::http::{HeaderName, HeaderValue, header};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use uuid::Uuid;

use crate::{
    domain::JobId,
    http::{extract::Params, problem::ApiError},
    store::read::JobCursor,
};

/// Leads each cursor, so that those of one list are not taken by another, nor those of another version.
const JOBS: u8 = b'j';
const EVENTS: u8 = b'e';
/// Of the audit log.
pub(in crate::http) const AUDIT: u8 = b'a';
/// Of bulk operations.
pub(in crate::http) const OPERATIONS: u8 = b'o';

/// What stands in a query as it is.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');

pub(super) fn of_job(JobCursor(id): JobCursor) -> String {
    encode(JOBS, &id.0.into_bytes())
}

pub(super) fn job(params: &Params) -> Result<Option<JobCursor>, ApiError> {
    let Some(bytes) = decode(params, JOBS)? else { return Ok(None) };
    Ok(Some(JobCursor(JobId(Uuid::from_bytes(bytes)))))
}

pub(super) fn of_seq(seq: i64) -> String {
    encode(EVENTS, &seq.to_be_bytes())
}

pub(super) fn seq(params: &Params) -> Result<Option<i64>, ApiError> {
    Ok(decode(params, EVENTS)?.map(i64::from_be_bytes))
}

/// A cursor of a list whose ids are UUIDs.
pub(in crate::http) fn of_uuid(list: u8, id: Uuid) -> String {
    encode(list, id.as_bytes())
}

pub(in crate::http) fn uuid(params: &Params, list: u8) -> Result<Option<Uuid>, ApiError> {
    Ok(decode(params, list)?.map(Uuid::from_bytes))
}

pub(in crate::http) fn encode(list: u8, place: &[u8]) -> String {
    let mut bytes = vec![list];
    bytes.extend_from_slice(place);
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub(in crate::http) fn decode<const N: usize>(
    params: &Params,
    list: u8,
) -> Result<Option<[u8; N]>, ApiError> {
    let Some(text) = params.one("cursor")? else { return Ok(None) };
    let place = BASE64_URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| {
        let (first, place) = bytes.split_first()?;
        (*first == list).then(|| place.try_into().ok()).flatten()
    });
    place.map(Some).ok_or_else(|| ApiError::invalid_field("/cursor", "not a cursor of this list"))
}

/// The `Link` to the next page: the same query, from `cursor` on.
pub(in crate::http) fn next_page(
    path: &str,
    params: &Params,
    names: &[&str],
    cursor: &str,
) -> Option<(HeaderName, HeaderValue)> {
    let mut query = String::new();
    for name in names {
        for value in params.all(name).filter(|value| !value.is_empty()) {
            query.push_str(&format!("{name}={}&", utf8_percent_encode(value, QUERY)));
        }
    }
    let link = format!("<{path}?{query}cursor={cursor}>; rel=\"next\"");
    HeaderValue::from_str(&link).ok().map(|link| (header::LINK, link))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(cursor: &str) -> Params {
        Params::parse(&format!("cursor={cursor}")).expect("valid")
    }

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        let place = JobCursor(JobId::new());
        assert_eq!(job(&params(&of_job(place))).expect("valid"), Some(place));
        assert_eq!(seq(&params(&of_seq(1 << 40))).expect("valid"), Some(1 << 40));
    }

    #[test]
    fn what_is_no_cursor_of_the_list_is_refused() {
        for bad in [&of_seq(7), "x", "%00", "ZZZZ", &of_job(JobCursor(JobId::new()))[1..]] {
            assert!(job(&params(bad)).is_err(), "{bad}");
        }
        assert_eq!(job(&Params::default()).expect("none"), None);
    }

    #[test]
    fn the_next_page_keeps_the_filters_and_escapes_them() {
        let params = Params::parse("state=queued&state=failed&q=a%20%22%3E&limit=2&other=1").expect("valid");
        let (_, link) =
            next_page("/api/v1/jobs", &params, &["state", "q", "limit"], "abc").expect("a header");
        assert_eq!(
            link,
            "</api/v1/jobs?state=queued&state=failed&q=a%20%22%3E&limit=2&cursor=abc>; rel=\"next\""
        );
    }
}
