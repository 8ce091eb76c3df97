//! The outbound guard: nothing of the machine's own network is ever connected to.

use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use ganger::worker::{GuardError, NameResolver, Outbound, OutboundAllow, OutboundError, OutboundRequest};
use reqwest::Method;
use reqwest::header::HeaderMap;

use super::support::{HttpServer, reply};

/// A listener that nobody may reach. The kernel queues connections by itself, so looking once at the end is exact.
struct Sentinel {
    listeners: Vec<TcpListener>,
    port: u16,
}

impl Sentinel {
    fn new() -> Self {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let mut listeners = vec![first];
        // Not every machine has IPv6.
        listeners.extend(TcpListener::bind(("::1", port)).ok());
        for listener in &listeners {
            listener.set_nonblocking(true).unwrap();
        }
        Self { listeners, port }
    }

    fn assert_untouched(&self) {
        for listener in &self.listeners {
            assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
    }
}

/// Answers each name with the next of its addresses.
struct Scripted {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Scripted {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |texts: &&[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Arc::new(Self { answers: answers.iter().map(parse).collect(), asked: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl NameResolver for Scripted {
    async fn lookup(&self, _name: &str) -> io::Result<Vec<IpAddr>> {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(self.answers[turn.min(self.answers.len() - 1)].clone())
    }
}

fn get(url: impl Into<String>) -> OutboundRequest {
    OutboundRequest { url: url.into(), method: Method::GET, headers: HeaderMap::new(), body: Vec::new() }
}

/// Every spelling of this machine that we know of.
fn spellings(port: u16) -> Vec<String> {
    [
        "127.0.0.1",
        "127.1",
        "127.255.255.254",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "0",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[fe80::1]",
        "[fd00::1]",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "%31%32%37.0.0.1",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "metadata.google.internal",
        "169.254.169.254",
        "0xa9fea9fe",
        "10.0.0.1",
        "100.64.0.1",
        "192.168.0.1",
        "172.16.0.1",
    ]
    .iter()
    .map(|host| format!("http://{host}:{port}/"))
    .collect()
}

#[tokio::test]
async fn no_spelling_of_this_machine_is_connected_to() {
    let sentinel = Sentinel::new();
    let outbound = Outbound::new(OutboundAllow::none()).unwrap();
    for url in spellings(sentinel.port) {
        let checked = outbound.allow().check_url(&url);
        assert!(matches!(checked, Err(GuardError::NeverAllowed(_))), "{url}: {checked:?}");
        let sent = outbound.send(get(&url)).await;
        assert!(matches!(sent, Err(OutboundError::Refused(_))), "{url}: {sent:?}");
        let read = outbound.download(&url).await;
        assert!(matches!(read, Err(OutboundError::Refused(_))), "{url}: {read:?}");
    }
    sentinel.assert_untouched();
}

#[test]
fn urls_that_can_never_be_sent_are_refused_at_once() {
    let allow = OutboundAllow::none();
    for url in [
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com",
        "http://me:secret@example.com/",
        "http://me@example.com/",
    ] {
        assert!(matches!(allow.check_url(url), Err(GuardError::NeverAllowed(_))), "{url}");
    }
    for url in ["", "example.com", "http://", "http://[::1", "http://256.256.256.256/", "http://a b/"] {
        assert!(matches!(allow.check_url(url), Err(GuardError::Invalid(_))), "{url}");
    }
    assert!(allow.check_url("https://hooks.example.com:8443/a?b=c").is_ok());
}

#[tokio::test]
async fn a_name_that_resolves_to_this_machine_is_not_connected_to() {
    let sentinel = Sentinel::new();
    for address in
        ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "169.254.169.254", "10.0.0.1", "64:ff9b::7f00:1"]
    {
        let outbound = Outbound::with_resolver(OutboundAllow::none(), Scripted::new(&[&[address]])).unwrap();
        let url = format!("http://innocent.example:{}/", sentinel.port);
        assert!(outbound.allow().check_url(&url).is_ok());
        let sent = outbound.send(get(&url)).await;
        assert!(matches!(sent, Err(OutboundError::Refused(_))), "{address}: {sent:?}");
    }
    sentinel.assert_untouched();
}

#[tokio::test]
async fn a_name_that_changes_its_address_gains_nothing() {
    let server = HttpServer::answering("127.0.0.2", vec![reply("200 OK", "first")]).await;
    let sentinel = TcpListener::bind(("127.0.0.1", server.port)).unwrap();
    sentinel.set_nonblocking(true).unwrap();
    let names = Scripted::new(&[&["127.0.0.2"], &["127.0.0.1", "127.0.0.2"], &["127.0.0.1"]]);
    let outbound = Outbound::with_resolver("127.0.0.2/32".parse().unwrap(), names).unwrap();
    let url = format!("http://rebinding.example:{}/", server.port);

    assert_eq!(outbound.send(get(&url)).await.unwrap().body, b"first");
    // Mixed answers lose the refused part, and only that.
    assert_eq!(outbound.send(get(&url)).await.unwrap().body, b"first");
    assert!(matches!(outbound.send(get(&url)).await, Err(OutboundError::Refused(_))));
    assert_eq!(sentinel.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn redirects_are_checked_like_the_first_url_and_never_followed_for_webhooks() {
    let sentinel = Sentinel::new();
    for target in spellings(sentinel.port) {
        // A header holds ASCII only; such hosts are covered above.
        if !target.is_ascii() {
            continue;
        }
        let moved = reply(&format!("302 Found\r\nlocation: {target}"), "");
        let server = HttpServer::answering("127.0.0.1", vec![moved]).await;
        let outbound = Outbound::new(server.allowed()).unwrap();
        let read = outbound.download(&server.url("/")).await;
        assert!(matches!(read, Err(OutboundError::Refused(_))), "{target}: {read:?}");
        assert_eq!(outbound.send(get(server.url("/"))).await.unwrap().status, 302);
    }
    sentinel.assert_untouched();
}

#[tokio::test]
async fn a_source_may_move_three_times() {
    let moved = || reply("301 Moved Permanently\r\nlocation: /next", "");
    let found = reply("200 OK\r\ncontent-type: text/plain; charset=utf-8", "here");
    let server = HttpServer::answering("127.0.0.1", vec![moved(), moved(), moved(), found]).await;
    let outbound = Outbound::new(server.allowed()).unwrap();
    let download = outbound.download(&server.url("/first")).await.unwrap();
    assert_eq!(download.url.path(), "/next");
    assert_eq!(download.content_type.as_deref(), Some("text/plain"));

    let server = HttpServer::answering("127.0.0.1", vec![moved()]).await;
    let outbound = Outbound::new(server.allowed()).unwrap();
    assert!(matches!(outbound.download(&server.url("/")).await, Err(OutboundError::Refused(_))));
    assert_eq!(server.requests.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn only_the_beginning_of_an_answer_is_read() {
    let server = HttpServer::answering("127.0.0.1", vec![reply("200 OK", vec![b'x'; 200_000])]).await;
    let outbound = Outbound::new(server.allowed()).unwrap();
    let answer = outbound.send(get(server.url("/"))).await.unwrap();
    assert_eq!((answer.body.len(), answer.truncated), (64 * 1024, true));
}

#[tokio::test]
async fn an_allowed_name_may_resolve_to_anything_but_only_on_its_port() {
    let server = HttpServer::answering("127.0.0.1", vec![reply("200 OK", "in")]).await;
    let allow: OutboundAllow = format!("hooks.internal:{}", server.port).parse().unwrap();
    let outbound = Outbound::with_resolver(allow, Scripted::new(&[&["127.0.0.1"]])).unwrap();
    let inside = format!("http://hooks.internal:{}/", server.port);
    assert_eq!(outbound.send(get(inside)).await.unwrap().body, b"in");
    let refused = outbound.send(get("http://hooks.internal:1/")).await;
    assert!(matches!(refused, Err(OutboundError::Refused(_))), "{refused:?}");
}
