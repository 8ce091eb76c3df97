//! The list of jobs.

use std::time::Instant;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue},
};

use super::{cursor, live, view};
use crate::{
    domain::{JobState, JobView},
    http::{
        access::Principal,
        extract::Params,
        limits::{
            PAGE_BYTES_MAX, PAGE_DEFAULT, PAGE_MAX, PAGE_STEP, SEARCH_FIRST, SEARCH_GROWTH, SEARCH_STEP_MAX,
            SEARCH_TIME,
        },
        problem::ApiError,
        state::HttpState,
    },
    store::{
        read::{JobCursor, JobFilter},
        search::Searched,
    },
};

/// The parameters that a link to the next page keeps.
const FILTERS: [&str; 11] = [
    "state",
    "queue",
    "worker",
    "tenantId",
    "workflowId",
    "type",
    "tag",
    "createdAfter",
    "createdBefore",
    "q",
    "limit",
];

const X_SEARCH_SCOPE: HeaderName = HeaderName::from_static("x-search-scope");

/// Lists jobs
///
/// Newest first; pages stay as they are while jobs are added. A page may be shorter than `limit`, or empty, when its
/// payloads are large, or when a second's search among many jobs did not find more: follow `Link` until there is none.
#[utoipa::path(
    get,
    path = "/api/v1/jobs",
    tag = "jobs",
    operation_id = "listJobs",
    params(
        ("state" = Option<Vec<JobState>>, Query, description = "One of these states"),
        ("queue" = Option<String>, Query, description = "The queue"),
        ("worker" = Option<String>, Query, description = "The worker that runs it or ran it last"),
        ("tenantId" = Option<String>, Query, description = "The tenant"),
        ("workflowId" = Option<String>, Query, format = Uuid, description = "The workflow"),
        ("type" = Option<String>, Query, description = "The type"),
        ("tag" = Option<String>, Query, description = "A tag it has"),
        ("createdAfter" = Option<String>, Query, format = DateTime, description = "Made at or after"),
        ("createdBefore" = Option<String>, Query, format = DateTime, description = "Made before"),
        ("q" = Option<String>, Query, description = "Any part of its id, type or last error, in any case"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 1000, description = "The most jobs of the page; 100"),
        ("cursor" = Option<String>, Query, description = "Where the page begins, from `Link`"),
    ),
    responses((status = 200, description = "The page", body = Vec<JobView>, headers(
        ("Link" = String, description = "The next page, as `<…>; rel=\"next\"`"),
        ("X-Search-Scope" = String, description = "How far `q` looked, or a search that was cut"),
    ))),
)]
pub async fn list(
    State(state): State<HttpState>,
    principal: Principal,
    params: Params,
) -> Result<(HeaderMap, Json<Vec<JobView>>), ApiError> {
    let filter = filter(&params)?;
    let limit = params.number("limit", 1..=PAGE_MAX, PAGE_DEFAULT)?;
    let Page { jobs, next, is_cut } = page(&state, &filter, cursor::job(&params)?, limit).await?;
    let mut headers = HeaderMap::new();
    if let Some(next) = next {
        headers.extend(cursor::next_page("/api/v1/jobs", &params, &FILTERS, &cursor::of_job(next)));
    }
    if let Some(scope) = scope(&filter, next.filter(|_| is_cut)) {
        headers.insert(X_SEARCH_SCOPE, scope);
    }
    let mut waits = state.platform.waits();
    let jobs = jobs.into_iter().map(|mut job| {
        job.waiting_for = waits.of(&job);
        view::shown(principal, live::overlaid(&state, job))
    });
    let jobs = jobs.collect();
    Ok((headers, Json(jobs)))
}

fn filter(params: &Params) -> Result<JobFilter, ApiError> {
    let mut states = Vec::new();
    for name in params.all("state").flat_map(|value| value.split(',')).filter(|name| !name.is_empty()) {
        let state = name.parse().map_err(|()| {
            let all = JobState::ALL.map(JobState::name).join(", ");
            ApiError::invalid_field("/state", format!("must be one of {all}"))
        })?;
        if !states.contains(&state) {
            states.push(state);
        }
    }
    let workflow = params
        .one("workflowId")?
        .map(|text| text.parse().map_err(|_| ApiError::invalid_field("/workflowId", "not a workflow id")))
        .transpose()?;
    Ok(JobFilter {
        states,
        queue: params.name("queue")?,
        worker: params.text("worker")?,
        tenant: params.name("tenantId")?,
        workflow,
        kind: params.name("type")?,
        tag: params.name("tag")?,
        created_after: params.time("createdAfter")?,
        created_before: params.time("createdBefore")?,
        text: params.text("q")?,
    })
}

/// How far was looked, in the words of the header.
fn scope(filter: &JobFilter, cut_at: Option<JobCursor>) -> Option<HeaderValue> {
    let fields = if filter.text.is_some() { "; id, type, last error" } else { "" };
    let scope = match cut_at {
        None if filter.text.is_some() => format!("all jobs{fields}"),
        None => return None,
        Some(JobCursor(id)) => format!("jobs down to {id}{fields}"),
    };
    HeaderValue::try_from(scope).ok()
}

struct Page {
    jobs: Vec<JobView>,
    /// Where the next one begins, if there is one.
    next: Option<JobCursor>,
    /// Whether it ends there because the search took too long.
    is_cut: bool,
}

/// Reads a page in steps, so that neither large payloads fill the memory nor a filter that fits few of many jobs takes
/// for ever.
async fn page(
    state: &HttpState,
    filter: &JobFilter,
    mut after: Option<JobCursor>,
    limit: usize,
) -> Result<Page, ApiError> {
    let (mut jobs, mut bytes) = (Vec::<JobView>::new(), 0);
    let (began, mut scan) = (Instant::now(), SEARCH_FIRST);
    loop {
        // One more than asked for tells whether there is a next page.
        let step = (limit + 1 - jobs.len()).min(PAGE_STEP);
        let search = state.platform.store().search(filter, after, i64::try_from(step).unwrap_or(1), scan);
        let Searched { found, reached } = state.read(search).await?;
        let is_sparse = found.len() < step;
        for job in found {
            let weight =
                job.payload.text().len() + job.result.as_ref().map_or(0, |result| result.text().len());
            if jobs.len() == limit || (bytes + weight > PAGE_BYTES_MAX && !jobs.is_empty()) {
                let next = jobs.last().map(|last| JobCursor(last.id));
                return Ok(Page { jobs, next, is_cut: false });
            }
            bytes += weight;
            jobs.push(job);
        }
        if reached.is_none() || jobs.len() == limit {
            return Ok(Page { jobs, next: reached, is_cut: false });
        }
        after = reached;
        if is_sparse {
            if began.elapsed() >= SEARCH_TIME {
                return Ok(Page { jobs, next: reached, is_cut: true });
            }
            scan = (scan * SEARCH_GROWTH).min(SEARCH_STEP_MAX);
        }
    }
}
