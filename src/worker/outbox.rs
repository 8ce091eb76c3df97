//! Messages that leave through files: what development and tests look at in place of a mailbox.

use std::io;
use std::path::PathBuf;

use async_trait::async_trait;

use super::durable_file::{segment, write_atomically};

/// Takes messages that nothing else delivers.
#[async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// Delivers `message` as `name` (with its extension, `.eml` or `.json`); the same name again replaces it, so
    /// that another attempt of a job sends nothing twice. Answers where it is.
    async fn deliver(&self, name: &str, message: &[u8]) -> io::Result<String>;
}

/// An outbox in a folder, `DATA_DIR/outbox`.
#[derive(Debug, Clone)]
pub struct FileOutbox {
    folder: PathBuf,
}

impl FileOutbox {
    /// An outbox in `folder`, which is made with the first message.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }
}

#[async_trait]
impl Outbox for FileOutbox {
    async fn deliver(&self, name: &str, message: &[u8]) -> io::Result<String> {
        let name = segment(name);
        write_atomically(&self.folder.join(&name), message).await?;
        let folder = self.folder.file_name().unwrap_or(self.folder.as_os_str()).to_string_lossy();
        Ok(format!("{folder}/{name}"))
    }
}
