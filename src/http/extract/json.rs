//! JSON bodies.
//!
//! ```text
//! other media type, or none   415        cannot be parsed          400, line and column
//! over the limit              413        parsed, and not as needed 422, a pointer for the field
//! too slow                    408        not UTF-8, empty          400
//! ```
//! A name given twice at the top is a 422. Values that are kept as text (`payload`) are skipped over
//! without recursion, so no depth of nesting costs stack.

use std::time::Duration;

use axum::{
    body::{Body, BodyDataStream},
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use futures_util::StreamExt;
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_path_to_error::Segment;

use crate::http::{
    limits::{BODY_BYTES_MAX, BODY_DEADLINE, BODY_STALL_MAX, DISCARD_BYTES_MAX, DISCARD_DEADLINE},
    problem::ApiError,
};

/// A JSON body.
#[derive(Debug, Clone, Copy)]
pub struct ApiJson<T>(pub T);

/// A JSON body that may be left out: none is as good as `{}`.
#[derive(Debug, Clone, Copy)]
pub struct OptionalJson<T>(pub T);

/// Longer texts of a parser are cut: they quote the value at fault, which may be a megabyte.
const DETAIL_CHARS_MAX: usize = 300;

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(unsupported());
        }
        let bytes = read(request).await?;
        if bytes.is_empty() {
            return Err(ApiError::malformed("empty_body", "the body is empty"));
        }
        parse(&bytes).map(Self)
    }
}

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, ApiError> {
        let json = is_json(request.headers());
        let bytes = read(request).await?;
        match (bytes.is_empty(), json) {
            (true, _) => Ok(Self(T::default())),
            (false, true) => parse(&bytes).map(Self),
            (false, false) => Err(unsupported()),
        }
    }
}

fn unsupported() -> ApiError {
    ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        "the body must be `Content-Type: application/json`",
    )
}

/// Whether the one content type is `application/json`, in UTF-8 if it says so.
fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|essence| essence == "application/json")
}

/// The one content type in small letters, if it is text in UTF-8 as far as it says.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<String> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (types.next(), types.next()) else { return None };
    let mut parts = value.to_str().ok()?.split(';').map(str::trim);
    let essence = parts.next()?.to_ascii_lowercase();
    let is_plain = parts.all(|parameter| match parameter.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
                value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
            }
            _ => true,
        })
        // A compressed body would have to be unpacked first, and nothing here does.
        && headers.get(header::CONTENT_ENCODING).is_none_or(|coding| coding == "identity");
    is_plain.then_some(essence)
}

/// Reads the whole body, within the usual limit and deadline.
async fn read(request: Request) -> Result<Vec<u8>, ApiError> {
    read_up_to(request, BODY_BYTES_MAX, BODY_DEADLINE).await
}

/// Reads the whole body, at most `limit` bytes within `deadline`.
pub(crate) async fn read_up_to(
    request: Request,
    limit: usize,
    deadline: Duration,
) -> Result<Vec<u8>, ApiError> {
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<usize>().ok())
        .unwrap_or_default();
    if announced > limit {
        discard(request.into_body().into_data_stream()).await;
        return Err(too_large(limit));
    }
    let collected = tokio::time::timeout(deadline, collect(request.into_body(), announced, limit)).await;
    collected.unwrap_or_else(|_| Err(too_slow()))
}

fn too_slow() -> ApiError {
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", "the body took too long to arrive")
}

fn too_large(limit: usize) -> ApiError {
    let detail = format!("the body is larger than {limit} bytes");
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
}

/// Takes in and drops what is left of a body that is refused, within bounds: a connection that is closed on a
/// client that still sends resets it, and the client never reads why.
async fn discard(mut chunks: BodyDataStream) {
    let drop_all = async {
        let mut bytes = 0;
        while let Some(Ok(chunk)) = chunks.next().await {
            bytes += chunk.len();
            if bytes > DISCARD_BYTES_MAX {
                break;
            }
        }
    };
    // Whether it was all or the time was up: the answer is the same.
    drop(tokio::time::timeout(DISCARD_DEADLINE, drop_all).await);
}

async fn collect(body: Body, announced: usize, limit: usize) -> Result<Vec<u8>, ApiError> {
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::with_capacity(announced);
    loop {
        let next = tokio::time::timeout(BODY_STALL_MAX, chunks.next()).await;
        let Some(chunk) = next.map_err(|_| too_slow())? else { return Ok(bytes) };
        let chunk =
            chunk.map_err(|_| ApiError::malformed("body_cut_off", "the body ended before its end"))?;
        if bytes.len() + chunk.len() > limit {
            discard(chunks).await;
            return Err(too_large(limit));
        }
        bytes.extend_from_slice(&chunk);
    }
}

/// Parses a body, which must be an object: the parser would take an array for one, its elements for the fields in the
/// order of their declaration.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let detail = format!("the body is not UTF-8 from byte {} on", error.valid_up_to());
        ApiError::malformed("malformed_json", detail)
    })?;
    let mut json = serde_json::Deserializer::from_str(text);
    let parsed = serde_path_to_error::deserialize(&mut json);
    match parsed {
        Ok(_) if text.trim_start().starts_with('[') => Err(match well_formed(text) {
            Ok(()) => ApiError::invalid_field("", "must be an object"),
            Err(syntax) => malformed(&syntax),
        }),
        Ok(value) => json.end().map(|()| value).map_err(|error| malformed(&error)),
        // The parser stops at the first fault of either kind; which kind it is, a second pass tells.
        Err(error) => Err(match well_formed(text) {
            Ok(()) => unfit(error.path(), error.inner()),
            Err(syntax) => malformed(&syntax),
        }),
    }
}

fn well_formed(text: &str) -> Result<(), serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    IgnoredAny::deserialize(&mut json)?;
    json.end()
}

fn malformed(error: &serde_json::Error) -> ApiError {
    ApiError::malformed("malformed_json", format!("the body is not JSON: {error}"))
}

fn unfit(path: &serde_path_to_error::Path, error: &serde_json::Error) -> ApiError {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Enum { .. } | Segment::Unknown => (),
        }
    }
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    // The parser names these fields in its text alone.
    if let Some(field) = ["missing field `", "duplicate field `"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix)?.strip_suffix('`'))
        && !pointer.ends_with(&format!("/{field}"))
    {
        pointer.push('/');
        pointer.push_str(field);
    }
    ApiError::invalid_field(pointer, text.chars().take(DETAIL_CHARS_MAX).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::SubmitRequest;

    fn submit(body: &str) -> Result<SubmitRequest, (u16, String)> {
        parse(body.as_bytes()).map_err(|error| (error.status().as_u16(), format!("{error:?}")))
    }

    #[test]
    fn a_payload_is_kept_byte_for_byte() {
        let payload =
            r#"{ "big" : 9007199254740993, "nul":"\u0000", "e":1e400, "b":1, "a":1,  "a":2, "x":"\ud83d" }"#;
        let request = submit(&format!(r#"{{"type":"t","payload": {payload} }}"#)).expect("well-formed");
        assert_eq!(request.payload.expect("has one").text(), payload);
    }

    #[test]
    fn depth_costs_no_stack_anywhere() {
        let deep = "[".repeat(500_000) + &"]".repeat(500_000);
        assert!(submit(&format!(r#"{{"type":"t","payload":{deep}}}"#)).is_ok(), "checked later");
        assert!(submit(&format!(r#"{{"type":"t","unknown":{deep}}}"#)).is_ok());
        for field in ["type", "expiresAt", "tags", "retry"] {
            let (status, _) = submit(&format!(r#"{{"{field}":{deep}}}"#)).expect_err("too deep");
            assert_eq!(status, 422, "{field}");
        }
        assert_eq!(submit(&deep[..500_000]).expect_err("cut off").0, 400);
    }

    #[test]
    fn what_cannot_be_parsed_is_told_from_what_does_not_fit() {
        for bad in
            ["{", "nul", "{\"type\":}", "{}x", "\u{feff}{}", "{'type':1}", "[1,]", "{\"type\":\"t\"} {}"]
        {
            assert_eq!(submit(bad).expect_err(bad).0, 400, "{bad}");
        }
        for (bad, pointer) in [
            ("{}", "/type"),
            ("[]", ""),
            ("null", ""),
            (r#"{"type":7}"#, "/type"),
            (r#"{"type":"t","type":"u"}"#, "/type"),
            (r#"{"type":"t","tags":["a",1]}"#, "/tags/1"),
            (r#"{"type":"t","retry":{"strategy":"never"}}"#, "/retry/strategy"),
            (r#"{"type":"t","priority":1.5}"#, "/priority"),
            (r#"{"type":"t","maxAttempts":99999999999999999999}"#, "/maxAttempts"),
            (r#"{"type":"\ud800"}"#, "/type"),
            (r#"{"type":"t","scheduledAt":"tomorrow"}"#, "/scheduledAt"),
            (r#"{"type":"t","workflowId":"x"}"#, "/workflowId"),
        ] {
            let (status, text) = submit(bad).expect_err(bad);
            assert_eq!(status, 422, "{bad}: {text}");
            assert!(text.contains(&format!("pointer: {pointer:?}")), "{bad}: {text}");
        }
    }

    #[test]
    fn an_array_is_no_object() {
        for body in ["[]", " [true]", "[null,\"why\"]"] {
            let parsed = parse::<crate::http::queues::PurgeRequest>(body.as_bytes());
            assert_eq!(parsed.expect_err(body).status().as_u16(), 422);
        }
        let parsed = parse::<crate::http::queues::PurgeRequest>(b"[] x");
        assert_eq!(parsed.expect_err("garbage").status().as_u16(), 400);
        assert!(parse::<crate::http::queues::PurgeRequest>(b" {}").is_ok());
    }

    #[test]
    fn a_long_value_at_fault_is_not_sent_back() {
        let (_, text) =
            submit(&format!(r#"{{"type":"t","priority":"{}"}}"#, "x".repeat(100_000))).expect_err("a text");
        assert!(text.len() < 2_000);
    }

    #[test]
    fn only_json_in_utf_8_is_taken() {
        let with = |value: &'static str| {
            is_json(&HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().expect("a header"))]))
        };
        assert!(with("application/json") && with("Application/JSON; charset=UTF-8"));
        for bad in ["text/plain", "application/jsonp", "application/json; charset=latin1", ""] {
            assert!(!with(bad), "{bad}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
