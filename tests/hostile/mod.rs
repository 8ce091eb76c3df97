//! Requests as bytes, sent over a socket of their own, and the answers as they came.
#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    unreachable_pub,
    reason = "a failed step fails the test"
)]

pub mod cases;
mod controls;
mod wire;

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::http::DEV_TOKEN;

/// Everything is answered, or closed, long before.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// A request, and how it must be answered.
#[derive(Debug)]
pub struct Case {
    pub name: String,
    pub bytes: Vec<u8>,
    pub status: u16,
    /// Refused before it is a request: a status alone, without a body.
    pub bare: bool,
}

/// An answer, taken apart.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let mut found = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.trim())
    }
}

/// A request with the good key; `headers` end each with a line break.
pub fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let key = format!("authorization: Bearer {DEV_TOKEN}\r\n");
    unsigned(method, path, &(key + headers), body)
}

/// The same without a key.
pub fn unsigned(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let head =
        format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}{length}\r\n");
    [head.as_bytes(), body].concat()
}

/// Sends the bytes and reads what comes back; `None` when the connection was closed without a word.
pub async fn send(address: &str, bytes: &[u8]) -> Option<Answer> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        // Refused half-way: the answer says why.
        stream.write_all(bytes).await.ok();
        let mut all = Vec::new();
        let mut chunk = vec![0; 64 << 10];
        while let Ok(read) = stream.read(&mut chunk).await {
            if read == 0 {
                break;
            }
            all.extend_from_slice(&chunk[..read]);
            if let Some(answer) = whole(&all) {
                return Some(answer);
            }
        }
        assert!(all.is_empty(), "cut off: {}", String::from_utf8_lossy(&all));
        None
    };
    tokio::time::timeout(ANSWER_DEADLINE, exchange).await.expect("answered in time")
}

/// The first final answer, once all of it is there.
fn whole(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status: u16 = head.split(' ').nth(1)?.parse().ok()?;
    let rest = &bytes[end + 4..];
    if status == 100 {
        return whole(rest);
    }
    let mut answer = Answer { status, head, body: Vec::new() };
    let length = answer.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    answer.body = rest.get(..length)?.to_vec();
    Some(answer)
}

/// Sends the bytes and reads until the connection is closed.
pub async fn send_all(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(bytes).await.expect("sent");
    let mut all = Vec::new();
    let read = tokio::time::timeout(ANSWER_DEADLINE, stream.read_to_end(&mut all)).await;
    read.expect("closed in time").expect("closed in order");
    String::from_utf8_lossy(&all).into_owned()
}
