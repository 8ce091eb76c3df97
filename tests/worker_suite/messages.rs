//! What leaves the platform: webhooks, mail, notifications.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;
use ganger::worker::{AttemptOutcome, OutboundAllow, SmtpSettings, WebhookSigner};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::support::{Bench, HttpServer, assignment, reply, smtp_server};

#[tokio::test]
async fn a_webhook_is_signed_over_the_very_bytes_of_its_body() {
    let server = HttpServer::answering("127.0.0.1", vec![reply("201 Created", "thanks")]).await;
    let secret = WebhookSigner::generate_secret();
    let signer = WebhookSigner::parse(&secret).unwrap();
    let bench = Bench::with(server.allowed(), |settings| settings.webhook_signer = signer.clone()).await;

    let mut job = assignment("webhook.dispatch", &json!(null));
    // Bytes that a round trip through floating point or escaping would change.
    let payload = format!(
        r#"{{"url":"{}","method":"put","headers":{{"x-kind":"test"}},"body":{{"n":12345678901234567890123,"s":"\u0041"}}}}"#,
        server.url("/hook?a=b")
    );
    job.payload = std::sync::Arc::from(serde_json::value::RawValue::from_string(payload).unwrap());
    let id = job.job_id.to_string();
    let result = bench.result_of(job).await;
    assert_eq!(
        (&result["status"], &result["body"], &result["webhookId"]),
        (&json!(201), &json!("thanks"), &json!(id))
    );

    let request = server.request(0);
    assert_eq!(request.line, "PUT /hook?a=b HTTP/1.1");
    assert_eq!(request.body, br#"{"n":12345678901234567890123,"s":"\u0041"}"#);
    assert_eq!(request.headers["content-type"], "application/json");
    assert_eq!(request.headers["x-kind"], "test");
    assert_eq!(request.headers["webhook-id"], id);
    let at = DateTime::from_timestamp(request.headers["webhook-timestamp"].parse().unwrap(), 0).unwrap();
    let expected = signer.headers(&id, at, &request.body);
    assert_eq!(request.headers["webhook-signature"], expected[2].1);
    let signature = request.headers["webhook-signature"].strip_prefix("v1,").unwrap();
    assert_eq!(STANDARD.decode(signature).unwrap().len(), 32);
}

#[tokio::test]
async fn a_receivers_answer_decides_what_becomes_of_the_job() {
    for (answer, retryable, after) in [
        ("500 Oops", true, None),
        ("503 Busy\r\nretry-after: 7", true, Some(7)),
        ("429 Slow Down\r\nretry-after: 120", true, Some(120)),
        ("408 Timeout", true, None),
        ("400 Bad Request", false, None),
        ("410 Gone", false, None),
        ("302 Found\r\nlocation: http://127.0.0.1:1/", false, None),
    ] {
        let server = HttpServer::answering("127.0.0.1", vec![reply(answer, "why")]).await;
        let bench = Bench::with(server.allowed(), |_| ()).await;
        let error = bench.error("webhook.dispatch", json!({"url": server.url("/"), "body": "text"})).await;
        assert_eq!(error.retryable, retryable, "{answer}");
        assert_eq!(error.retry_after, after.map(Duration::from_secs), "{answer}");
        assert_eq!(error.error_type, format!("http_{}", &answer[..3]));
        assert_eq!(server.request(0).body, b"text");
        assert!(!server.request(0).headers.contains_key("webhook-signature"));
    }
}

#[tokio::test]
async fn a_webhook_cannot_speak_for_the_platform_or_reach_into_it() {
    let bench = Bench::new().await;
    let refused = bench.error("webhook.dispatch", json!({"url": "http://169.254.169.254/latest/"})).await;
    assert_eq!((refused.error_type.as_str(), refused.retryable), ("outbound_refused", false));
    for header in ["Host", "Webhook-Signature", "Transfer-Encoding", "bad name"] {
        let payload = json!({"url": "https://example.com/", "headers": {header: "x"}});
        let refused = bench.error("webhook.dispatch", payload).await;
        assert_eq!((refused.error_type.as_str(), refused.retryable), ("invalid_payload", false), "{header}");
    }
    let split = json!({"url": "https://example.com/", "headers": {"x-a": "b\r\nhost: evil"}});
    assert_eq!(bench.error("webhook.dispatch", split).await.error_type, "invalid_payload");
}

#[tokio::test]
async fn an_unreachable_receiver_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let bench = Bench::with(OutboundAllow::everything(), |_| ()).await;
    let error = bench.error("webhook.dispatch", json!({"url": format!("http://{address}/")})).await;
    assert_eq!((error.error_type.as_str(), error.retryable), ("outbound_failed", true));
}

#[tokio::test]
async fn a_notification_goes_by_webhook_where_one_is_named() {
    let server = HttpServer::answering("127.0.0.1", vec![reply("204 No Content", "")]).await;
    let bench = Bench::with(server.allowed(), |_| ()).await;
    let payload = json!({"userId": "ada", "channel": "webhook", "url": server.url("/u")});
    let notified = bench.result("user.notify", payload).await;
    assert_eq!((&notified["via"], &notified["delivery"]["status"]), (&json!("webhook"), &json!(204)));
    let told: Value = serde_json::from_slice(&server.request(0).body).unwrap();
    assert_eq!(told["userId"], "ada");

    let error = bench.error("user.notify", json!({"userId": "ada", "channel": "webhook"})).await;
    assert_eq!(
        (error.error_type.as_str(), error.message.as_str()),
        ("invalid_payload", "missing field `url`")
    );
}

#[tokio::test]
async fn mail_without_a_server_is_a_file_with_one_set_of_headers() {
    let bench = Bench::new().await;
    let payload = json!({"recipient": "Ada <ada@example.com>", "subject": "Grüße", "text": "hi\r\nBcc: x@y.z", "html": "<b>hi</b>"});
    let job = assignment("email.send", &payload);
    let id = job.job_id;
    let sent = bench.result_of(job).await;
    assert_eq!((&sent["via"], &sent["recipient"]), (&json!("outbox"), &json!("ada@example.com")));
    let mail = String::from_utf8(bench.file(&sent["path"])).unwrap();
    let (head, _) = mail.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("To: Ada <ada@example.com>"), "{head}");
    assert!(head.contains(&format!("Message-ID: <{id}@localhost>")), "{head}");
    assert!(!head.contains("Bcc") && head.contains("Subject: =?utf-8?"), "{head}");
    assert!(mail.contains("text/html") && mail.contains("text/plain"));

    for (recipient, subject) in [
        ("a@b.c\r\nBcc: x@y.z", "s"),
        ("no address", "s"),
        ("", "s"),
        ("a@b.c", "s\r\nBcc: x@y.z"),
        ("a@b.c, x@y.z", "s"),
    ] {
        let error = bench.error("email.send", json!({"recipient": recipient, "subject": subject})).await;
        assert_eq!(
            (error.error_type.as_str(), error.retryable),
            ("invalid_payload", false),
            "{recipient:?} {subject:?}"
        );
    }
}

#[tokio::test]
async fn a_mail_servers_word_decides() {
    for (verdict, expected) in [
        ("250 ok", None),
        ("450 later", Some(("smtp_deferred", true))),
        ("550 never", Some(("smtp_rejected", false))),
    ] {
        let (port, mut server) = smtp_server(verdict).await;
        let bench = Bench::with(OutboundAllow::none(), |settings| {
            settings.smtp = Some(SmtpSettings::parse(&format!("smtp://127.0.0.1:{port}")).unwrap());
            settings.mail_from = Some("Jobs <jobs@example.com>".to_owned());
        })
        .await;
        let job = assignment(
            "email.send",
            &json!({"recipient": "ada@example.com", "subject": "s", "text": "body"}),
        );
        match (bench.outcome(job).await, expected) {
            (AttemptOutcome::Completed { result }, None) => {
                assert!(result.get().contains("queued as 42"), "{}", result.get());
                let mail = server.join_next().await.unwrap().unwrap();
                assert!(mail.contains("From: Jobs <jobs@example.com>") && mail.contains("body"), "{mail}");
            }
            (AttemptOutcome::Failed { error }, Some(expected)) => {
                assert_eq!((error.error_type.as_str(), error.retryable), expected);
            }
            (outcome, _) => panic!("{verdict}: {outcome:?}"),
        }
    }
}
