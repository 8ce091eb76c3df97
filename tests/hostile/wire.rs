//! Requests that are wrong before they are requests: heads and framing.

use super::{
    cases::{JOBS, JSON, List},
    request,
};

pub(super) fn heads(all: &mut List) {
    let get = |headers: &str| request("GET", JOBS, headers, b"");
    all.bare("a header that is too large", get(&format!("a: {}\r\n", "x".repeat(17 << 10))), 431);
    all.bare("too many headers", get(&"a: b\r\n".repeat(70)), 431);
    all.bare("a header without a name", get(": x\r\n"), 400);
    all.bare("a header name with a blank", get("a b: c\r\n"), 400);
    all.bare("a header without a colon", get("abc\r\n"), 400);
    all.bare("a folded header", get("a: b\r\n c\r\n"), 400);
    all.bare("a zero in a header", get("a: \0\r\n"), 400);
    all.bare("a carriage return alone", get("a: b\rc: d\r\n"), 400);
    all.bare("a path that is too long", request("GET", &format!("/{}", "x".repeat(70_000)), "", b""), 431);
    all.bare("a path with a blank", b"GET /a b HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(), 400);
    all.bare("no version", b"GET /healthz\r\n\r\n".to_vec(), 400);
    all.bare("an unknown version", b"GET /healthz HTTP/9.9\r\nhost: localhost\r\n\r\n".to_vec(), 400);
    all.bare("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(4), 400);
    all.bare("garbage", b"\x00\xff\xfe garbage \r\n\r\n".to_vec(), 400);
    all.bare("a method of garbage", b"G@T / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(), 400);
}

pub(super) fn framing(all: &mut List) {
    let post = |headers: &str, body: &str| {
        let head = format!("{JSON}{headers}");
        [request("POST", JOBS, &head, b""), body.as_bytes().to_vec()].concat()
    };
    let body = r#"{"type":"t"}"#;
    all.bare("two lengths", post("content-length: 12\r\ncontent-length: 13\r\n", body), 400);
    all.bare("a length of words", post("content-length: twelve\r\n", body), 400);
    all.bare("a negative length", post("content-length: -1\r\n", body), 400);
    all.bare("a length with a plus", post("content-length: +12\r\n", body), 400);
    all.bare("a length past 64 bits", post("content-length: 18446744073709551616\r\n", body), 400);
    all.bare("an unknown coding", post("transfer-encoding: gzip\r\n", body), 400);
    all.bare("chunked, and then not", post("transfer-encoding: chunked, identity\r\n", body), 400);
    let chunked = "transfer-encoding: chunked\r\n";
    for (name, chunks) in [
        ("a chunk of no length", "zz\r\n{}\r\n0\r\n\r\n"),
        ("a chunk of a negative length", "-1\r\n{}\r\n0\r\n\r\n"),
        ("a chunk past 64 bits", "fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
        ("a chunk without its end", "2\r\n{}xx0\r\n\r\n"),
    ] {
        all.raw(name, post(chunked, chunks), 400);
    }
}
