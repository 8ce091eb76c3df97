//! Opens what `file.ingest` is pointed at: a file under the ingest root, a `data:` URL, or the web.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use percent_encoding::percent_decode_str;
use tokio::fs;
use url::{Host, Url};

use crate::worker::{ContentReader, JobError};

use super::Tools;

/// Largest file that is taken in: pictures are decoded in memory, and larger ones belong in an object store.
pub const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Something opened for reading.
pub(super) struct Source {
    pub(super) content: ContentReader,
    /// The media type that its sender names.
    pub(super) hint: Option<String>,
}

/// Opens `source`.
pub(super) async fn open(tools: &Tools, source: &str) -> Result<Source, JobError> {
    let scheme = source.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        Some("data") => open_data(source),
        Some("file") => open_file(&tools.platform.settings.ingest_root, source).await,
        Some("http" | "https") => {
            let download = tools.platform.outbound.download(source).await;
            let download = download.map_err(|error| error.into_job_error())?;
            Ok(Source { content: download.content, hint: download.content_type })
        }
        _ => Err(JobError::invalid_payload("source: must be a file:, data:, http: or https: URL")),
    }
}

fn open_data(source: &str) -> Result<Source, JobError> {
    let bad = |why: &str| JobError::invalid_payload(format!("source: {why}"));
    let (head, data) = source[5..].split_once(',').ok_or_else(|| bad("a data: URL has a comma"))?;
    let decoded: Vec<u8> = percent_decode_str(data).collect();
    let (media_type, base64) = match head.rsplit_once(';') {
        Some((media_type, last)) if last.trim().eq_ignore_ascii_case("base64") => (media_type, true),
        _ => (head, false),
    };
    let bytes = if base64 {
        let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let text: Vec<u8> = decoded.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let engine = GeneralPurpose::new(&STANDARD, lenient);
        engine.decode(text).map_err(|error| bad(&format!("the base64 data is broken: {error}")))?
    } else {
        decoded
    };
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let hint = if media_type.contains('/') { media_type } else { "text/plain".to_owned() };
    Ok(Source { content: Box::pin(Cursor::new(bytes)), hint: Some(hint) })
}

/// Opens a file under `root`. A path that leads out of it, by `..` or by a link, is refused in the same words as
/// one that does not exist: a job learns nothing of the rest of the machine.
async fn open_file(root: &Path, source: &str) -> Result<Source, JobError> {
    let missing = || JobError::fatal("source_not_found", "source: no such file under the ingest root");
    let url = Url::parse(source).map_err(|error| JobError::invalid_payload(format!("source: {error}")))?;
    if url.host().is_some_and(|host| host != Host::Domain("localhost")) {
        return Err(JobError::invalid_payload("source: a file: URL names no other host; use file:///path"));
    }
    let path = percent_decode_str(url.path()).decode_utf8().map_err(|_| missing())?.into_owned();
    let root = fs::canonicalize(root).await.map_err(|_| missing())?;
    let file = inside(&root, &path).await.ok_or_else(missing)?;
    // Devices and pipes could block or never end.
    if !fs::metadata(&file).await.map_err(|_| missing())?.is_file() {
        return Err(missing());
    }
    let opened = fs::File::open(&file).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => missing(),
        _ => JobError::caused_by("source_unreadable", &error),
    })?;
    if !still_inside(&root, &opened).await {
        return Err(missing());
    }
    Ok(Source { content: Box::pin(opened), hint: None })
}

/// The real path of `path`, taken as it is if it lies under `root`, else from `root` on.
async fn inside(root: &Path, path: &str) -> Option<PathBuf> {
    let relative = path.trim_start_matches('/');
    for candidate in [PathBuf::from(path), root.join(relative)] {
        // Absolute paths elsewhere are not even looked at.
        if let Ok(real) = fs::canonicalize(&candidate).await
            && real.starts_with(root)
            && real != root
        {
            return Some(real);
        }
    }
    None
}

/// Whether the file that was opened is the one that was checked: a link may be swapped in between.
#[cfg(target_os = "linux")]
async fn still_inside(root: &Path, file: &fs::File) -> bool {
    use std::os::fd::AsRawFd;
    let opened = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).await;
    opened.is_ok_and(|path| path.starts_with(root))
}

/// Elsewhere the operating system does not tell; the check before opening has to do.
#[cfg(not(target_os = "linux"))]
async fn still_inside(_root: &Path, _file: &fs::File) -> bool {
    true
}
