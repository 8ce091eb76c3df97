//! Where file processors keep bytes: content by its hash, and a tenant's file ids as links to it.
//!
//! Content is immutable and shared: the same bytes are stored once, whoever sent them. Which tenant may read them
//! is decided by the links, which are per tenant.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::fs;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::JobError;
use super::durable_file::{Draft, hex, segment};

/// How much of a file is looked at to tell its type: `infer` needs at most 8 KiB.
const HEAD_BYTES: usize = 8 * 1024;
/// How much is read and hashed at a time; hashing this much keeps the runtime's thread well under a millisecond.
const CHUNK_BYTES: usize = 64 * 1024;
/// Drafts older than this belong to processes that died.
const DRAFT_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Bytes to be read, from wherever they come.
pub type ContentReader = Pin<Box<dyn AsyncRead + Send>>;

/// The SHA-256 of some content, as 64 lower-case hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContentHash(String);

impl ContentHash {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(hex(&Sha256::digest(bytes)))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ContentHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digits = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(digits) {
            Ok(Self(text))
        } else {
            Err("not a SHA-256 in lower-case hexadecimal")
        }
    }
}

impl From<ContentHash> for String {
    fn from(hash: ContentHash) -> Self {
        hash.0
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names stored content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContentRef {
    /// Its hash, which is also its address.
    pub sha256: ContentHash,
    /// How long it is.
    pub bytes: u64,
    /// Its media type, by its first bytes where those tell.
    pub content_type: String,
}

/// Why content could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// There is more of it than allowed.
    #[error("content is over the limit of {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// Nothing is stored under that hash.
    #[error("no content {0}")]
    NotFound(ContentHash),
    /// Where it came from failed while it was read.
    #[error("the source could not be read")]
    Source(#[source] io::Error),
    /// The store itself failed.
    #[error("the content store failed")]
    Storage(#[source] io::Error),
}

impl ContentError {
    pub(crate) fn into_job_error(self) -> JobError {
        match &self {
            Self::TooLarge { .. } => JobError::fatal("content_too_large", self.to_string()),
            Self::NotFound(_) => JobError::retryable("content_missing", self.to_string()),
            Self::Source(_) => JobError::caused_by("source_unreadable", &self),
            Self::Storage(_) => JobError::caused_by("content_store", &self),
        }
    }
}

/// Keeps content and the links to it. `system` decides where: see [`FileContent`].
#[async_trait]
pub trait ContentStore: Send + Sync + 'static {
    /// Stores all of `content`, durably, if it is no longer than `limit_bytes`. `hint` is the media type to
    /// assume where the bytes do not tell.
    async fn put(
        &self,
        content: ContentReader,
        hint: Option<&str>,
        limit_bytes: u64,
    ) -> Result<ContentRef, ContentError>;

    /// Opens content for reading.
    async fn open(&self, sha256: &ContentHash) -> Result<ContentReader, ContentError>;

    /// Makes `name` of `tenant` mean `content`, replacing what it meant before.
    async fn link(&self, tenant: &str, name: &str, content: &ContentRef) -> Result<(), ContentError>;

    /// What `name` of `tenant` means.
    async fn resolve(&self, tenant: &str, name: &str) -> Result<Option<ContentRef>, ContentError>;

    /// Puts a readable copy at `folder` under the data directory (its parts are escaped as needed) and returns
    /// the path relative to that directory, for people who look for the file.
    async fn publish(
        &self,
        folder: &[&str],
        name: &str,
        content: &ContentRef,
    ) -> Result<String, ContentError>;
}

impl dyn ContentStore {
    /// Reads content whole, if it is no longer than `limit_bytes`.
    pub async fn read(&self, sha256: &ContentHash, limit_bytes: u64) -> Result<Vec<u8>, ContentError> {
        let mut bytes = Vec::new();
        let mut reader = self.open(sha256).await?.take(limit_bytes.saturating_add(1));
        reader.read_to_end(&mut bytes).await.map_err(ContentError::Storage)?;
        if bytes.len() as u64 > limit_bytes {
            return Err(ContentError::TooLarge { limit_bytes });
        }
        Ok(bytes)
    }
}

/// The media type of content that starts with `head`: by its bytes, else `hint`, else text or plain bytes.
pub fn sniff_content_type(head: &[u8], hint: Option<&str>) -> String {
    // A character cut at the end of `head` does not make it binary.
    let text = std::str::from_utf8(head).map_or_else(|error| error.error_len().is_none(), |_| true);
    match (infer::get(head), hint) {
        (Some(kind), _) => kind.mime_type(),
        (None, Some(hint)) => hint,
        (None, None) if text && !head.contains(&0) => "text/plain",
        (None, None) => "application/octet-stream",
    }
    .to_owned()
}

/// A content store in the file system:
///
/// ```text
/// DATA_DIR/content/ab/cd/abcd…       content by hash
/// DATA_DIR/content/by-file/<tenant>/<name>   a ContentRef as JSON
/// DATA_DIR/content/drafts/           being written
/// ```
#[derive(Debug, Clone)]
pub struct FileContent {
    data_dir: PathBuf,
    root: PathBuf,
}

impl FileContent {
    /// Opens the store under `data_dir`, and removes drafts that dead processes left there.
    pub async fn open(data_dir: &Path) -> io::Result<Self> {
        let store = Self { data_dir: data_dir.to_owned(), root: data_dir.join("content") };
        let drafts = store.drafts();
        fs::create_dir_all(&drafts).await?;
        let mut entries = fs::read_dir(&drafts).await?;
        while let Some(entry) = entries.next_entry().await? {
            let changed = entry.metadata().await?.modified()?;
            if changed.elapsed().is_ok_and(|age| age > DRAFT_AGE_MAX) {
                fs::remove_file(entry.path()).await?;
            }
        }
        Ok(store)
    }

    fn drafts(&self) -> PathBuf {
        self.root.join("drafts")
    }

    fn path_of(&self, sha256: &ContentHash) -> PathBuf {
        let digits = sha256.as_str();
        self.root.join(&digits[..2]).join(&digits[2..4]).join(digits)
    }

    fn link_path(&self, tenant: &str, name: &str) -> PathBuf {
        self.root.join("by-file").join(segment(tenant)).join(segment(name))
    }
}

#[async_trait]
impl ContentStore for FileContent {
    async fn put(
        &self,
        mut content: ContentReader,
        hint: Option<&str>,
        limit_bytes: u64,
    ) -> Result<ContentRef, ContentError> {
        let mut draft = Draft::new_in(&self.drafts()).await.map_err(ContentError::Storage)?;
        let mut hasher = Sha256::new();
        let mut head = Vec::with_capacity(HEAD_BYTES);
        let mut bytes: u64 = 0;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = content.read(&mut chunk).await.map_err(ContentError::Source)?;
            let part = &chunk[..read];
            if part.is_empty() {
                break;
            }
            bytes += part.len() as u64;
            if bytes > limit_bytes {
                return Err(ContentError::TooLarge { limit_bytes });
            }
            head.extend_from_slice(&part[..part.len().min(HEAD_BYTES - head.len())]);
            hasher.update(part);
            draft.write(part).await.map_err(ContentError::Storage)?;
        }
        let sha256 = ContentHash(hex(&hasher.finalize()));
        draft.keep_as(&self.path_of(&sha256)).await.map_err(ContentError::Storage)?;
        Ok(ContentRef { sha256, bytes, content_type: sniff_content_type(&head, hint) })
    }

    async fn open(&self, sha256: &ContentHash) -> Result<ContentReader, ContentError> {
        match fs::File::open(self.path_of(sha256)).await {
            Ok(file) => Ok(Box::pin(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ContentError::NotFound(sha256.clone()))
            }
            Err(error) => Err(ContentError::Storage(error)),
        }
    }

    async fn link(&self, tenant: &str, name: &str, content: &ContentRef) -> Result<(), ContentError> {
        let json = serde_json::to_vec(content).map_err(|error| ContentError::Storage(error.into()))?;
        let mut draft = Draft::new_in(&self.drafts()).await.map_err(ContentError::Storage)?;
        draft.write(&json).await.map_err(ContentError::Storage)?;
        draft.keep_as(&self.link_path(tenant, name)).await.map_err(ContentError::Storage)
    }

    async fn resolve(&self, tenant: &str, name: &str) -> Result<Option<ContentRef>, ContentError> {
        match fs::read(self.link_path(tenant, name)).await {
            Ok(json) => {
                serde_json::from_slice(&json).map(Some).map_err(|error| ContentError::Storage(error.into()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ContentError::Storage(error)),
        }
    }

    async fn publish(
        &self,
        folder: &[&str],
        name: &str,
        content: &ContentRef,
    ) -> Result<String, ContentError> {
        let mut relative: PathBuf = folder.iter().map(|part| segment(part)).collect();
        relative.push(segment(name));
        let target = self.data_dir.join(&relative);
        let mut draft = Draft::new_in(&self.drafts()).await.map_err(ContentError::Storage)?;
        let mut reader = self.open(&content.sha256).await?;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = reader.read(&mut chunk).await.map_err(ContentError::Storage)?;
            if read == 0 {
                break;
            }
            draft.write(&chunk[..read]).await.map_err(ContentError::Storage)?;
        }
        draft.keep_as(&target).await.map_err(ContentError::Storage)?;
        Ok(relative.to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    async fn store() -> (tempfile::TempDir, FileContent) {
        let dir = tempfile::tempdir().unwrap();
        let store = FileContent::open(dir.path()).await.unwrap();
        (dir, store)
    }

    fn reader(bytes: &'static [u8]) -> ContentReader {
        Box::pin(Cursor::new(bytes))
    }

    #[tokio::test]
    async fn what_goes_in_comes_out_under_its_hash_and_its_link() {
        let (_dir, store) = store().await;
        let stored = store.put(reader(b"hello"), Some("text/plain"), 5).await.unwrap();
        assert_eq!(stored.sha256, ContentHash::of(b"hello"));
        assert_eq!((stored.bytes, stored.content_type.as_str()), (5, "text/plain"));

        store.link("acme", "../x", &stored).await.unwrap();
        assert_eq!(store.resolve("acme", "../x").await.unwrap(), Some(stored.clone()));
        assert_eq!(store.resolve("other", "../x").await.unwrap(), None);

        let store: &dyn ContentStore = &store;
        assert_eq!(store.read(&stored.sha256, 5).await.unwrap(), b"hello");
        assert!(matches!(store.read(&stored.sha256, 4).await, Err(ContentError::TooLarge { .. })));
    }

    #[tokio::test]
    async fn content_over_the_limit_leaves_nothing_behind() {
        let (_dir, store) = store().await;
        let refused = store.put(reader(b"hello"), None, 4).await;
        assert!(matches!(refused, Err(ContentError::TooLarge { limit_bytes: 4 })));
        assert_eq!(std::fs::read_dir(store.drafts()).unwrap().count(), 0);
        let missing = store.open(&ContentHash::of(b"hello")).await.err().unwrap();
        assert!(matches!(missing, ContentError::NotFound(_)));
    }

    #[test]
    fn only_lower_case_hexadecimal_is_a_hash() {
        assert!(ContentHash::try_from("a".repeat(64)).is_ok());
        for text in ["A".repeat(64), "a".repeat(63), format!("{}/", "a".repeat(63)), "../..".to_owned()] {
            assert!(ContentHash::try_from(text).is_err());
        }
    }
}
