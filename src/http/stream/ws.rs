//! Events over a WebSocket.

use axum::{
    Extension,
    extract::{
        State,
        ws::{
            CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code,
            rejection::WebSocketUpgradeRejection,
        },
    },
    http::{HeaderMap, StatusCode},
    response::Response,
};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::feed::{Feed, StreamMessage};
use crate::http::{
    access::StreamPlace,
    extract::Params,
    limits::{INBOUND_BYTES_MAX, OUTBOUND_BYTES_MAX, PING_EVERY, SILENCE_MAX, WRITE_STALL_MAX},
    problem::{ApiError, Problem},
    state::HttpState,
};

/// What is read from a reader at once: it has next to nothing to say, and there are many of them.
const READ_BUFFER_BYTES: usize = 4 << 10;

/// Streams events over a WebSocket
///
/// One JSON object a message. The first is `stream.hello`. Nothing is read but closes and pongs.
#[utoipa::path(
    get,
    path = "/ws/events",
    tag = "streams",
    operation_id = "streamEventsWs",
    params(
        ("ticket" = Option<String>, Query, description = "A ticket, instead of a key"),
        ("topics" = Option<String>, Query, description = "`job:{id}`, `queue:{q}`, `worker:{id}`, `kind:job.failed`, `kind:worker.*`; a comma list"),
        ("logsAfter" = Option<i64>, Query, minimum = 0, description = "With a topic `job:{id}`: lines of its log behind this `seq`, instead of the last 1,000"),
        ("since" = Option<String>, Query, description = "`streamId:seq`: where to go on"),
        ("Last-Event-ID" = Option<String>, Header, description = "The same as `since`"),
    ),
    responses(
        (status = 101, description = "The stream; its messages are of this form", body = StreamMessage, content_type = "application/json"),
        (status = 426, description = "Not a WebSocket request", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn ws(
    State(state): State<HttpState>,
    place: Option<Extension<StreamPlace>>,
    params: Params,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = upgrade.map_err(|why| not_a_websocket(&why))?;
    let feed = Feed::open(&state, &params, &headers)?;
    let upgrade = upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(INBOUND_BYTES_MAX)
        .max_frame_size(INBOUND_BYTES_MAX)
        .write_buffer_size(0)
        .max_write_buffer_size(OUTBOUND_BYTES_MAX);
    let alive = state.tasks().token();
    Ok(upgrade.on_upgrade(async move |socket| {
        serve(socket, feed, state).await;
        drop((place, alive));
    }))
}

fn not_a_websocket(why: &WebSocketUpgradeRejection) -> ApiError {
    let status = match why {
        WebSocketUpgradeRejection::ConnectionNotUpgradable(_) => StatusCode::UPGRADE_REQUIRED,
        WebSocketUpgradeRejection::MethodNotGet(_) => StatusCode::METHOD_NOT_ALLOWED,
        _ => StatusCode::BAD_REQUEST,
    };
    ApiError::new(
        status,
        "not_a_websocket",
        format!("this path takes WebSocket requests: {}", why.body_text()),
    )
}

async fn serve(mut socket: WebSocket, mut feed: Feed, state: HttpState) {
    let mut pings = interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings.reset();
    let mut heard = Instant::now();
    let farewell = loop {
        let message = tokio::select! {
            message = feed.next() => match message.map(|message| message.text()) {
                Some(Ok(text)) => Message::text(text),
                Some(Err(_)) => break (close_code::ERROR, "an event could not be written"),
                None => break (close_code::AGAIN, "the stream has ended, or the reader was too slow"),
            },
            inbound = socket.recv() => match inbound {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {
                    heard = Instant::now();
                    continue;
                }
            },
            _ = pings.tick() => {
                if heard.elapsed() > SILENCE_MAX {
                    return;
                }
                Message::Ping(Default::default())
            }
            () = state.stopping().cancelled() => break (close_code::AWAY, "the node is going away"),
        };
        match timeout(WRITE_STALL_MAX, socket.send(message)).await {
            Ok(Ok(())) => (),
            Ok(Err(_)) | Err(_) => return,
        }
    };
    let (code, reason) = farewell;
    let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    // The last word; a peer that does not take it is gone anyway.
    drop(timeout(PING_EVERY, socket.send(close)).await);
}
