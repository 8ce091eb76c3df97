//! What a stream sends, whatever carries it.

use std::sync::Arc;

use axum::http::HeaderMap;
use serde::Serialize;

use super::follow::Follow;

use crate::{
    actors::console::{DetailEvent, HubHandle, StreamEvent, StreamItem, Subscription, Topics},
    domain::{BootId, Timestamp},
    http::{extract::Params, problem::ApiError, state::HttpState},
};

/// A message about the stream itself.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Control {
    /// `stream.hello`, `stream.heartbeat` or `stream.reset`.
    pub kind: &'static str,
    /// The stream: a node's boot.
    #[schema(value_type = String, format = Uuid)]
    pub stream_id: BootId,
    /// The newest `seq`.
    pub seq: u64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub timestamp: Timestamp,
}

const HELLO: &str = "stream.hello";

/// A message of a stream.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum StreamMessage {
    /// About the stream itself.
    Control(Control),
    /// What happened on the node.
    #[schema(value_type = StreamEvent)]
    Event(Arc<StreamEvent>),
    /// What a followed job says, or is.
    Detail(Box<DetailEvent>),
}

impl StreamMessage {
    /// As JSON.
    pub(super) fn text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// The place to go on from after this message. A hello is none: its `seq` may be ahead of events that
    /// this reader has still to get. A heartbeat is one: it comes when there are none.
    pub(super) fn place(&self) -> Option<u64> {
        match self {
            Self::Event(event) => Some(event.seq),
            Self::Detail(event) => Some(event.seq),
            Self::Control(control) => (control.kind != HELLO).then_some(control.seq),
        }
    }
}

/// A reader of the hub, with the messages of the stream around the events.
#[derive(Debug)]
pub(super) struct Feed {
    hub: HubHandle,
    events: Subscription,
    hello: Option<Control>,
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
        Ok(Self { hub, events, hello: Some(hello), clock: state.clone(), follow, place })
    }

    /// The next message; `None` when the stream has ended. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<StreamMessage> {
        if let Some(hello) = self.hello.take() {
            return Some(StreamMessage::Control(hello));
        }
        let control = |kind, newest| StreamMessage::Control(control(&self.clock, &self.hub, kind, newest));
        // Who joins gets what is and was said before what happens next.
        let is_joining = self.follow.is_joining();
        let message = tokio::select! {
            biased;
            mut event = self.follow.next() => {
                event.seq = self.place;
                return Some(StreamMessage::Detail(Box::new(event)));
            }
            item = self.events.next(), if !is_joining => match item {
                StreamItem::Event(event) => StreamMessage::Event(event),
                StreamItem::Reset { newest } => control("stream.reset", newest),
                StreamItem::Heartbeat { newest } => control("stream.heartbeat", newest),
                StreamItem::Closed => return None,
            },
        };
        self.place = message.place().unwrap_or(self.place);
        Some(message)
    }

    /// The `id` of a server-sent event at `seq`.
    pub(super) fn id_of(&self, seq: u64) -> String {
        format!("{}:{seq}", self.hub.stream_id())
    }
}

fn control(state: &HttpState, hub: &HubHandle, kind: &'static str, seq: u64) -> Control {
    Control { kind, stream_id: hub.stream_id(), seq, timestamp: state.platform.clock().now() }
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
