//! A node's event stream over a WebSocket, and where one is in it.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::StreamExt;
use reqwest::{
    Upgraded,
    header::{CONNECTION, HeaderMap, HeaderValue, UPGRADE},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

use super::{
    CliError,
    model::{StreamMessage, Ticket},
    node::Node,
    parse::Place,
    text::clean,
};

/// The stream says something each 15 s: after three silences it is gone.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// No event is nearly as large.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// The first pause before connecting again.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// The longest: a node that comes back is found within it.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// An open stream.
#[derive(Debug)]
pub(super) struct Stream(WebSocketStream<Upgraded>);

/// Takes a ticket for one stream.
pub(super) async fn ticket(node: &Node) -> Result<Ticket, CliError> {
    node.post(&["tickets"], None).await?.read()
}

/// What a stream gave.
#[derive(Debug)]
pub(super) enum Heard {
    /// A message, with its JSON as it came.
    Message(Box<StreamMessage>, String),
    /// Something that is no message of this contract.
    Noise(String),
    /// The stream has ended; why.
    End(String),
}

impl Stream {
    /// Opens the stream. The connection is made by the HTTP client, so that TLS, proxies, prefixes and refusals
    /// are the same as for every request.
    pub(super) async fn open(
        node: &Node,
        ticket: Ticket,
        topics: &str,
        since: Option<Place>,
    ) -> Result<Self, CliError> {
        let mut query = vec![("ticket", ticket.ticket)];
        if !topics.is_empty() {
            query.push(("topics", topics.to_owned()));
        }
        if let Some(since) = since {
            query.push(("since", since.to_string()));
        }
        let key = BASE64_STANDARD.encode(rand::random::<[u8; 16]>());
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
        headers.insert("sec-websocket-key", HeaderValue::try_from(&key).map_err(|_| node.unreadable("key"))?);
        let response = node.upgrade(&["ws", "events"], &query, headers).await?;
        let accepted = response.headers().get("sec-websocket-accept").map(HeaderValue::as_bytes);
        if accepted != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
            return Err(node.unreadable("its WebSocket handshake is wrong"));
        }
        let socket = response.upgrade().await.map_err(|error| node.unreadable(&error.to_string()))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        Ok(Self(WebSocketStream::from_raw_socket(socket, Role::Client, Some(config)).await))
    }

    /// What comes next. Cancel safe.
    pub(super) async fn next(&mut self) -> Heard {
        loop {
            let Ok(frame) = tokio::time::timeout(SILENCE_MAX, self.0.next()).await else {
                return Heard::End(format!("silent for {} s", SILENCE_MAX.as_secs()));
            };
            match frame {
                Some(Ok(Message::Text(json))) => {
                    let json = json.as_str().to_owned();
                    return match serde_json::from_str(&json) {
                        Ok(message) => Heard::Message(Box::new(message), json),
                        Err(_) => Heard::Noise(json),
                    };
                }
                Some(Ok(Message::Close(Some(close)))) if !close.reason.is_empty() => {
                    return Heard::End(clean(&close.reason).into_owned());
                }
                Some(Ok(Message::Close(_))) | None => return Heard::End("closed by the node".to_owned()),
                Some(Err(error)) => return Heard::End(error.to_string()),
                // Pings are answered by the library.
                Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            }
        }
    }
}

/// The place behind all that was heard, over reconnects.
#[derive(Debug, Default)]
pub(super) struct Bookmark {
    stream: Option<crate::domain::BootId>,
    place: Option<Place>,
}

impl Bookmark {
    pub(super) fn at(place: Option<Place>) -> Self {
        Self { stream: None, place }
    }

    /// Where to go on.
    pub(super) fn place(&self) -> Option<Place> {
        self.place
    }

    /// Notes a message.
    pub(super) fn hear(&mut self, message: &StreamMessage) {
        self.stream = message.stream_id.or(self.stream);
        // A hello's number may be ahead of events that are still to come, if an older place was asked for.
        let is_behind = message.kind != "stream.hello" || self.place.is_none();
        if let (Some(stream), true) = (self.stream, is_behind) {
            self.place = Some(Place { stream, seq: message.seq });
        }
    }
}

/// Growing pauses with some chance in them, so that readers of a restarted node do not come all at once.
#[derive(Debug, Default)]
pub(super) struct Backoff(u32);

impl Backoff {
    /// The next pause.
    pub(super) fn pause(&mut self) -> Duration {
        let full = PAUSE_FIRST.saturating_mul(1 << self.0.min(16)).min(PAUSE_MAX);
        self.0 = self.0.saturating_add(1);
        full.mul_f64(0.5 + 0.5 * rand::random::<f64>())
    }

    /// All is well again.
    pub(super) fn reset(&mut self) {
        self.0 = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "0199a1b2-0000-7000-8000-000000000001";
    const TWO: &str = "0199a1b2-0000-7000-8000-000000000002";

    fn hear(bookmark: &mut Bookmark, kind: &str, stream: Option<&str>, seq: u64) -> String {
        let stream = stream.map_or_else(String::new, |id| format!(r#""streamId":"{id}","#));
        let json =
            format!(r#"{{"kind":"{kind}",{stream}"seq":{seq},"timestamp":"2026-11-23T19:00:00.000Z"}}"#);
        bookmark.hear(&serde_json::from_str(&json).expect("a message"));
        bookmark.place().map(|place| place.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_new_reader_goes_on_behind_the_hello_and_each_event() {
        let mut bookmark = Bookmark::default();
        assert_eq!(hear(&mut bookmark, "stream.hello", Some(ONE), 7), format!("{ONE}:7"));
        assert_eq!(hear(&mut bookmark, "job.started", None, 9), format!("{ONE}:9"));
        assert_eq!(hear(&mut bookmark, "stream.heartbeat", Some(ONE), 12), format!("{ONE}:12"));
    }

    #[test]
    fn a_resumed_reader_is_not_taken_ahead_by_the_hello() {
        let mut bookmark =
            Bookmark::at(Some(crate::cli::parse::place(&format!("{ONE}:3")).expect("a place")));
        assert_eq!(hear(&mut bookmark, "stream.hello", Some(ONE), 7), format!("{ONE}:3"));
        assert_eq!(hear(&mut bookmark, "job.started", None, 4), format!("{ONE}:4"));
    }

    #[test]
    fn another_run_of_the_node_counts_from_its_reset_on() {
        let mut bookmark =
            Bookmark::at(Some(crate::cli::parse::place(&format!("{ONE}:900")).expect("a place")));
        assert_eq!(hear(&mut bookmark, "stream.hello", Some(TWO), 5), format!("{ONE}:900"));
        assert_eq!(hear(&mut bookmark, "stream.reset", Some(TWO), 5), format!("{TWO}:5"));
        assert_eq!(hear(&mut bookmark, "job.started", None, 6), format!("{TWO}:6"));
    }

    #[test]
    fn pauses_grow_to_a_bound_and_start_anew() {
        let mut backoff = Backoff::default();
        let pauses: Vec<Duration> = (0..40).map(|_| backoff.pause()).collect();
        assert!(pauses[0] <= PAUSE_FIRST && pauses[0] >= PAUSE_FIRST / 2);
        assert!(pauses[39] <= PAUSE_MAX && pauses[39] >= PAUSE_MAX / 2);
        backoff.reset();
        assert!(backoff.pause() <= PAUSE_FIRST);
    }
}
