//! `image.thumbnail`: a smaller picture of a file that was taken in.

use std::io::Cursor;
use std::sync::Arc;

use serde::Deserialize;

use crate::worker::panics::panic_error;
use crate::worker::{ContentRef, JobContext, JobError, LogLevel};

use super::Tools;
use super::payload::{Id, Thumbnail, ThumbnailSize, original};
use super::picture::{Shrunk, shrink};
use super::source::FILE_BYTES_MAX;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Payload {
    file_id: Id,
    size: ThumbnailSize,
}

pub(super) async fn run(tools: Arc<Tools>, ctx: JobContext, payload: Payload) -> Result<Thumbnail, JobError> {
    let Payload { file_id, size } = payload;
    let file = original(&tools, &ctx, &file_id).await?;
    let shrunk = decode(&tools, &file, size).await?;

    let store = &tools.platform.content;
    let stored =
        store.put(Box::pin(Cursor::new(shrunk.bytes)), Some(shrunk.content_type), FILE_BYTES_MAX).await;
    let content = stored.map_err(|error| error.into_job_error())?;
    let folder = ["thumbnails", &ctx.assignment().tenant, file_id.as_str()];
    let name = format!("{}.{}", size.as_str(), shrunk.extension);
    let path = store.publish(&folder, &name, &content).await.map_err(|error| error.into_job_error())?;
    ctx.log(LogLevel::Info, format!("{}×{} as {path}, {} bytes", shrunk.width, shrunk.height, content.bytes));
    Ok(Thumbnail { file_id, size, width: shrunk.width, height: shrunk.height, content, path })
}

async fn decode(tools: &Tools, file: &ContentRef, size: ThumbnailSize) -> Result<Shrunk, JobError> {
    // The permit goes into the thread: an aborted attempt cannot stop a decoder, so its memory stays counted.
    let permit = tools.decoding.clone().acquire_owned().await?;
    let bytes = tools.platform.content.read(&file.sha256, FILE_BYTES_MAX).await;
    let bytes = bytes.map_err(|error| error.into_job_error())?;
    let decoded = tokio::task::spawn_blocking(move || {
        let shrunk = shrink(&bytes, size.longest_side());
        drop(permit);
        shrunk
    });
    match decoded.await {
        Ok(shrunk) => shrunk,
        Err(error) if error.is_panic() => Err(panic_error(error.into_panic().as_ref())),
        Err(error) => Err(error.into()),
    }
}
