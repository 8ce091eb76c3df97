//! Which dead letters a request is about.

use serde::{Deserialize, Serialize};

use crate::{
    actors::platform::Letters,
    domain::{FieldError, Timestamp, name},
    http::{
        extract::{Params, parse_job_id},
        limits::{FILTER_BYTES_MAX, JOB_IDS_MAX},
        problem::ApiError,
    },
    store::dead_letters::LetterFilter,
};

/// Which dead letters; all that are given must match. A name that is not known is refused: it would match
/// more than was meant.
#[derive(Debug, Clone, Default, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LetterFilterRequest {
    /// The queue.
    pub queue: Option<String>,
    /// The error's type.
    pub error_type: Option<String>,
    /// The job's type.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The tenant.
    pub tenant_id: Option<String>,
    /// The group.
    pub fingerprint: Option<String>,
    /// Failed at or after.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub failed_after: Option<Timestamp>,
    /// Failed before.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub failed_before: Option<Timestamp>,
}

/// The dead letters that are to be deleted: exactly one of `jobIds` and `filter`.
#[derive(Debug, Clone, Default, Deserialize, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SelectionRequest {
    /// Of these jobs, at most 1,000.
    pub job_ids: Option<Vec<String>>,
    /// All that match; `{}` is all there are.
    pub filter: Option<LetterFilterRequest>,
    /// Who asks, for the audit log, beside the caller's key.
    pub actor: Option<String>,
    /// Only count them.
    pub dry_run: Option<bool>,
}

/// The selection of a request, checked.
pub(super) fn letters(
    job_ids: Option<Vec<String>>,
    filter: Option<LetterFilterRequest>,
    faults: &mut Vec<FieldError>,
) -> Letters {
    match (job_ids, filter) {
        (Some(ids), None) => {
            if ids.len() > JOB_IDS_MAX {
                faults.push(FieldError::new("/jobIds", format!("at most {JOB_IDS_MAX} jobs")));
                return Letters::Of(Vec::new());
            }
            let mut jobs = Vec::with_capacity(ids.len());
            for (index, id) in ids.iter().enumerate() {
                match parse_job_id(id) {
                    Some(job) => jobs.push(job),
                    None => faults.push(FieldError::new(format!("/jobIds/{index}"), "not a job id")),
                }
            }
            jobs.sort_unstable();
            jobs.dedup();
            Letters::Of(jobs)
        }
        (None, Some(filter)) => Letters::Matching(filter.check(faults)),
        (Some(_), Some(_)) => {
            faults.push(FieldError::new("/filter", "give either jobIds or filter, not both"));
            Letters::Of(Vec::new())
        }
        (None, None) => {
            faults.push(FieldError::new("/jobIds", "either jobIds or filter is needed"));
            Letters::Of(Vec::new())
        }
    }
}

impl LetterFilterRequest {
    fn check(self, faults: &mut Vec<FieldError>) -> LetterFilter {
        for (pointer, value) in [
            ("/filter/queue", &self.queue),
            ("/filter/type", &self.kind),
            ("/filter/tenantId", &self.tenant_id),
        ] {
            is_name(pointer, value.as_deref(), faults);
        }
        for (pointer, value) in
            [("/filter/errorType", &self.error_type), ("/filter/fingerprint", &self.fingerprint)]
        {
            let is_fit =
                |text: &String| text.len() <= FILTER_BYTES_MAX && !text.chars().any(char::is_control);
            if !value.as_ref().is_none_or(is_fit) {
                let detail = format!("at most {FILTER_BYTES_MAX} bytes, without control characters");
                faults.push(FieldError::new(pointer, detail));
            }
        }
        LetterFilter {
            queue: self.queue,
            error_type: self.error_type,
            kind: self.kind,
            tenant: self.tenant_id,
            fingerprint: self.fingerprint,
            failed_after: self.failed_after,
            failed_before: self.failed_before,
        }
    }
}

/// Notes a value that cannot be a name.
pub(super) fn is_name(pointer: &str, value: Option<&str>, faults: &mut Vec<FieldError>) {
    if value.is_some_and(|value| !name::is_name(value)) {
        faults.push(FieldError::new(pointer, "must match [A-Za-z0-9][A-Za-z0-9._:/-]{0,127}"));
    }
}

/// The parameters of a filter in a query.
pub(super) const FILTERS: [&str; 8] =
    ["queue", "errorType", "type", "tenantId", "fingerprint", "failedAfter", "failedBefore", "limit"];

/// The filter of a query.
pub(super) fn of_query(params: &Params) -> Result<LetterFilter, ApiError> {
    Ok(LetterFilter {
        queue: params.name("queue")?,
        error_type: params.text("errorType")?,
        kind: params.name("type")?,
        tenant: params.name("tenantId")?,
        fingerprint: params.text("fingerprint")?,
        failed_after: params.time("failedAfter")?,
        failed_before: params.time("failedBefore")?,
    })
}
