//! `metadata.aggregate`: all that is known of a file and of what was made from it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::worker::{ContentRef, JobContext, JobError, LogLevel};

use super::Tools;
use super::exif::{CameraData, camera_data};
use super::payload::{Id, Thumbnail, original, parents};
use super::picture::dimensions;
use super::source::FILE_BYTES_MAX;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Payload {
    file_id: Id,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    file_id: Id,
    original: Original,
    #[serde(skip_serializing_if = "Option::is_none")]
    exif: Option<CameraData>,
    thumbnails: Vec<Thumbnail>,
    /// Of the original and all that was made from it.
    total_bytes: u64,
    /// How many parent jobs left a result, and how many there are.
    parents_with_result: usize,
    parents: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Original {
    #[serde(flatten)]
    content: ContentRef,
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<&'static str>,
}

pub(super) async fn run(tools: Arc<Tools>, ctx: JobContext, payload: Payload) -> Result<Metadata, JobError> {
    let Payload { file_id } = payload;
    let content = original(&tools, &ctx, &file_id).await?;
    let bytes = tools.platform.content.read(&content.sha256, FILE_BYTES_MAX).await;
    let bytes = bytes.map_err(|error| error.into_job_error())?;
    // Headers only, but of files that anyone may have made.
    let (picture, exif) =
        tokio::task::spawn_blocking(move || (dimensions(&bytes), camera_data(&bytes))).await?;

    let mut thumbnails: Vec<Thumbnail> =
        parents::<Thumbnail>(&ctx).filter(|thumbnail| thumbnail.file_id == file_id).collect();
    thumbnails.sort_by_key(|thumbnail| thumbnail.size);
    let results = &ctx.assignment().dependency_results;
    ctx.log(LogLevel::Info, format!("{} bytes, {} thumbnails", content.bytes, thumbnails.len()));
    Ok(Metadata {
        total_bytes: content.bytes + thumbnails.iter().map(|thumbnail| thumbnail.content.bytes).sum::<u64>(),
        original: Original {
            content,
            width: picture.as_ref().map(|picture| picture.width),
            height: picture.as_ref().map(|picture| picture.height),
            format: picture.as_ref().map(|picture| picture.format),
        },
        file_id,
        exif,
        thumbnails,
        parents_with_result: results.iter().filter(|(_, result)| result.is_some()).count(),
        parents: results.len(),
    })
}
