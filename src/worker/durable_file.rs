//! Files that are either there in full or not at all, under names that users chose.

use std::io;
use std::path::{Path, PathBuf};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};
use tokio::fs;
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

/// Longest escaped name: file systems take 255 bytes, and suffixes and temporary names need some of them.
const NAME_BYTES_MAX: usize = 180;

/// What a file name keeps as it is; everything else, `/` and `:` of tenant names included, is percent-encoded.
const KEPT: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');

/// `name` as one path segment that can neither climb nor collide with another name's.
pub(crate) fn segment(name: &str) -> String {
    let mut escaped = utf8_percent_encode(name, &KEPT).to_string();
    if escaped.is_empty() {
        // A lone escape sign is what no encoded name can be.
        return "%".to_owned();
    }
    if escaped.starts_with('.') {
        escaped.replace_range(..1, "%2E");
    }
    if escaped.len() > NAME_BYTES_MAX {
        let digest = hex(&Sha256::digest(name.as_bytes()));
        escaped.truncate(NAME_BYTES_MAX - digest.len() - 1);
        // `~` is always encoded, so a shortened name equals no full one.
        escaped.push('~');
        escaped.push_str(&digest);
    }
    escaped
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// A file being written beside its final place; removed again unless it is [kept](Self::keep_as).
#[derive(Debug)]
pub(crate) struct Draft {
    path: PathBuf,
    file: fs::File,
    kept: bool,
}

impl Draft {
    /// Starts a file in `folder`, which is made if missing.
    pub(crate) async fn new_in(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder).await?;
        let path = folder.join(format!(".draft-{}", Uuid::new_v4()));
        let file = fs::File::create_new(&path).await?;
        Ok(Self { path, file, kept: false })
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).await
    }

    /// Makes the file durable under `target`, replacing what was there. Must be on the same file system.
    pub(crate) async fn keep_as(mut self, target: &Path) -> io::Result<()> {
        self.file.flush().await?;
        self.file.sync_all().await?;
        let folder = target.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder).await?;
        fs::rename(&self.path, target).await?;
        self.kept = true;
        // The name itself is only durable once its folder is.
        fs::File::open(folder).await?.sync_all().await
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.kept {
            // Left behind only if this fails too; drafts are swept at start.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Writes `bytes` to `target` so that readers see the old content or the new, never a part.
pub(crate) async fn write_atomically(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut draft = Draft::new_in(target.parent().unwrap_or(Path::new("."))).await?;
    draft.write(bytes).await?;
    draft.keep_as(target).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_never_climbs_or_splits() {
        for name in ["..", ".", "../../etc/passwd", "a/b", "a\\b", "", "\0", "C:\\x", ".hidden", "ü"] {
            let escaped = segment(name);
            assert!(!escaped.contains(['/', '\\', '\0', ':']), "{name:?} became {escaped:?}");
            assert!(!escaped.starts_with('.') && !escaped.is_empty(), "{name:?} became {escaped:?}");
        }
        assert_eq!(segment("photo-1.jpg"), "photo-1.jpg");
    }

    #[test]
    fn long_names_stay_apart() {
        let one = segment(&format!("{}1", "x".repeat(1000)));
        let two = segment(&format!("{}2", "x".repeat(1000)));
        assert_ne!(one, two);
        assert!(one.len() <= NAME_BYTES_MAX);
        assert!(segment(&"ü".repeat(500)).len() <= NAME_BYTES_MAX);
    }
}
