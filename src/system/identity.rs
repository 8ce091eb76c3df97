//! What a node keeps about itself in its data directory.

use std::{fs, io::Write, path::Path};

use anyhow::{Context, Result};

use crate::worker::WebhookSigner;

/// Makes the data directory, readable for the node's user alone.
pub(super) fn prepare(dir: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    // Payloads are nobody else's; a directory that is there already keeps the rights it was given.
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.with_context(|| format!("DATA_DIR: cannot make {}", dir.display()))
}

/// The node's name: as set, or one that is made once and kept.
pub(super) fn node_id(dir: &Path, set: Option<&str>) -> Result<String> {
    match set {
        Some(name) => Ok(name.to_owned()),
        None => kept(&dir.join("node-id"), || uuid::Uuid::now_v7().to_string()),
    }
}

/// What the machine calls itself.
pub(super) fn hostname() -> String {
    let told =
        fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    told.map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".into())
}

/// What signs webhooks: as set, or a secret that is made once and kept.
pub(super) fn webhook_signer(dir: &Path, set: Option<&str>) -> Result<WebhookSigner> {
    let text = match set {
        Some(secrets) => secrets.to_owned(),
        None => kept(&dir.join("webhook-secret"), WebhookSigner::generate_secret)?,
    };
    WebhookSigner::parse(&text).context("WEBHOOK_SECRET")
}

fn kept(path: &Path, make: impl FnOnce() -> String) -> Result<String> {
    match fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    let text = make();
    let write = || -> std::io::Result<()> {
        // A secret among them: for the node's user alone.
        use std::os::unix::fs::OpenOptionsExt;
        let temporary = path.with_extension("new");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))?;
    Ok(text)
}
