//! The built-in job types, each doing real work, a file each.
//!
//! | type | payload | what it does |
//! | --- | --- | --- |
//! | `noop` | any | nothing |
//! | `email.send` | `recipient`, `subject`?, `text`?, `html`? | sends mail, or writes it to the outbox |
//! | `report.generate` | `reportId`, `filters`?, `format`? | writes CSV and HTML about finished jobs |
//! | `cleanup.run` | `olderThanSeconds`?, `states`?, `queue`?, `limit`? | forgets finished jobs |
//! | `webhook.dispatch` | `url`, `method`?, `headers`?, `body`? | sends a signed request |
//! | `file.ingest` | `fileId`, `source` | takes a file in |
//! | `image.thumbnail` | `fileId`, `size` | makes a smaller picture |
//! | `metadata.aggregate` | `fileId` | gathers what is known of a file |
//! | `user.notify` | `userId`, `channel`, `url`?, `message`? | tells a user, by webhook or outbox |
//!
//! All of them understand `durationMs` (extra time) and `forceError` (fail on purpose).

mod check;
mod cleanup;
mod email;
mod exif;
mod ingest;
mod metadata;
mod notify;
mod payload;
mod picture;
mod report;
mod report_html;
mod source;
mod thumbnail;
mod webhook;

use std::sync::Arc;

use serde::de::IgnoredAny;
use tokio::sync::Semaphore;

use super::{JobContext, Platform, Registry};

pub use check::{PayloadFault, payload_check};
pub use source::FILE_BYTES_MAX;

/// Pictures decoded at once: each may take a quarter of a gigabyte, so cores alone are no measure.
const DECODES_MAX: usize = 4;

/// A real picture to show the pipeline on, made for this project.
pub const DEMO_IMAGE: &[u8] = include_bytes!("../../../assets/demo.jpg");

/// What processors share.
struct Tools {
    platform: Platform,
    decoding: Arc<Semaphore>,
}

/// All built-in processors over `platform`.
pub fn builtin(platform: Platform) -> Registry {
    let tools = Arc::new(Tools { platform, decoding: Arc::new(Semaphore::new(DECODES_MAX)) });
    let mut registry = Registry::new();
    registry.built_in_fn("noop", |_: JobContext, _: IgnoredAny| async { Ok(()) });
    macro_rules! processor {
        ($job_type:literal, $module:ident) => {
            let shared = tools.clone();
            registry.built_in_fn($job_type, move |ctx, payload| $module::run(shared.clone(), ctx, payload));
        };
    }
    processor!("cleanup.run", cleanup);
    processor!("email.send", email);
    processor!("file.ingest", ingest);
    processor!("image.thumbnail", thumbnail);
    processor!("metadata.aggregate", metadata);
    processor!("report.generate", report);
    processor!("user.notify", notify);
    processor!("webhook.dispatch", webhook);
    registry
}
