//! Events as server-sent events.

use std::convert::Infallible;

use axum::{
    Extension,
    body::Body,
    extract::State,
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use tokio::time::timeout;

use super::feed::{Feed, Message, StreamMessage};
use crate::http::{
    access::StreamPlace,
    extract::Params,
    limits::{OUTBOUND_BUFFER_BYTES, PING_EVERY},
    problem::ApiError,
    state::HttpState,
};

/// Shows peers and proxies in between that the connection lives.
const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

/// Tells proxies not to gather events before they pass them on.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Streams events as server-sent events
///
/// `event: system`, one JSON object each; the first is `stream.hello`. Connecting again with
/// `Last-Event-ID` goes on behind it.
#[utoipa::path(
    get,
    path = "/sse/events",
    tag = "streams",
    operation_id = "streamEventsSse",
    params(
        ("ticket" = Option<String>, Query, description = "A ticket, instead of a key"),
        ("topics" = Option<String>, Query, description = "`job:{id}`, `queue:{q}`, `worker:{id}`, `kind:job.failed`, `kind:worker.*`; a comma list"),
        ("logsAfter" = Option<i64>, Query, minimum = 0, description = "With a topic `job:{id}`: lines of its log behind this `seq`, instead of the last 1,000"),
        ("since" = Option<String>, Query, description = "`streamId:seq`: where to go on"),
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that was read"),
    ),
    responses((status = 200, description = "The stream; the `data` of its events is of this form", body = StreamMessage, content_type = "text/event-stream")),
)]
pub async fn sse(
    State(state): State<HttpState>,
    place: Option<Extension<StreamPlace>>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let feed = Feed::open(&state, &params, &headers)?;
    let stopping = state.stopping().clone().cancelled_owned();
    let held = (place, state.tasks().token());
    let events = events(feed).take_until(stopping).map(move |chunk| {
        // The stream's place, and the node's knowledge of it, last as long as its body.
        let _held = &held;
        Ok::<_, Infallible>(chunk)
    });
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (X_ACCEL_BUFFERING, HeaderValue::from_static("no")),
    ];
    Ok((headers, Body::from_stream(events)).into_response())
}

/// The stream's bytes: what is ready together goes out together. A peer that takes nothing is closed by the
/// connection's own deadline.
fn events(feed: Feed) -> impl Stream<Item = Bytes> {
    stream::unfold(feed, |mut feed| async move {
        let Ok(message) = timeout(PING_EVERY, feed.next()).await else {
            return Some((Bytes::from_static(KEEP_ALIVE), feed));
        };
        let mut chunk = BytesMut::new();
        write(&mut chunk, &feed, &message?);
        while chunk.len() < OUTBOUND_BUFFER_BYTES
            && let Some(message) = feed.ready()
        {
            write(&mut chunk, &feed, &message);
        }
        Some((chunk.freeze(), feed))
    })
}

/// One event. Its JSON has no line break, so it is one line of data.
fn write(chunk: &mut BytesMut, feed: &Feed, message: &Message) {
    chunk.extend_from_slice(b"event: system\ndata: ");
    chunk.extend_from_slice(&message.text());
    if let Some(seq) = message.place() {
        chunk.extend_from_slice(b"\nid: ");
        chunk.extend_from_slice(feed.id_of(seq).as_bytes());
    }
    chunk.extend_from_slice(b"\n\n");
}
