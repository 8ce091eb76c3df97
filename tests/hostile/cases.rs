//! The one list: a new route adds its bad requests here.

use super::{Case, controls as steering, request, unsigned, wire};

pub(super) const JOBS: &str = "/api/v1/jobs";
pub(super) const JSON: &str = "content-type: application/json\r\n";
pub(super) const UNKNOWN: &str = "01890000-0000-7000-8000-000000000000";
/// A socket's upgrade, but for what is wrong with it.
const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n";

/// Every bad request, with the status that the contract gives it.
pub fn bad() -> Vec<Case> {
    let mut all = List::default();
    bodies(&mut all);
    fields(&mut all);
    edges(&mut all);
    media_types(&mut all);
    paths(&mut all);
    queries(&mut all);
    controls(&mut all);
    credentials(&mut all);
    origins(&mut all);
    streams(&mut all);
    wire::heads(&mut all);
    wire::framing(&mut all);
    all.0.extend(steering::bad());
    all.0
}

/// Odd, and to be served all the same.
pub fn harmless() -> Vec<Case> {
    let mut all = List::default();
    let body = br#"{"type":"t"}"#;
    for (name, header) in [
        ("a traceparent of garbage", "traceparent: zz-garbage\r\n"),
        (
            "a traceparent that is too long",
            "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x-y\r\n",
        ),
        ("a request id with a space", "x-request-id: a b\r\n"),
        ("a request id that is too long", &*format!("x-request-id: {}\r\n", "i".repeat(200))),
        ("an unknown header", "x-unknown: \u{e9}\r\n"),
        ("a cookie", "cookie: a=b; c\r\n"),
        ("the key as X-Admin-Token too", "x-admin-token: dev-admin-token\r\n"),
        ("a body that is waited for", "expect: 100-continue\r\n"),
        ("a forwarded address", "x-forwarded-for: 1.2.3.4, garbage\r\n"),
    ] {
        all.raw(name, request("POST", JOBS, &format!("{JSON}{header}"), body), 202);
    }
    all.get("an unknown parameter", "/api/v1/jobs?colour=blue", 200);
    all.get("an empty parameter", "/api/v1/jobs?queue=", 200);
    all.raw("HTTP/1.0", b"GET /healthz HTTP/1.0\r\n\r\n".to_vec(), 200);
    all.raw("absolute form", request("GET", "http://localhost/healthz", "", b""), 200);
    let chunked = format!("{JSON}transfer-encoding: chunked\r\n");
    let mut bytes = request("POST", JOBS, &chunked, b"");
    bytes.extend_from_slice(b"5;name=value\r\n{\"typ\r\n7\r\ne\":\"t\"}\r\n0\r\ntrailer: x\r\n\r\n");
    all.raw("a body in chunks with an extension and a trailer", bytes, 202);
    let mut bytes = request("GET", "/healthz", "", b"");
    bytes.extend_from_slice(b"GARBAGE AFTER CLOSE");
    all.raw("garbage behind a last request", bytes, 200);
    all.0
}

#[derive(Default)]
pub(super) struct List(pub(super) Vec<Case>);

impl List {
    pub(super) fn raw(&mut self, name: impl Into<String>, bytes: Vec<u8>, status: u16) {
        self.0.push(Case { name: name.into(), bytes, status, bare: false });
    }

    pub(super) fn bare(&mut self, name: &str, bytes: impl Into<Vec<u8>>, status: u16) {
        self.0.push(Case { name: name.into(), bytes: bytes.into(), status, bare: true });
    }

    pub(super) fn get(&mut self, name: &str, path: &str, status: u16) {
        self.raw(name, request("GET", path, "", b""), status);
    }

    /// A submission with this body.
    pub(super) fn submit(&mut self, name: &str, body: impl AsRef<[u8]>, status: u16) {
        self.raw(name, request("POST", JOBS, JSON, body.as_ref()), status);
    }
}

fn bodies(all: &mut List) {
    let deep = |open: &str, shut: &str, depth: usize| {
        format!(r#"{{"type":"t","payload":{}{}}}"#, open.repeat(depth), shut.repeat(depth))
    };
    all.submit("no body", "", 400);
    for (name, body) in [
        ("a brace", "{"),
        ("half a word", "nul"),
        ("blanks", " \r\n\t "),
        ("two values", "{} {}"),
        ("a byte order mark", "\u{feff}{\"type\":\"t\"}"),
        ("a control character", "{\"type\":\"a\nb\"}"),
        ("a trailing comma", r#"{"type":"t",}"#),
        ("single quotes", "{'type':'t'}"),
        ("a comment", "{\"type\":\"t\"/* x */}"),
        ("NaN", r#"{"type":"t","payload":NaN}"#),
        ("a leading zero", r#"{"type":"t","payload":01}"#),
        ("a leading plus", r#"{"type":"t","payload":+1}"#),
        ("a point without digits", r#"{"type":"t","payload":1.}"#),
        ("an unknown escape", r#"{"type":"t","payload":"\x"}"#),
        ("half an escape", r#"{"type":"t","payload":"\u12"}"#),
        ("no colon", r#"{"type" "t"}"#),
        ("a name that is a number", r#"{1:"t"}"#),
        ("a form", "type=t&queue=q"),
        ("XML", "<!DOCTYPE x [<!ENTITY a SYSTEM \"file:///etc/passwd\">]><x>&a;</x>"),
    ] {
        all.submit(name, body, 400);
    }
    all.submit("bytes that are not UTF-8", b"{\"type\":\"\xff\"}", 400);
    all.submit("an overlong encoding", b"{\"type\":\"t\",\"payload\":\"\xc0\x80\"}", 400);
    all.submit("a surrogate in UTF-8", b"{\"type\":\"t\",\"payload\":\"\xed\xa0\x80\"}", 400);
    all.submit("zeros", [0; 64], 400);
    all.submit("a gzip head", b"\x1f\x8b\x08\x00\x00\x00\x00\x00", 400);
    for (name, body) in [
        ("an array", "[]"),
        ("null", "null"),
        ("a number", "7"),
        ("a text", "\"t\""),
        ("nothing in it", "{}"),
        ("no type", r#"{"queue":"q"}"#),
        ("the type twice", r#"{"type":"a","type":"b"}"#),
        ("the payload twice", r#"{"type":"a","payload":1,"payload":2}"#),
        ("a lone high surrogate", r#"{"type":"t","payload":"\ud800"}"#),
        ("a lone low surrogate", r#"{"type":"t","payload":"\udc00"}"#),
        ("surrogates the wrong way round", r#"{"type":"t","payload":"\udc00\ud800"}"#),
        ("a lone surrogate in a name", r#"{"type":"t","payload":{"\ud800":1}}"#),
        ("a number too large for a double", r#"{"type":"t","payload":1e400}"#),
        ("a negative one", r#"{"type":"t","payload":[{"a":-1e400}]}"#),
        ("one of many digits", &*format!(r#"{{"type":"t","payload":{}}}"#, "9".repeat(400))),
    ] {
        all.submit(name, body, 422);
    }
    all.submit("arrays 65 deep", deep("[", "]", 65), 422);
    all.submit("objects 65 deep", deep(r#"{"a":"#, "}", 64).replace("{\"a\":}", "{\"a\":{}}"), 422);
    all.submit("arrays 100,000 deep", deep("[", "]", 100_000), 422);
    all.submit("arrays 100,000 deep, never closed", deep("[", "", 100_000), 400);
}

fn fields(all: &mut List) {
    let long = "x".repeat(129);
    let many = |count: usize| (0..count).map(|n| format!("\"tag{n}\"")).collect::<Vec<_>>().join(",");
    let long_name = format!(r#""queue":"{long}""#);
    let (long_tenant, long_tag) = (format!(r#""tenantId":"{long}""#), format!(r#""tags":["{long}"]"#));
    let many_tags = format!(r#""tags":[{}]"#, many(1_001));
    let long_key = format!(r#""idempotencyKey":"{}""#, "k".repeat(256));
    let dependencies = format!(r#""dependencies":[{}]"#, vec![format!("\"{UNKNOWN}\""); 1_001].join(","));
    let unknown = format!(r#""dependencies":["{UNKNOWN}"]"#);
    let metadata = format!(r#""metadata":{{"a":"{}"}}"#, "x".repeat(1 << 20));
    for (name, field) in [
        ("a queue that is too long", &*long_name),
        ("a tenant that is too long", &long_tenant),
        ("a tag that is too long", &long_tag),
        ("too many tags", &many_tags),
        ("a key that is too long", &long_key),
        ("too many dependencies", &dependencies),
        ("an unknown dependency", &unknown),
        ("metadata that is too large", &metadata),
        ("a queue with a path in it", r#""queue":"../../etc/passwd""#),
        ("a queue with a zero in it", r#""queue":"a\u0000b""#),
        ("a queue with a line break", r#""queue":"a\r\nset-cookie: x""#),
        ("an empty queue", r#""queue":"""#),
        ("a queue that is a number", r#""queue":7"#),
        ("a queue that is an object", r#""queue":{"$gt":""}"#),
        ("a queue of other letters", r#""queue":"почта""#),
        ("a tenant of SQL", r#""tenantId":"x'; drop table job; --""#),
        ("a priority that is too high", r#""priority":10"#),
        ("a negative priority", r#""priority":-1"#),
        ("half a priority", r#""priority":1.5"#),
        ("a priority of text", r#""priority":"5""#),
        ("an endless priority", r#""priority":1e99"#),
        ("no attempts", r#""maxAttempts":0"#),
        ("too many attempts", r#""maxAttempts":101"#),
        ("attempts past 64 bits", r#""maxAttempts":18446744073709551617"#),
        ("no time", r#""timeoutSeconds":0"#),
        ("too much time", r#""timeoutSeconds":604801"#),
        ("a negative delay", r#""delaySeconds":-1"#),
        ("a delay past ten years", r#""delaySeconds":316224001"#),
        ("an endless delay", r#""delaySeconds":1e300"#),
        ("a time of words", r#""scheduledAt":"tomorrow""#),
        ("a time that is none", r#""scheduledAt":"2026-13-41T25:61:61Z""#),
        ("a time past all", r#""scheduledAt":"+999999-01-01T00:00:00Z""#),
        ("both kinds of delay", r#""delaySeconds":1,"scheduledAt":"2027-01-01T00:00:00Z""#),
        ("an end in the past", r#""expiresAt":"2001-01-01T00:00:00Z""#),
        ("an empty key", r#""idempotencyKey":"""#),
        ("a key with a control character", r#""idempotencyKey":"\u0007""#),
        ("a key of other letters", r#""idempotencyKey":"ключ""#),
        ("a window of no length", r#""idempotencyKey":"k","dedupeWindowSeconds":-1"#),
        ("a dependency that is no id", r#""dependencies":["x"]"#),
        ("dependencies that are no list", r#""dependencies":{}"#),
        ("an unknown policy", r#""dependencyPolicy":"maybe""#),
        ("a parent that is no id", r#""parentJobId":"x""#),
        ("an unknown strategy", r#""retry":{"strategy":"hope"}"#),
        ("more jitter than all", r#""retry":{"jitter":2}"#),
        ("a negative backoff", r#""retry":{"baseSeconds":-1}"#),
        ("tags with blanks", r#""tags":["a b"]"#),
        ("tags that are no list", r#""tags":"a""#),
        ("metadata that is a list", r#""metadata":[]"#),
        ("a version that is too large", r#""schemaVersion":99999999999"#),
    ] {
        all.submit(name, format!(r#"{{"type":"t",{field}}}"#), 422);
    }
    for (name, kind) in [
        ("an empty type", ""),
        ("a type with blanks", "a b"),
        ("a type that begins with a dash", "-a"),
        ("a type of zeros", "\\u0000"),
        ("a type that is too long", &*long),
    ] {
        all.submit(name, format!(r#"{{"type":"{kind}"}}"#), 422);
    }
    all.submit("a type of null", r#"{"type":null}"#, 422);
    for (name, body) in [
        ("mail without a recipient", r#"{"type":"email.send","payload":{}}"#),
        ("mail with a payload of text", r#"{"type":"email.send","payload":"x"}"#),
        (
            "a hook that can never be called",
            r#"{"type":"webhook.dispatch","payload":{"url":"http://127.0.0.1/"}}"#,
        ),
        (
            "a hook to metadata",
            r#"{"type":"webhook.dispatch","payload":{"url":"http://169.254.169.254/latest"}}"#,
        ),
        ("a hook that is a file", r#"{"type":"webhook.dispatch","payload":{"url":"file:///etc/passwd"}}"#),
    ] {
        all.submit(name, body, 422);
    }
}

fn edges(all: &mut List) {
    let payload = format!(r#"{{"type":"t","payload":"{}"}}"#, "x".repeat((1 << 20) - 1));
    all.submit("a payload one byte too large", payload, 422);
    let body = br#"{"type":"t"}"#.to_vec();
    let padded = [body.clone(), vec![b' '; (2 << 20) + 1 - body.len()]].concat();
    all.submit("a body one byte too large", &padded, 413);
    let announced = format!("{JSON}content-length: 9223372036854775807\r\n");
    all.raw("a body of half of all lengths, not sent", request("POST", JOBS, &announced, b""), 413);
    let announced = format!("{JSON}content-length: 18446744073709551615\r\n");
    all.bare("a body of all lengths, not sent", request("POST", JOBS, &announced, b""), 431);
    let chunked = format!("{JSON}transfer-encoding: chunked\r\n");
    let mut endless = request("POST", JOBS, &chunked, b"");
    for _ in 0..40 {
        endless.extend_from_slice(b"10000\r\n");
        endless.extend_from_slice(&vec![b' '; 1 << 16]);
        endless.extend_from_slice(b"\r\n");
    }
    endless.extend_from_slice(b"0\r\n\r\n");
    all.raw("a body that grows past the limit in chunks", endless, 413);
}

fn media_types(all: &mut List) {
    let body = br#"{"type":"t"}"#;
    for (name, headers) in [
        ("no media type", ""),
        ("text", "content-type: text/plain\r\n"),
        ("a form's media type", "content-type: application/x-www-form-urlencoded\r\n"),
        ("many parts", "content-type: multipart/form-data; boundary=x\r\n"),
        ("JSON in UTF-16", "content-type: application/json; charset=utf-16\r\n"),
        ("two media types", "content-type: application/json\r\ncontent-type: application/json\r\n"),
        ("a media type of garbage", "content-type: ;;;///\r\n"),
        ("a media type of bytes", "content-type: \u{e9}\r\n"),
        ("a packed body", "content-type: application/json\r\ncontent-encoding: gzip\r\n"),
        ("XML's media type", "content-type: application/xml\r\n"),
    ] {
        all.raw(name, request("POST", JOBS, headers, body), 415);
    }
}

fn paths(all: &mut List) {
    for (name, path) in [
        ("nothing there", "/nothing"),
        ("the API's root", "/api/v1"),
        ("a slash too many", "/api/v1/jobs/"),
        ("two slashes", "//api/v1/jobs"),
        ("other case", "/API/V1/JOBS"),
        ("an id that is a number", "/api/v1/jobs/1"),
        ("an id of zeros", "/api/v1/jobs/%00"),
        ("an id of bytes", "/api/v1/jobs/%ff%fe"),
        ("an id of broken escapes", "/api/v1/jobs/%zz"),
        ("an id with a path in it", "/api/v1/jobs/..%2f..%2fetc%2fpasswd"),
        ("a path upwards", "/api/v1/jobs/../../../etc/passwd"),
        ("an id with a line break", "/api/v1/jobs/a%0d%0aset-cookie:x"),
        ("an id of SQL", "/api/v1/jobs/'%20or%201=1--"),
        ("an id without dashes", "/api/v1/jobs/01890000000070008000000000000000"),
        ("an id in braces", "/api/v1/jobs/%7B01890000-0000-7000-8000-000000000000%7D"),
        ("files of the documentation upwards", "/docs/..%2f..%2fCargo.toml"),
        ("an unknown file", "/docs/secrets.txt"),
        ("a semicolon", "/api/v1/jobs;x=y"),
    ] {
        all.get(name, path, 404);
    }
    for part in ["", "/events", "/attempts", "/graph", "/inspection", "/wait"] {
        all.get(&format!("an unknown job{part}"), &format!("/api/v1/jobs/{UNKNOWN}{part}"), 404);
        all.get(&format!("no id{part}"), &format!("/api/v1/jobs/x{part}"), 404);
    }
    for (method, path) in [
        ("PUT", JOBS),
        ("DELETE", JOBS),
        ("TRACE", JOBS),
        ("BREW", JOBS),
        ("CONNECT", "/healthz"),
        ("POST", "/healthz"),
        ("OPTIONS", "/readyz"),
        ("GET", "/api/v1/tickets"),
        ("PATCH", "/api/v1/overview"),
        ("POST", "/api/v1/openapi.json"),
    ] {
        all.raw(format!("{method} {path}"), request(method, path, "", b""), 405);
    }
}

fn queries(all: &mut List) {
    let other = "/api/v1/jobs?cursor=ZQAAAAAAAAAB";
    let (long, huge) = ("x".repeat(256), "A".repeat(8_000));
    for (name, query) in [
        ("no limit at all", "limit=0"),
        ("a limit that is too high", "limit=1001"),
        ("a negative limit", "limit=-1"),
        ("half a limit", "limit=1.5"),
        ("a limit of words", "limit=ten"),
        ("a limit past 64 bits", "limit=99999999999999999999"),
        ("two limits", "limit=1&limit=2"),
        ("an unknown state", "state=asleep"),
        ("a queue with a blank", "queue=a%20b"),
        ("a queue of zeros", "queue=%00"),
        ("two queues", "queue=a&queue=b"),
        ("a tenant of SQL", "tenantId=x%27%20or%201=1"),
        ("a tag with a line break", "tag=a%0ab"),
        ("a type that is none", "type=%2e%2e%2f"),
        ("a worker of zeros", "worker=%00"),
        ("a text of zeros", "q=%00"),
        ("a text that is too long", &*format!("q={long}")),
        ("a time of words", "createdAfter=yesterday"),
        ("a time that is none", "createdBefore=2026-99-99"),
        ("a workflow that is no id", "workflowId=1"),
        ("a cursor of nonsense", "cursor=nonsense"),
        ("a cursor of another list", other.split_once('?').map_or("", |(_, query)| query)),
        ("a cursor that is too short", "cursor=ag"),
        ("a huge cursor", &*format!("cursor={huge}")),
        ("a cursor with padding", "cursor=agGJAAAAAHAAgAAAAAAAAAA="),
        ("two cursors", "cursor=a&cursor=b"),
    ] {
        all.get(name, &format!("{JOBS}?{query}"), 422);
    }
    all.get("a query of bytes", "/api/v1/jobs?q=%ff", 400);
    all.get("a name of bytes", "/api/v1/jobs?%ff=1", 400);
    for (name, path) in [
        ("a wait that is too long", "/wait?timeoutSeconds=61"),
        ("a wait for no number", "/wait?timeoutSeconds=NaN"),
        ("a wait for ever", "/wait?timeoutSeconds=inf"),
        ("a wait into the past", "/wait?timeoutSeconds=-1"),
        ("events of another list's cursor", "/events?cursor=nonsense"),
    ] {
        all.get(name, &format!("{JOBS}/{UNKNOWN}{path}"), 422);
    }
    for (name, query, status) in [
        ("a tree that is too deep", "depth=17", 422),
        ("a tree of negative depth", "depth=-1", 422),
        ("a child that is no number", "after=x", 422),
        ("nobody's path", "path=nowhere", 404),
        ("a path upwards", "path=..%2f..", 404),
    ] {
        all.get(name, &format!("/api/v1/supervision?{query}"), status);
    }
}

fn controls(all: &mut List) {
    for what in ["cancel", "retry"] {
        let post = |id: &str, body: &[u8]| request("POST", &format!("{JOBS}/{id}/{what}"), JSON, body);
        all.raw(format!("{what} of an unknown job"), post(UNKNOWN, b""), 404);
        all.raw(format!("{what} of no id"), post("x", b""), 404);
    }
    let cancel = |body: &[u8]| request("POST", &format!("{JOBS}/{UNKNOWN}/cancel"), JSON, body);
    all.raw("a cancel of garbage", cancel(b"{"), 400);
    all.raw("a cancel for a number", cancel(br#"{"reason":7}"#), 422);
    let long = format!(r#"{{"reason":"{}"}}"#, "x".repeat(1_001));
    all.raw("a cancel for too long a reason", cancel(long.as_bytes()), 422);
    let restart = |body: &[u8]| request("POST", "/api/v1/supervision/restart", JSON, body);
    all.raw("a restart of nobody", restart(br#"{"path":"nowhere"}"#), 404);
    all.raw("a restart of nothing", restart(br#"{"path":""}"#), 422);
    all.raw("a restart of the root", restart(br#"{"path":"node"}"#), 409);
    all.raw("a restart of a list", restart(b"[1]"), 422);
    let long = format!(r#"{{"path":"{}"}}"#, "x/".repeat(600));
    all.raw("a restart of too long a path", restart(long.as_bytes()), 422);
    let demo = |body: &[u8]| request("POST", "/api/v1/workflows/demo/thumbnail", JSON, body);
    all.raw("a demo of a bad tenant", demo(br#"{"tenantId":"a b"}"#), 422);
    all.raw("a demo of a number", demo(br#"{"source":7}"#), 422);
}

fn credentials(all: &mut List) {
    let name = "a key".to_owned();
    for (what, header) in [
        ("none", ""),
        ("wrong", "authorization: Bearer wrong\r\n"),
        ("empty", "authorization: Bearer \r\n"),
        ("without a scheme", "authorization: dev-admin-token\r\n"),
        ("as a password", "authorization: Basic ZGV2LWFkbWluLXRva2VuOg==\r\n"),
        ("digested", "authorization: Digest username=\"x\"\r\n"),
        ("of bytes", "authorization: Bearer \u{e9}\u{e9}\r\n"),
        ("too short by one", "authorization: Bearer dev-admin-toke\r\n"),
        ("too long by one", "authorization: Bearer dev-admin-tokenn\r\n"),
        ("in other case", "authorization: Bearer DEV-ADMIN-TOKEN\r\n"),
        ("quoted", "authorization: Bearer \"dev-admin-token\"\r\n"),
        ("twice in one header", "authorization: Bearer dev-admin-token, Bearer dev-admin-token\r\n"),
        ("beside a wrong one", "authorization: Bearer dev-admin-token\r\nauthorization: Bearer x\r\n"),
        ("and a wrong token", "authorization: Bearer dev-admin-token\r\nx-admin-token: x\r\n"),
        ("empty as a token", "x-admin-token:\r\n"),
        ("as a cookie", "cookie: token=dev-admin-token\r\n"),
        ("of a megabyte, nearly", &*format!("authorization: Bearer {}\r\n", "x".repeat(12_000))),
    ] {
        all.raw(format!("{name} {what}"), unsigned("GET", JOBS, header, b""), 401);
    }
    for parameter in ["token", "key", "access_token", "API_KEY"] {
        let path = format!("{JOBS}?{parameter}=dev-admin-token");
        all.raw(format!("a key in the URL as {parameter}"), unsigned("GET", &path, "", b""), 400);
    }
    all.raw("a ticket that is none", unsigned("GET", "/sse/events?ticket=x", "", b""), 401);
    all.raw("two tickets", unsigned("GET", "/sse/events?ticket=x&ticket=y", "", b""), 401);
    all.raw("a ticket for what is no stream", unsigned("GET", "/api/v1/jobs?ticket=x", "", b""), 401);
}

fn origins(all: &mut List) {
    let submit = |headers: &str| request("POST", JOBS, &format!("{JSON}{headers}"), br#"{"type":"t"}"#);
    for (name, origin) in [
        ("another site", "https://evil.example"),
        ("no site", "null"),
        ("garbage", ":::"),
        ("bytes", "\u{e9}"),
        ("a file", "file://"),
        ("this name on another port", "http://localhost:1"),
        ("a name that begins as ours", "http://localhost.evil.example"),
    ] {
        all.raw(format!("a change for {name}"), submit(&format!("origin: {origin}\r\n")), 403);
    }
    all.raw(
        "a stream for another site",
        request("GET", "/sse/events", "origin: https://evil.example\r\n", b""),
        403,
    );
    for (name, host) in
        [("another host", "evil.example"), ("a host of garbage", "[::"), ("an empty host", "")]
    {
        let bytes = format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        all.raw(name, bytes.into_bytes(), 403);
    }
    all.raw("no host", b"GET /api/v1/jobs HTTP/1.1\r\nconnection: close\r\n\r\n".to_vec(), 401);
}

fn streams(all: &mut List) {
    let ws = |headers: &str| {
        let key = "authorization: Bearer dev-admin-token\r\nhost: localhost\r\n";
        format!("GET /ws/events HTTP/1.1\r\n{key}{headers}\r\n").into_bytes()
    };
    all.raw("a socket without an upgrade", ws("connection: close\r\n"), 400);
    all.raw("a socket without its key", ws(UPGRADE), 400);
    let old = UPGRADE.replace("13", "8") + "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    all.raw("a socket of another version", ws(&old), 400);
    let other =
        UPGRADE.replace("websocket\r\n", "h2c\r\n") + "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    all.raw("an upgrade to something else", ws(&other), 400);
    all.raw("a socket by POST", request("POST", "/ws/events", UPGRADE, b""), 405);
    for (name, query) in [
        ("a place of garbage", "since=x"),
        ("a place of no number", &*format!("since={UNKNOWN}:x")),
        ("topics of garbage", "topics=x"),
        ("a topic of no kind", "topics=planet:x"),
        ("topics twice", "topics=job:x&topics=queue:y"),
    ] {
        all.get(name, &format!("/sse/events?{query}"), 422);
    }
}
