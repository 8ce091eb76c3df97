//! What the built-in processors need of the platform they run in.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lettre::{AsyncSmtpTransport, Tokio1Executor};

use super::{Clock, ContentStore, History, Outbound, Outbox, WebhookSigner, system_clock};

/// For each command of the exchange: mail servers delay answers on purpose, but not for longer.
const SMTP_TIMEOUT: Duration = Duration::from_secs(30);

/// Everything a processor reaches beyond its own job.
#[derive(Clone)]
pub struct Platform {
    /// Keeps files.
    pub content: Arc<dyn ContentStore>,
    /// Knows the jobs that ended.
    pub history: Arc<dyn History>,
    /// Takes messages that nothing else delivers.
    pub outbox: Arc<dyn Outbox>,
    /// The guarded way out.
    pub outbound: Outbound,
    /// What the operator set.
    pub settings: ProcessorSettings,
    /// Tells the time that goes into messages and reports.
    pub clock: Clock,
}

impl Platform {
    /// A platform on the machine's clock.
    pub fn new(
        content: Arc<dyn ContentStore>,
        history: Arc<dyn History>,
        outbox: Arc<dyn Outbox>,
        outbound: Outbound,
        settings: ProcessorSettings,
    ) -> Self {
        Self { content, history, outbox, outbound, settings, clock: system_clock }
    }
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Platform").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What an operator can set about the processors.
#[derive(Debug, Clone, Default)]
pub struct ProcessorSettings {
    /// `INGEST_ROOT`: the only folder that `file.ingest` reads `file://` sources from.
    pub ingest_root: PathBuf,
    /// The mail server; without one, mail goes to the outbox.
    pub smtp: Option<SmtpSettings>,
    /// `SMTP_FROM`: who mail comes from.
    pub mail_from: Option<String>,
    /// `WEBHOOK_SECRET`: signs what webhooks carry.
    pub webhook_signer: WebhookSigner,
}

/// How to reach the mail server.
#[derive(Clone)]
pub struct SmtpSettings {
    pub(super) transport: AsyncSmtpTransport<Tokio1Executor>,
}

/// `SMTP_URL` is none.
#[derive(Debug, thiserror::Error)]
#[error("SMTP_URL is not valid: {0}")]
pub struct SmtpUrlError(String);

impl SmtpSettings {
    /// Reads `SMTP_URL`: `smtps://user:password@host`, `smtp://host:587?tls=required`, `smtp://localhost:25`.
    pub fn parse(url: &str) -> Result<Self, SmtpUrlError> {
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url)
            .map_err(|error| SmtpUrlError(error.to_string()))?;
        Ok(Self { transport: builder.timeout(Some(SMTP_TIMEOUT)).build() })
    }
}

impl fmt::Debug for SmtpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL carries the password.
        f.write_str("SmtpSettings(…)")
    }
}
