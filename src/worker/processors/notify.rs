//! `user.notify`: tells a user what was done, by a signed webhook or through the outbox.

use std::sync::Arc;

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::worker::{JobContext, JobError, JobOutput, LogLevel, OutboundRequest};

use super::Tools;
use super::payload::Id;
use super::webhook::{Delivery, deliver};

/// Results up to this are told in full; of larger ones only the size is.
const RESULT_BYTES_TOLD_MAX: usize = 8 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Payload {
    user_id: Id,
    channel: String,
    url: Option<String>,
    subject: Option<String>,
    message: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Notification<'a> {
    user_id: &'a Id,
    channel: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    job_id: Uuid,
    tenant_id: &'a str,
    sent_at: String,
    dependencies: Vec<Dependency>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    job_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
    result_bytes: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Notified {
    user_id: Id,
    channel: String,
    via: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery: Option<Delivery>,
    dependencies: usize,
}

pub(super) async fn run(tools: Arc<Tools>, ctx: JobContext, payload: Payload) -> Result<Notified, JobError> {
    let results = &ctx.assignment().dependency_results;
    let dependencies: Vec<Dependency> =
        results.iter().map(|(id, result)| told(*id, result.as_deref())).collect();
    let told_of = dependencies.len();
    let body = JobOutput::of(&Notification {
        user_id: &payload.user_id,
        channel: &payload.channel,
        subject: payload.subject.as_deref(),
        message: payload.message.as_deref(),
        job_id: ctx.job_id(),
        tenant_id: &ctx.assignment().tenant,
        sent_at: (tools.platform.clock)().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        dependencies,
    })?;

    let (via, path, delivery) = if payload.channel == "webhook" {
        let url = payload.url.ok_or_else(|| JobError::invalid_payload("missing field `url`"))?;
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        let request =
            OutboundRequest { url, method: Method::POST, headers, body: body.get().as_bytes().to_vec() };
        ("webhook", None, Some(deliver(&tools, &ctx, request).await?))
    } else {
        let name = format!("notify-{}.json", ctx.job_id());
        let path = tools.platform.outbox.deliver(&name, body.get().as_bytes()).await;
        ("outbox", Some(path.map_err(|error| JobError::caused_by("outbox", &error))?), None)
    };
    ctx.log(LogLevel::Info, format!("told of {told_of} jobs by {via}"));
    Ok(Notified {
        user_id: payload.user_id,
        channel: payload.channel,
        via,
        path,
        delivery,
        dependencies: told_of,
    })
}

fn told(job_id: Uuid, result: Option<&serde_json::value::RawValue>) -> Dependency {
    let text = result.map(serde_json::value::RawValue::get).unwrap_or_default();
    let result = if text.len() <= RESULT_BYTES_TOLD_MAX { serde_json::from_str(text).ok() } else { None };
    Dependency { job_id, result, result_bytes: text.len() }
}
