//! Lists of jobs.

use uuid::Uuid;

use super::{
    super::{PostgresStore, error::store_error, rows::Columns},
    Snapshot, done, parts, snapshot,
};
use crate::{
    domain::{JobId, JobState, JobView, Timestamp},
    store::{
        StoreError,
        read::{FinishedFilter, FinishedRow, JobCursor, JobFilter},
    },
};

/// Ids of jobs that match, newest first, from what `$from` names. The state is the one shown.
macro_rules! list {
    ($from:literal) => {
        concat!(
            "select j.id from ",
            $from,
            " left join lease e on e.job_id = j.id
where ($1::uuid is null or j.id < $1)
  and ($2::smallint[] is null or case
        when e.job_id is not null then 5
        when l.id is null then o.state
        when l.state in (1, 2, 4) and l.gate is null and l.run_at <= now() then 0
        else l.state end = any($2))
  and ($3::text is null or coalesce(l.queue, o.queue) = $3)
  and ($4::text is null or coalesce(e.worker, l.last_worker, o.worker) = $4)
  and ($5::text is null or j.tenant = $5)
  and ($6::uuid is null or j.workflow_id = $6)
  and ($7::text is null or j.kind = $7)
  and ($8::text is null or exists (
        select from json_array_elements_text(j.options::json -> 'tags') as t (tag) where t.tag = $8))
  and ($9::timestamptz is null or j.created_at >= $9)
  and ($10::timestamptz is null or j.created_at < $10)
  and ($11::text is null or strpos(lower(j.kind), $11) > 0 or strpos(j.id::text, $11) > 0
       or strpos(lower(coalesce(l.last_error, o.error_message)), $11) > 0)
order by j.id desc
limit $12"
        )
    };
}

const ALL: &str = list!("job j left join job_live l on l.id = j.id left join outcome o on o.job_id = j.id");

/// Only what has not finished: far fewer rows than there are jobs.
const LIVE: &str = list!("job_live l join job j on j.id = l.id left join outcome o on o.job_id = j.id");

/// Only what has ended otherwise than completed, which has an index of its own.
const UNHAPPY: &str =
    list!("outcome o join job j on j.id = o.job_id and o.state <> 6 left join job_live l on l.id = j.id");

/// Only a workflow's.
const WORKFLOW: &str =
    list!("job j left join job_live l on l.id = j.id left join outcome o on o.job_id = j.id");

const FINISHED: &str =
    "select o.job_id, o.kind, o.queue, o.tenant, o.state, o.attempt, j.created_at, o.started_at,
       o.finished_at, o.error_message
from outcome o
join job j on j.id = o.job_id
where ($1::uuid is null or o.job_id > $1)
  and ($2::text is null or o.tenant = $2)
  and ($3::text is null or o.queue = $3)
  and ($4::text is null or o.kind = $4)
  and ($5::smallint is null or o.state = $5)
  and ($6::timestamptz is null or o.finished_at >= $6)
  and ($7::timestamptz is null or o.finished_at < $7)
order by o.job_id
limit $8";

pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("list all", ALL),
    ("list live", LIVE),
    ("list unhappy", UNHAPPY),
    ("list workflow", WORKFLOW),
    ("list finished", FINISHED),
];

/// The statement whose table holds the fewest rows beside the ones asked for.
fn statement(filter: &JobFilter) -> &'static str {
    let states = &filter.states;
    if filter.workflow.is_some() {
        WORKFLOW
    } else if states.is_empty() {
        ALL
    } else if states.iter().all(|state| matches!(state, JobState::Failed | JobState::Canceled)) {
        UNHAPPY
    } else if states.iter().any(|state| state.is_terminal()) {
        ALL
    } else {
        LIVE
    }
}

/// Jobs, newest first, behind `cursor`.
pub(in super::super) async fn jobs(
    store: &PostgresStore,
    filter: &JobFilter,
    cursor: Option<JobCursor>,
    limit: i64,
) -> Result<Vec<JobView>, StoreError> {
    let mut snapshot = snapshot(store).await?;
    let ids = ids(&mut snapshot, filter, cursor, limit).await?;
    let mut found = parts::load(&mut snapshot, &ids).await?;
    done(snapshot).await?;
    found.reverse();
    Ok(found.into_iter().map(|(now, parts)| parts.view(now)).collect())
}

/// The ids of jobs, newest first, behind `cursor`.
pub(in super::super) async fn matching(
    store: &PostgresStore,
    filter: &JobFilter,
    cursor: Option<JobCursor>,
    limit: i64,
) -> Result<Vec<JobId>, StoreError> {
    let mut snapshot = snapshot(store).await?;
    let ids = ids(&mut snapshot, filter, cursor, limit).await?;
    done(snapshot).await?;
    Ok(ids.into_iter().map(JobId).collect())
}

async fn ids(
    snapshot: &mut Snapshot,
    filter: &JobFilter,
    cursor: Option<JobCursor>,
    limit: i64,
) -> Result<Vec<Uuid>, StoreError> {
    let states: Vec<i16> = filter.states.iter().map(|state| state.code()).collect();
    sqlx::query_scalar(statement(filter))
        .bind(cursor.map(|cursor| cursor.0.0))
        .bind((!states.is_empty()).then_some(states))
        .bind(filter.queue.as_deref())
        .bind(filter.worker.as_deref())
        .bind(filter.tenant.as_deref())
        .bind(filter.workflow)
        .bind(filter.kind.as_deref())
        .bind(filter.tag.as_deref())
        .bind(filter.created_after.map(Timestamp::to_datetime))
        .bind(filter.created_before.map(Timestamp::to_datetime))
        .bind(filter.text.as_ref().map(|text| text.to_lowercase()))
        .bind(limit)
        .fetch_all(snapshot)
        .await
        .map_err(store_error)
}

/// Finished jobs in the order they were made.
pub(in super::super) async fn finished(
    store: &PostgresStore,
    filter: &FinishedFilter,
    after: Option<JobId>,
    limit: i64,
) -> Result<Vec<FinishedRow>, StoreError> {
    let rows = sqlx::query(FINISHED)
        .bind(after.map(|after| after.0))
        .bind(filter.tenant.as_deref())
        .bind(filter.queue.as_deref())
        .bind(filter.kind.as_deref())
        .bind(filter.state.map(JobState::code))
        .bind(filter.since.map(Timestamp::to_datetime))
        .bind(filter.until.map(Timestamp::to_datetime))
        .bind(limit)
        .fetch_all(&store.readers)
        .await
        .map_err(store_error)?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            Ok(FinishedRow {
                job: columns.job()?,
                kind: columns.next()?,
                queue: columns.next()?,
                tenant: columns.next()?,
                state: columns.state()?,
                attempts: columns.next()?,
                created_at: columns.time()?,
                started_at: columns.time_or_none()?,
                finished_at: columns.time()?,
                last_error: columns.next()?,
            })
        })
        .collect()
}
