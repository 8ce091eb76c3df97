//! Events over a WebSocket.

use axum::{
    Extension,
    extract::{
        State,
        ws::{
            CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code,
            rejection::WebSocketUpgradeRejection,
        },
    },
    http::{HeaderMap, StatusCode},
    response::Response,
};
use futures_util::SinkExt;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::feed::{self, Feed, StreamMessage};
use crate::http::{
    access::StreamPlace,
    extract::Params,
    limits::{
        INBOUND_BYTES_MAX, INBOUND_MESSAGES_MAX, OUTBOUND_BATCH_MAX, OUTBOUND_BUFFER_BYTES,
        OUTBOUND_BYTES_MAX, PING_EVERY, SILENCE_MAX, STREAM_CLOSE_MAX, STREAM_STALL_MAX,
    },
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
        .write_buffer_size(OUTBOUND_BUFFER_BYTES)
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

/// Why a stream ends: the close frame, and the reader's fault, if it is one.
type Farewell = (u16, &'static str, Option<&'static str>);

const TOO_SLOW: Farewell =
    (close_code::AGAIN, "too slow: events were merged, and there were still too many", Some("slow"));
const STALLED: Farewell = (close_code::AGAIN, "too slow: nothing was taken", Some("stalled"));
const ENDED: Farewell = (close_code::AGAIN, "the stream has ended", None);
const LEAVING: Farewell = (close_code::AWAY, "the node is going away", None);
const TALKATIVE: Farewell = (close_code::POLICY, "nothing is read here", Some("talkative"));
const UNREADABLE: Farewell = (close_code::SIZE, "a message was too large, or was none", Some("unreadable"));

async fn serve(mut socket: WebSocket, mut feed: Feed, state: HttpState) {
    let mut pings = interval(PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings.reset();
    let mut heard = Instant::now();
    let mut inbound_messages = 0;
    let (code, reason, fault) = loop {
        let message = tokio::select! {
            message = feed.next() => match message {
                Some(message) => frame(&message),
                None if feed.is_too_slow() => break TOO_SLOW,
                None => break ENDED,
            },
            inbound = socket.recv() => match inbound {
                Some(Ok(Message::Close(_))) | None => return,
                Some(Err(_)) => break UNREADABLE,
                Some(Ok(message)) => {
                    heard = Instant::now();
                    inbound_messages += u32::from(matches!(message, Message::Text(_) | Message::Binary(_)));
                    if inbound_messages > INBOUND_MESSAGES_MAX {
                        break TALKATIVE;
                    }
                    continue;
                }
            },
            _ = pings.tick() => {
                inbound_messages = 0;
                if heard.elapsed() > SILENCE_MAX {
                    return;
                }
                Message::Ping(Default::default())
            }
            () = state.stopping().cancelled() => break LEAVING,
        };
        match timeout(STREAM_STALL_MAX, send(&mut socket, message, &mut feed)).await {
            Ok(Ok(())) => (),
            Ok(Err(_)) => return,
            Err(_) => break STALLED,
        }
    };
    if let Some(fault) = fault {
        crate::metrics::stream_dropped(fault);
    }
    let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    // The last word; a peer that does not take it is gone anyway.
    drop(timeout(STREAM_CLOSE_MAX, socket.send(close)).await);
}

/// Writes a message and those that are ready behind it, with as few system calls as the buffer allows.
async fn send(socket: &mut WebSocket, first: Message, feed: &mut Feed) -> Result<(), axum::Error> {
    socket.feed(first).await?;
    for _ in 1..OUTBOUND_BATCH_MAX {
        let Some(message) = feed.ready() else { break };
        socket.feed(frame(&message)).await?;
    }
    socket.flush().await
}

fn frame(message: &feed::Message) -> Message {
    // JSON is UTF-8: the check costs less than a copy would.
    Message::Text(Utf8Bytes::try_from(message.text()).unwrap_or_else(|_| Utf8Bytes::from_static("{}")))
}
