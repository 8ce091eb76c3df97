//! `email.send`: a message by SMTP, or into the outbox where no mail server is set.

use std::sync::Arc;

use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::{AsyncTransport, Message};
use serde::{Deserialize, Serialize};

use crate::worker::job_error::chain;
use crate::worker::{JobContext, JobError, LogLevel, SmtpSettings};

use super::Tools;

/// Who mail comes from when the operator does not say.
const FROM_DEFAULT: &str = "Ganger <ganger@localhost>";

#[derive(Deserialize)]
pub(super) struct Payload {
    recipient: String,
    #[serde(default)]
    subject: String,
    #[serde(alias = "body")]
    text: Option<String>,
    html: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sent {
    recipient: String,
    message_id: String,
    via: &'static str,
    /// Where the outbox put it.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// What the mail server said.
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<String>,
}

pub(super) async fn run(tools: Arc<Tools>, ctx: JobContext, payload: Payload) -> Result<Sent, JobError> {
    let settings = &tools.platform.settings;
    let recipient =
        mailbox(&payload.recipient).map_err(|why| JobError::invalid_payload(format!("recipient: {why}")))?;
    let from = mailbox(settings.mail_from.as_deref().unwrap_or(FROM_DEFAULT))
        .map_err(|why| JobError::fatal("mail_from_invalid", format!("SMTP_FROM {why}")))?;
    // The job's id: the same mail sent by another attempt can be told to be the same.
    let message_id = format!("<{}@{}>", ctx.job_id(), from.email.domain());
    let shown = recipient.email.to_string();
    let message = compose(&tools, &payload, from, recipient, &message_id)?;

    let (via, path, response) = match &settings.smtp {
        Some(smtp) => ("smtp", None, Some(send(smtp, message).await?)),
        None => {
            let name = format!("{}.eml", ctx.job_id());
            let path = tools.platform.outbox.deliver(&name, &message.formatted()).await;
            ("outbox", Some(path.map_err(|error| JobError::caused_by("outbox", &error))?), None)
        }
    };
    // Not to whom: logs are read by more people than payloads.
    ctx.log(LogLevel::Info, format!("sent {message_id} by {via}"));
    Ok(Sent { recipient: shown, message_id, via, path, response })
}

/// `text` as one address, with or without a name.
pub(super) fn mailbox(text: &str) -> Result<Mailbox, String> {
    if text.contains(char::is_control) {
        return Err("must not contain control characters".to_owned());
    }
    text.parse().map_err(|_| "is not a mail address".to_owned())
}

fn compose(
    tools: &Tools,
    payload: &Payload,
    from: Mailbox,
    to: Mailbox,
    message_id: &str,
) -> Result<Message, JobError> {
    // A line break here could start a header of the sender's choice.
    if payload.subject.contains(char::is_control) {
        return Err(JobError::invalid_payload("subject: must not contain control characters"));
    }
    let builder = Message::builder()
        .from(from)
        .to(to)
        .subject(payload.subject.as_str())
        .message_id(Some(message_id.to_owned()))
        .date((tools.platform.clock)().into());
    let message = match (&payload.text, &payload.html) {
        (Some(text), Some(html)) => {
            builder.multipart(MultiPart::alternative_plain_html(text.clone(), html.clone()))
        }
        (None, Some(html)) => builder.singlepart(SinglePart::html(html.clone())),
        (text, None) => builder.singlepart(SinglePart::plain(text.clone().unwrap_or_default())),
    };
    message.map_err(|error| JobError::invalid_payload(chain(&error)))
}

/// Sends `message`; the server's 5xx is its last word, 4xx and an unreachable server are not.
async fn send(smtp: &SmtpSettings, message: Message) -> Result<String, JobError> {
    match smtp.transport.send(message).await {
        Ok(response) => Ok(response.message().collect::<Vec<_>>().join(" ")),
        Err(error) if error.is_permanent() => Err(JobError::fatal("smtp_rejected", chain(&error))),
        Err(error) if error.is_transient() => Err(JobError::retryable("smtp_deferred", chain(&error))),
        Err(error) => Err(JobError::retryable("smtp_unreachable", chain(&error))),
    }
}
