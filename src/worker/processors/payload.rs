//! What payloads and dependency results of several processors have in common.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::worker::{ContentRef, JobContext, JobError};

use super::Tools;

/// Longest id in a payload: it becomes part of file names, links and messages.
const ID_BYTES_MAX: usize = 256;

/// An id that the submitter chose: text, or a whole number taken as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Id(String);

impl Id {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The id in `value`, or what is wrong with it.
    pub(super) fn of(value: &Value) -> Result<Self, &'static str> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
            _ => return Err("must be a string"),
        };
        match () {
            () if text.trim().is_empty() => Err("must not be empty"),
            () if text.len() > ID_BYTES_MAX => Err("must be at most 256 bytes long"),
            () if text.contains(char::is_control) => Err("must not contain control characters"),
            () => Ok(Self(text)),
        }
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// A smaller picture's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ThumbnailSize {
    Sm,
    Md,
    Lg,
}

impl ThumbnailSize {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Sm => "sm",
            Self::Md => "md",
            Self::Lg => "lg",
        }
    }

    /// Pixels of the longest side.
    pub(super) fn longest_side(self) -> u32 {
        match self {
            Self::Sm => 160,
            Self::Md => 480,
            Self::Lg => 1024,
        }
    }
}

/// What `image.thumbnail` answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Thumbnail {
    pub(super) file_id: Id,
    pub(super) size: ThumbnailSize,
    pub(super) width: u32,
    pub(super) height: u32,
    #[serde(flatten)]
    pub(super) content: ContentRef,
    /// Relative to the data directory.
    pub(super) path: String,
}

/// The results of the jobs that this one depends on, of those that have one.
pub(super) fn parents<'a, T: Deserialize<'a>>(ctx: &'a JobContext) -> impl Iterator<Item = T> + 'a {
    let results = ctx.assignment().dependency_results.iter();
    results.filter_map(|(_, result)| serde_json::from_str(result.as_ref()?.get()).ok())
}

/// The file that `id` means: what a parent job just took in, else what the tenant's link says.
pub(super) async fn original(tools: &Tools, ctx: &JobContext, id: &Id) -> Result<ContentRef, JobError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Ingested {
        file_id: Id,
        // Pictures made of the file carry its id too, and a size.
        size: Option<Value>,
        #[serde(flatten)]
        content: ContentRef,
    }
    let parent = parents::<Ingested>(ctx).find(|parent| parent.size.is_none() && parent.file_id == *id);
    if let Some(parent) = parent {
        return Ok(parent.content);
    }
    let linked = tools.platform.content.resolve(&ctx.assignment().tenant, id.as_str()).await;
    linked.map_err(|error| error.into_job_error())?.ok_or_else(|| {
        // Retryable: the file may still be on its way in by another job.
        JobError::retryable("file_not_found", format!("no file {} has been taken in", id.as_str()))
    })
}
