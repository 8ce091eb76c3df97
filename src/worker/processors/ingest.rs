//! `file.ingest`: takes a file in, once for all its bytes, and remembers it by its id.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::worker::{ContentRef, JobContext, JobError, LogLevel};

use super::Tools;
use super::payload::Id;
use super::source::{FILE_BYTES_MAX, open};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Payload {
    file_id: Id,
    source: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ingested {
    file_id: Id,
    #[serde(flatten)]
    content: ContentRef,
    source: String,
}

pub(super) async fn run(tools: Arc<Tools>, ctx: JobContext, payload: Payload) -> Result<Ingested, JobError> {
    let Payload { file_id, source } = payload;
    let opened = open(&tools, &source).await?;
    let store = &tools.platform.content;
    let content = store.put(opened.content, opened.hint.as_deref(), FILE_BYTES_MAX).await;
    let content = content.map_err(|error| error.into_job_error())?;
    let linked = store.link(&ctx.assignment().tenant, file_id.as_str(), &content).await;
    linked.map_err(|error| error.into_job_error())?;
    ctx.log(LogLevel::Info, format!("took in {} bytes of {}", content.bytes, content.content_type));
    Ok(Ingested { file_id, content, source: shown(source) })
}

/// A source as results carry it: data URLs hold the file itself, so only their head is kept.
fn shown(source: String) -> String {
    match source.split_once(',') {
        Some((head, _)) if head.len() < 128 && head.to_ascii_lowercase().starts_with("data:") => {
            format!("{head},…")
        }
        Some(_) | None if source.len() <= 2048 => source,
        Some(_) | None => format!("{}…", &source[..source.floor_char_boundary(128)]),
    }
}
