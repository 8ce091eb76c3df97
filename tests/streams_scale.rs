//! Streams with many readers, and with bad ones: what they get, and what they cost.

#[cfg(test)]
mod support;

#[cfg(test)]
mod streams {
    use std::{collections::BTreeMap, time::Duration};

    use futures_util::{SinkExt, StreamExt};
    use serde_json::{Value, json};
    use tokio::net::TcpStream;
    use tokio_tungstenite::{
        MaybeTlsStream, WebSocketStream, connect_async_with_config,
        tungstenite::{
            Message, client::IntoClientRequest, protocol::WebSocketConfig, protocol::frame::CloseFrame,
        },
    };

    use super::support::{Api, NodeProcess, http::DEV_TOKEN, wait_for};

    const SOON: Duration = Duration::from_secs(30);
    /// The node closes a reader that takes nothing for 6 s.
    const STALL: Duration = Duration::from_secs(6);
    /// As many events as fill what a socket holds, made on a busy machine.
    const BURST: Duration = Duration::from_secs(120);

    /// A stream that says nothing for so long has nothing to say: its events are all there.
    const QUIET: Duration = Duration::from_secs(2);
    /// As long as a name may be: events of some size.
    const QUEUE: &str = "a-queue-with-a-name-as-long-as-a-name-may-be-so-that-its-events-fill-what-a-socket-holds-for-a-reader-that-stalls";

    type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

    async fn open(node: &NodeProcess, query: &str) -> Socket {
        let url = format!("{}/ws/events{query}", node.base().replacen("http", "ws", 1));
        let mut request = url.into_client_request().expect("a request");
        request.headers_mut().insert("x-admin-token", DEV_TOKEN.parse().expect("a header"));
        let config = WebSocketConfig::default().read_buffer_size(4 << 10);
        let opened = tokio::time::timeout(SOON, connect_async_with_config(request, Some(config), true));
        opened.await.expect("in time").expect("opens").0
    }

    /// A reader whose socket holds next to nothing, so that one that does not read stalls.
    async fn open_small(node: &NodeProcess) -> Socket {
        let address: std::net::SocketAddr = node.base()["http://".len()..].parse().expect("an address");
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4 << 10).expect("is set");
        let stream = socket.connect(address).await.expect("connects");
        let mut request = format!("ws://{address}/ws/events").into_client_request().expect("a request");
        request.headers_mut().insert("x-admin-token", DEV_TOKEN.parse().expect("a header"));
        let opened = tokio_tungstenite::client_async(request, MaybeTlsStream::Plain(stream));
        tokio::time::timeout(SOON, opened).await.expect("in time").expect("opens").0
    }

    /// The next message as JSON, or how the stream was closed.
    async fn next(socket: &mut Socket) -> Result<Value, Option<CloseFrame>> {
        loop {
            match tokio::time::timeout(SOON, socket.next()).await.expect("in time") {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).expect("JSON")),
                Some(Ok(Message::Close(frame))) => return Err(frame),
                Some(Ok(_)) => (),
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    async fn closed(socket: &mut Socket) -> Option<CloseFrame> {
        loop {
            if let Err(frame) = next(socket).await {
                return frame;
            }
        }
    }

    /// Makes `count` jobs that nobody runs: an event each.
    async fn events(api: &Api, count: usize) {
        let made = futures_util::stream::iter(0..count).map(|_| async {
            api.post("/api/v1/jobs", &json!({"type":"nobody.does","queue":QUEUE})).await.expect(202)
        });
        made.buffer_unordered(32).for_each(|_| async {}).await;
    }

    /// The node's resident memory, in KiB.
    fn resident(node: &NodeProcess) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", node.pid())).expect("reads");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("has it");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    #[tokio::test]
    async fn a_resumed_stream_has_every_event_once_and_a_lost_place_is_reset() {
        let node = NodeProcess::builder().start().await;
        let api = node.api();
        let mut first = open(&node, "").await;
        let hello = next(&mut first).await.expect("hello");
        let stream = hello["streamId"].as_str().expect("an id").to_owned();
        events(&api, 3_000).await;
        let mut place = hello["seq"].as_u64().expect("a number");
        // Some by the first connection, the others by the second.
        let mut seqs = Vec::new();
        for _ in 0..500 {
            let event = next(&mut first).await.expect("an event");
            assert_ne!(event["kind"], "stream.merged", "a reader alone is sent everything");
            place = event["seq"].as_u64().expect("a number");
            seqs.push(place);
        }
        drop(first);
        let mut second = open(&node, &format!("?since={stream}:{place}")).await;
        assert_eq!(next(&mut second).await.expect("hello")["kind"], "stream.hello");
        while seqs.len() < 3_000 {
            let event = next(&mut second).await.expect("an event");
            seqs.push(event["seq"].as_u64().expect("a number"));
        }
        assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "dense over both connections");
        for gone in [format!("{stream}:99999999"), format!("{}:1", uuid::Uuid::now_v7())] {
            let mut reader = open(&node, &format!("?since={gone}")).await;
            assert_eq!(next(&mut reader).await.expect("hello")["kind"], "stream.hello");
            let reset = next(&mut reader).await.expect("a reset");
            assert_eq!(
                (&reset["kind"], &reset["streamId"]),
                (&json!("stream.reset"), &json!(stream)),
                "{gone}"
            );
        }
        // Topics narrow, and what is narrowed away is no gap.
        let id =
            api.post("/api/v1/jobs", &json!({"type":"nobody.does"})).await.expect(202)["job"]["id"].clone();
        let id = id.as_str().expect("an id");
        let mut narrow = open(&node, &format!("?since={stream}:{place}&topics=job:{id}")).await;
        next(&mut narrow).await.expect("hello");
        assert_eq!(next(&mut narrow).await.expect("its event")["jobId"], id);
    }

    #[tokio::test]
    async fn a_reader_that_talks_or_sends_huge_frames_is_closed_cleanly() {
        let node = NodeProcess::builder().start().await;
        let mut huge = open(&node, "").await;
        huge.send(Message::text("x".repeat(64 << 10))).await.expect("is sent");
        assert_eq!(closed(&mut huge).await.expect("a close frame").code, 1009.into());
        let mut talkative = open(&node, "").await;
        for _ in 0..100 {
            if talkative.send(Message::text("hello?")).await.is_err() {
                break;
            }
        }
        assert_eq!(closed(&mut talkative).await.expect("a close frame").code, 1008.into());
        // A word or two are let pass.
        let mut polite = open(&node, "").await;
        polite.send(Message::text("{}")).await.expect("is sent");
        assert_eq!(next(&mut polite).await.expect("hello")["kind"], "stream.hello");
        events(&node.api(), 1).await;
        assert_eq!(next(&mut polite).await.expect("an event")["kind"], "job.enqueued");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_readers_and_stalled_ones_cost_bounded_memory_and_no_jobs() {
        const READERS: usize = 200;
        const STALLED: usize = 20;
        let node = NodeProcess::builder().env("WORKER_CONCURRENCY", 0).start().await;
        let api = node.api();
        events(&api, 2_000).await;
        let before = resident(&node);
        let mut stalled = Vec::new();
        for _ in 0..STALLED {
            stalled.push(open_small(&node).await);
        }
        // Never read again.
        let abandoned = stalled.split_off(STALLED - 1);
        let mut readers = tokio::task::JoinSet::new();
        let last = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(u64::MAX));
        for _ in 0..READERS {
            let mut socket = open(&node, "").await;
            let last = last.clone();
            readers.spawn(async move {
                let mut heard: BTreeMap<String, u64> = BTreeMap::new();
                let mut place = None;
                while let Ok(message) = next(&mut socket).await {
                    let seq = message["seq"].as_u64().expect("a number");
                    let kind = message["kind"].as_str().expect("a kind").to_owned();
                    if kind == "stream.merged" {
                        let from = message["from"].as_u64();
                        assert_eq!(from, place.map(|place: u64| place + 1), "no gap before what was merged");
                        let counts = message["counts"].as_object().expect("counts");
                        let sum: u64 = counts.values().filter_map(Value::as_u64).sum();
                        assert_eq!(Some(sum), from.map(|from| seq + 1 - from), "every event is counted");
                        *heard.entry("job.enqueued".to_owned()).or_default() += sum;
                    } else {
                        assert!(
                            place.is_none_or(|place| seq == place + 1 || kind == "stream.heartbeat"),
                            "dense"
                        );
                        *heard.entry(kind).or_default() += 1;
                    }
                    place = Some(seq);
                    if seq >= last.load(std::sync::atomic::Ordering::SeqCst) {
                        break;
                    }
                }
                heard.get("job.enqueued").copied().unwrap_or(0)
            });
        }
        let opened = resident(&node);
        let metric = async |name: &str| {
            let text = api.get("/metrics").await.body;
            let text = text.as_str().unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
            line.trim().parse::<usize>().expect("a number")
        };
        // The stalled are given up; those that read on then find a close that says why. It is waited for while the
        // events are made: on a busy machine that takes longer than one that was given up has to read on.
        let read_on = async {
            // Two: one of them is not the abandoned one.
            wait_for("stalled ones are given up", STALL + BURST, || async {
                let dropped = metric("ganger_streams_dropped_total{fault=\"stalled\"}").await;
                if dropped > 1 { Ok(()) } else { Err(dropped) }
            })
            .await;
            let closes = stalled.into_iter().map(|mut socket| async move {
                // Those that were not given up yet are served again.
                while let Ok(message) = tokio::time::timeout(QUIET, next(&mut socket)).await {
                    if let Err(close) = message {
                        // One that was given up some seconds ago is cut by now, without a word.
                        return close.map(|close| close.code);
                    }
                }
                None
            });
            futures_util::future::join_all(closes).await
        };
        let burst = async {
            events(&api, 12_000).await;
            resident(&node)
        };
        let (grown, closes) = tokio::join!(burst, read_on);
        let closes: Vec<_> = closes.into_iter().flatten().collect();
        assert!(closes.iter().all(|code| *code == 1013.into()), "{closes:?}");
        assert!(!closes.is_empty());
        // Everything was accepted; now every reader that reads hears of all of it, told or counted.
        let overview = api.get("/api/v1/overview").await.expect(200);
        assert_eq!(overview["queuedJobs"], 14_000);
        let mut probe = open(&node, "").await;
        let newest = next(&mut probe).await.expect("hello")["seq"].as_u64().expect("a number");
        last.store(newest, std::sync::atomic::Ordering::SeqCst);
        events(&api, 1).await;
        let heard = tokio::time::timeout(SOON, readers.join_all()).await.expect("they read on");
        assert!(heard.iter().all(|heard| (12_000..=12_001).contains(heard)), "{heard:?}");
        // Bounded: some tens of KiB a reader, and the ring with its texts, which all readers share.
        let per_reader = opened.saturating_sub(before) / (READERS + STALLED) as u64;
        assert!(per_reader < 128, "{per_reader} KiB a reader");
        assert!(grown < opened + (96 << 10), "from {opened} to {grown} KiB");
        wait_for("nothing is kept for one that never reads", STALL + SOON, || async {
            let readers = metric("ganger_stream_readers ").await;
            // The probe is still open.
            if readers == 1 { Ok(()) } else { Err(readers) }
        })
        .await;
        drop(abandoned);
    }
}
