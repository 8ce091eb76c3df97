//! Dead letters and their groups.

use axum::{Json, extract::State, http::HeaderMap};
use serde::Serialize;

use super::{
    cursor,
    select::{FILTERS, of_query},
};
use crate::{
    domain::{AttemptRow, JobView},
    http::{
        access::Principal,
        extract::Params,
        jobs::{cursor::next_page, view},
        limits::{LETTERS_STEP, PAGE_BYTES_MAX, PAGE_DEFAULT, PAGE_MAX},
        problem::ApiError,
        state::HttpState,
    },
    store::{
        dead_letters::{GroupCursor, LetterCursor, LetterFilter, LetterGroup, LetterRow},
        read::DeadLetter,
    },
};

/// A dead letter with its job.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DeadLetterView {
    /// The letter.
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// The job.
    pub job: JobView,
    /// Its newest ten attempts, oldest first.
    pub attempts: Vec<AttemptRow>,
}

/// Lists dead letters
///
/// Newest first; pages stay as they are while dead letters are added. A page may be shorter than `limit` when
/// its payloads and stack traces are large: follow `Link` until there is none.
#[utoipa::path(
    get,
    path = "/api/v1/dlq",
    tag = "dead letters",
    operation_id = "listDeadLetters",
    params(
        ("queue" = Option<String>, Query, description = "The queue"),
        ("errorType" = Option<String>, Query, description = "The error's type"),
        ("type" = Option<String>, Query, description = "The job's type"),
        ("tenantId" = Option<String>, Query, description = "The tenant"),
        ("fingerprint" = Option<String>, Query, description = "The group"),
        ("failedAfter" = Option<String>, Query, format = DateTime, description = "Failed at or after"),
        ("failedBefore" = Option<String>, Query, format = DateTime, description = "Failed before"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 1000, description = "The most dead letters of the page; 100"),
        ("cursor" = Option<String>, Query, description = "Where the page begins, from `Link`"),
    ),
    responses((status = 200, description = "The page", body = Vec<DeadLetterView>, headers(
        ("Link" = String, description = "The next page, as `<…>; rel=\"next\"`"),
    ))),
)]
pub async fn list(
    State(state): State<HttpState>,
    principal: Principal,
    params: Params,
) -> Result<(HeaderMap, Json<Vec<DeadLetterView>>), ApiError> {
    let filter = of_query(&params)?;
    let limit = params.number("limit", 1..=PAGE_MAX, PAGE_DEFAULT)?;
    let from = cursor::letter(&params)?.unwrap_or_else(LetterCursor::newest);
    let (rows, next) = page(&state, &filter, from, limit).await?;
    let mut headers = HeaderMap::new();
    if let Some(next) = next {
        headers.extend(next_page("/api/v1/dlq", &params, &FILTERS, &cursor::of_letter(next)));
    }
    let shown = |row: LetterRow| DeadLetterView {
        letter: row.letter,
        job: view::shown(principal, row.job),
        attempts: row.attempts,
    };
    Ok((headers, Json(rows.into_iter().map(shown).collect())))
}

/// Reads a page in steps, so that large payloads and stack traces end it before they fill the memory.
async fn page(
    state: &HttpState,
    filter: &LetterFilter,
    mut from: LetterCursor,
    limit: usize,
) -> Result<(Vec<LetterRow>, Option<LetterCursor>), ApiError> {
    let mut rows: Vec<LetterRow> = Vec::new();
    let mut bytes = 0;
    loop {
        // One more than asked for tells whether there is a next page.
        let step = (limit + 1 - rows.len()).min(LETTERS_STEP);
        let store = state.platform.store();
        let read = state.read(store.dead_letters(filter, from, i64::try_from(step).unwrap_or(1))).await?;
        let ended = read.len() < step;
        for row in read {
            let weight = weight(&row);
            if rows.len() == limit || (bytes + weight > PAGE_BYTES_MAX && !rows.is_empty()) {
                return Ok((rows, Some(from)));
            }
            bytes += weight;
            from = LetterCursor { failed_at: row.letter.failed_at, job: row.letter.job_id };
            rows.push(row);
        }
        if ended {
            return Ok((rows, None));
        }
    }
}

fn weight(row: &LetterRow) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let attempts = row.attempts.iter().map(|one| text(&one.error_message) + text(&one.stack_trace));
    row.job.payload.text().len()
        + row.letter.error_message.len()
        + text(&row.letter.stack_trace)
        + attempts.sum::<usize>()
}

/// Lists dead letters by cause
///
/// Those with the same error type and, but for numbers, ids and addresses, the same text are one group; the one
/// that was seen last comes first. What fails while pages are turned is not counted in them.
#[utoipa::path(
    get,
    path = "/api/v1/dlq/groups",
    tag = "dead letters",
    operation_id = "listDeadLetterGroups",
    params(
        ("queue" = Option<String>, Query, description = "The queue"),
        ("errorType" = Option<String>, Query, description = "The error's type"),
        ("type" = Option<String>, Query, description = "The job's type"),
        ("tenantId" = Option<String>, Query, description = "The tenant"),
        ("fingerprint" = Option<String>, Query, description = "The group"),
        ("failedAfter" = Option<String>, Query, format = DateTime, description = "Failed at or after"),
        ("failedBefore" = Option<String>, Query, format = DateTime, description = "Failed before"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 1000, description = "The most groups of the page; 100"),
        ("cursor" = Option<String>, Query, description = "Where the page begins, from `Link`"),
    ),
    responses((status = 200, description = "The page", body = Vec<LetterGroup>, headers(
        ("Link" = String, description = "The next page, as `<…>; rel=\"next\"`"),
    ))),
)]
pub async fn groups(
    State(state): State<HttpState>,
    params: Params,
) -> Result<(HeaderMap, Json<Vec<LetterGroup>>), ApiError> {
    let filter = of_query(&params)?;
    let limit = params.number("limit", 1..=PAGE_MAX, PAGE_DEFAULT)?;
    let store = state.platform.store();
    let cursor = match cursor::group(&params)? {
        Some(cursor) => cursor,
        None => GroupCursor { as_of: state.read(store.now()).await?, after: None },
    };
    // One more than asked for tells whether there is a next page.
    let wanted = i64::try_from(limit + 1).unwrap_or(i64::MAX);
    let mut groups = state.read(store.dead_letter_groups(&filter, &cursor, wanted)).await?;
    let more = groups.len() > limit;
    groups.truncate(limit);
    let mut headers = HeaderMap::new();
    if let Some(last) = groups.last().filter(|_| more) {
        let next = cursor::of_group(cursor.as_of, last.last_seen, &last.fingerprint);
        headers.extend(next_page("/api/v1/dlq/groups", &params, &FILTERS, &next));
    }
    Ok((headers, Json(groups)))
}
