//! Events as server-sent events.

use std::convert::Infallible;

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, HeaderName},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, StreamExt, stream};

use super::feed::{Feed, StreamMessage};
use crate::http::{
    access::StreamPlace, extract::Params, limits::PING_EVERY, problem::ApiError, state::HttpState,
};

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
    let events = events(feed).take_until(stopping).map(move |event| {
        // The stream's place, and the node's knowledge of it, last as long as its body.
        let _held = &held;
        event
    });
    let keep_alive = KeepAlive::new().interval(PING_EVERY).text("keep-alive");
    Ok(([(X_ACCEL_BUFFERING, "no")], Sse::new(events).keep_alive(keep_alive)).into_response())
}

fn events(feed: Feed) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(feed, |mut feed| async move {
        let message: StreamMessage = feed.next().await?;
        let event = Event::default().event("system").data(message.text().ok()?);
        let event = match message.place() {
            Some(seq) => event.id(feed.id_of(seq)),
            None => event,
        };
        Some((Ok(event), feed))
    })
}
