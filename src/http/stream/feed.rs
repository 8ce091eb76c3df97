//! What a stream sends, whatever carries it.

use std::{borrow::Cow, collections::BTreeMap};

use axum::http::HeaderMap;
use bytes::Bytes;
use serde::Serialize;
use tokio::time::Instant;

use super::follow::Follow;
use crate::{
    actors::console::{
        DetailEvent, HubHandle, Pace, Paced, StreamEvent, StreamItem, Subscription, Told, Topics,
    },
    domain::{BootId, Timestamp},
    http::{extract::Params, problem::ApiError, state::HttpState},
};

/// A message about the stream itself.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Control {
    /// `stream.hello`, `stream.heartbeat`, `stream.reset` or `stream.merged`.
    pub kind: &'static str,
    /// The stream: a node's boot.
    #[schema(value_type = String, format = Uuid)]
    pub stream_id: BootId,
    /// The newest `seq`; of merged events, the last of them.
    pub seq: u64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
    /// Of merged events: the `seq` of the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Of merged events: how many of each kind there were.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, u64>>)]
    pub counts: Option<BTreeMap<Cow<'static, str>, u64>>,
}

const HELLO: &str = "stream.hello";
/// What is said when a text cannot be made; it can always be.
const NO_TEXT: &str = "{}";

/// A message of a stream, as it is described.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum StreamMessage {
    /// About the stream itself.
    Control(Control),
    /// What happened on the node.
    Event(Box<StreamEvent>),
    /// What a followed job says, or is.
    Detail(Box<DetailEvent>),
}

/// A message of a stream, on its way.
#[derive(Debug, Clone)]
pub(super) enum Message {
    Control(Control),
    Event(Told),
    Detail(Box<DetailEvent>),
}

impl Message {
    /// As JSON. An event's was made once for all readers.
    pub(super) fn text(&self) -> Bytes {
        let made = match self {
            Self::Event(event) => return event.text(),
            Self::Control(control) => serde_json::to_vec(control),
            Self::Detail(detail) => serde_json::to_vec(detail),
        };
        made.map_or(Bytes::from_static(NO_TEXT.as_bytes()), Bytes::from)
    }

    /// The place to go on from after this message. A hello is none: its `seq` may be ahead of events that
    /// this reader has still to get. A heartbeat is one: it comes when there are none.
    pub(super) fn place(&self) -> Option<u64> {
        match self {
            Self::Event(event) => Some(event.seq),
            Self::Detail(detail) => Some(detail.seq),
            Self::Control(control) => (control.kind != HELLO).then_some(control.seq),
        }
    }
}

/// A reader of the hub, with the messages of the stream around the events.
#[derive(Debug)]
pub(super) struct Feed {
    hub: HubHandle,
    events: Subscription,
    pace: Pace,
    hello: Option<Control>,
    is_too_slow: bool,
    clock: HttpState,
    /// The jobs that the topics name.
    follow: Follow,
    /// The reader's place among the events.
    place: u64,
}

/// Where a reader wants to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    Now,
    Place(BootId, u64),
    /// A place that no stream has: answered as one that is gone.
    Gone,
}

impl Feed {
    /// Opens a stream as the request asks for it.
    pub(super) fn open(state: &HttpState, params: &Params, headers: &HeaderMap) -> Result<Self, ApiError> {
        let topics = match params.one("topics")? {
            Some(text) => Topics::parse(text).map_err(|why| ApiError::invalid_field("/topics", why))?,
            None => Topics::all(),
        };
        let hub = state.platform.hub().clone();
        // Read before subscribing, and subscribed behind it: so the first event follows the hello's seq.
        let newest = hub.newest();
        let since = match since(params, headers)? {
            Since::Now => (hub.stream_id(), newest),
            Since::Place(stream, seq) => (stream, seq),
            // No stream has this id, so the hub answers with a reset.
            Since::Gone => (BootId(uuid::Uuid::nil()), 0),
        };
        let place = if since.0 == hub.stream_id() { since.1 } else { newest };
        let events = hub.subscribe(topics, Some(since));
        let follow = Follow::open(state, &hub, params)?;
        let hello = control(state, &hub, HELLO, newest);
        let pace = Pace::new(Instant::now(), events.lag(), hub.readers());
        let clock = state.clone();
        Ok(Self { hub, events, pace, hello: Some(hello), is_too_slow: false, clock, follow, place })
    }

    /// The next message; `None` when the stream has ended, or the reader is too slow for it. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Message> {
        if let Some(hello) = self.hello.take() {
            return Some(Message::Control(hello));
        }
        loop {
            // Who joins gets what is and was said before what happens next.
            if self.follow.is_joining() {
                let event = self.follow.next().await;
                return Some(self.detail(event));
            }
            match self.paced() {
                Paced::Send => {
                    let item = tokio::select! {
                        biased;
                        event = self.follow.next() => return Some(self.detail(event)),
                        item = self.events.next() => item,
                    };
                    return self.message(item);
                }
                Paced::Merge => {
                    if let Some(merged) = self.merged() {
                        return Some(merged);
                    }
                }
                // What comes meanwhile is merged with it.
                Paced::MergeAt(at) => tokio::select! {
                    biased;
                    event = self.follow.next() => return Some(self.detail(event)),
                    () = tokio::time::sleep_until(at) => {}
                },
                Paced::Drop => {
                    self.is_too_slow = true;
                    return self.merged();
                }
            }
        }
    }

    fn detail(&self, mut event: DetailEvent) -> Message {
        event.seq = self.place;
        Message::Detail(Box::new(event))
    }

    /// The next message, if there is one that need not be waited for.
    pub(super) fn ready(&mut self) -> Option<Message> {
        if self.hello.is_some()
            || self.follow.is_joining()
            || self.events.lag() == 0
            || self.paced() != Paced::Send
        {
            return None;
        }
        let item = self.events.ready()?;
        self.message(item)
    }

    /// Whether the stream ends because its reader is too slow.
    pub(super) fn is_too_slow(&self) -> bool {
        self.is_too_slow
    }

    fn paced(&mut self) -> Paced {
        if self.is_too_slow {
            return Paced::Drop;
        }
        let lag = self.events.lag();
        // With nothing to send there is nothing to share: the wait for an event costs nothing.
        if lag == 0 { Paced::Send } else { self.pace.next(Instant::now(), lag, self.hub.readers()) }
    }

    fn message(&mut self, item: StreamItem) -> Option<Message> {
        let control = |kind, newest| Message::Control(control(&self.clock, &self.hub, kind, newest));
        let message = match item {
            StreamItem::Event(event) => Message::Event(event),
            StreamItem::Reset { newest } => control("stream.reset", newest),
            StreamItem::Heartbeat { newest } => control("stream.heartbeat", newest),
            StreamItem::Closed => return None,
        };
        self.place = message.place().unwrap_or(self.place);
        Some(message)
    }

    fn merged(&mut self) -> Option<Message> {
        // Of what is no topic of its own a reader hears nothing, however much there was.
        let merged = self.events.merge().filter(|merged| !merged.counts.is_empty())?;
        crate::metrics::events_merged(merged.to + 1 - merged.from);
        let mut told = control(&self.clock, &self.hub, "stream.merged", merged.to);
        told.from = Some(merged.from);
        told.counts = Some(merged.counts);
        self.place = merged.to;
        Some(Message::Control(told))
    }

    /// The `id` of a server-sent event at `seq`.
    pub(super) fn id_of(&self, seq: u64) -> String {
        format!("{}:{seq}", self.hub.stream_id())
    }
}

fn control(state: &HttpState, hub: &HubHandle, kind: &'static str, seq: u64) -> Control {
    let timestamp = state.platform.clock().now();
    Control { kind, stream_id: hub.stream_id(), seq, timestamp, from: None, counts: None }
}

/// Where to begin: `Last-Event-ID`, which a browser sends when it connects again, before `?since=`.
fn since(params: &Params, headers: &HeaderMap) -> Result<Since, ApiError> {
    if let Some(last) = headers.get("last-event-id").filter(|value| !value.is_empty()) {
        // A browser sends back what it has; refusing would end its stream for good.
        return Ok(last.to_str().ok().and_then(place).unwrap_or(Since::Gone));
    }
    match params.one("since")? {
        Some(text) => place(text).ok_or_else(|| ApiError::invalid_field("/since", "must be `streamId:seq`")),
        None => Ok(Since::Now),
    }
}

fn place(text: &str) -> Option<Since> {
    let (stream, seq) = text.split_once(':')?;
    Some(Since::Place(stream.parse().ok()?, seq.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_says_where_it_wants_to_begin() {
        let boot = BootId::new();
        let ask = |query: &str, last: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(last) = last {
                headers.insert("last-event-id", last.parse().expect("a header"));
            }
            since(&Params::parse(query).expect("valid"), &headers).ok()
        };
        assert_eq!(ask("", None), Some(Since::Now));
        assert_eq!(ask(&format!("since={boot}:7"), None), Some(Since::Place(boot, 7)));
        assert_eq!(ask(&format!("since={boot}:7"), Some(&format!("{boot}:9"))), Some(Since::Place(boot, 9)));
        assert_eq!(ask("", Some("nonsense")), Some(Since::Gone));
        for bad in ["since=x", "since=x:1", &format!("since={boot}:-1"), &format!("since={boot}:x")] {
            assert_eq!(ask(bad, None), None, "{bad}");
        }
    }
}
