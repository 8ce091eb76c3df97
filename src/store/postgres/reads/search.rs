//! Lists of jobs, in bounded steps.
//!
//! A step finds its end first: the row that lies `scan` rows behind the cursor. What matches is then looked for between
//! the two alone, whatever plan is made for it.

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    super::{PostgresStore, bounded, error::store_error},
    Snapshot, done, parts, snapshot,
};
use crate::{
    domain::{JobId, JobView, Timestamp},
    store::{
        StoreError,
        read::{JobCursor, JobFilter},
        search::{Base, JobSearch, Searched, Span, searched},
    },
};

/// The last row that a step looks at, and the one behind it: where there are not both, the step reaches the end.
macro_rules! bound {
    ($from:literal, $id:literal) => {
        concat!(
            "select ",
            $id,
            " from ",
            $from,
            " and ",
            $id,
            " < $1 and ",
            $id,
            " >= $2
order by ",
            $id,
            " desc
offset $3 limit 2"
        )
    };
}

const BOUND_ALL: &str = bound!("job where true", "id");
const BOUND_LIVE: &str = bound!("job_live where true", "id");
const BOUND_LEASED: &str = bound!("lease where true", "job_id");
const BOUND_ENDED: &str = bound!("outcome where true", "job_id");
const BOUND_FAILED: &str = bound!("outcome where state = 7", "job_id");
const BOUND_CANCELED: &str = bound!("outcome where state = 8", "job_id");
const BOUND_WORKFLOW: &str = bound!("job where workflow_id = $4", "id");
const BOUND_UNHAPPY: &str = "select u.job_id from (
    (select job_id from outcome where state = 7 and job_id < $1 and job_id >= $2
     order by job_id desc limit $3 + 2)
    union all
    (select job_id from outcome where state = 8 and job_id < $1 and job_id >= $2
     order by job_id desc limit $3 + 2)
) u
order by u.job_id desc
offset $3 limit 2";

/// Ids of jobs that match, newest first, of the rows `$from` whose `$id` lies in the step. The state is the one shown.
macro_rules! list {
    ($from:literal, $id:literal, $workflow:literal) => {
        concat!(
            "select j.id from ",
            $from,
            "
where ",
            $id,
            " < $1 and ",
            $id,
            " >= $13
  and ($2::smallint[] is null or case
        when e.job_id is not null then 5
        when l.id is null then o.state
        when l.state in (1, 2, 4) and l.gate is null and l.run_at <= now() then 0
        else l.state end = any($2))
  and ($3::text is null or coalesce(l.queue, o.queue) = $3)
  and ($4::text is null or coalesce(e.worker, l.last_worker, o.worker) = $4)
  and ($5::text is null or j.tenant = $5)
  and ",
            $workflow,
            "
  and ($7::text is null or j.kind = $7)
  and ($8::text is null or exists (
        select from json_array_elements_text(j.options::json -> 'tags') as t (tag) where t.tag = $8))
  and ($9::timestamptz is null or j.created_at >= $9)
  and ($10::timestamptz is null or j.created_at < $10)
  and ($11::text is null or strpos(lower(j.kind), $11) > 0 or strpos(j.id::text, $11) > 0
       or strpos(lower(coalesce(l.last_error, o.error_message)), $11) > 0)
order by ",
            $id,
            " desc
limit $12"
        )
    };
}

const ALL: &str = list!(
    "job j left join job_live l on l.id = j.id left join outcome o on o.job_id = j.id
left join lease e on e.job_id = j.id",
    "j.id",
    "$6::uuid is null"
);
const LIVE: &str = list!(
    "job_live l join job j on j.id = l.id left join outcome o on o.job_id = l.id
left join lease e on e.job_id = l.id",
    "l.id",
    "$6::uuid is null"
);
const LEASED: &str = list!(
    "lease e join job_live l on l.id = e.job_id join job j on j.id = e.job_id
left join outcome o on o.job_id = e.job_id",
    "e.job_id",
    "$6::uuid is null"
);
const ENDED: &str = list!(
    "outcome o join job j on j.id = o.job_id left join job_live l on l.id = o.job_id
left join lease e on e.job_id = o.job_id",
    "o.job_id",
    "$6::uuid is null"
);
const FAILED: &str = list!(
    "outcome o join job j on j.id = o.job_id and o.state = 7 left join job_live l on l.id = o.job_id
left join lease e on e.job_id = o.job_id",
    "o.job_id",
    "$6::uuid is null"
);
const CANCELED: &str = list!(
    "outcome o join job j on j.id = o.job_id and o.state = 8 left join job_live l on l.id = o.job_id
left join lease e on e.job_id = o.job_id",
    "o.job_id",
    "$6::uuid is null"
);
const UNHAPPY: &str = list!(
    "(select job_id, queue, worker, state, error_message from outcome where state = 7
      union all
      select job_id, queue, worker, state, error_message from outcome where state = 8) o
join job j on j.id = o.job_id left join job_live l on l.id = o.job_id left join lease e on e.job_id = o.job_id",
    "o.job_id",
    "$6::uuid is null"
);
const WORKFLOW: &str = list!(
    "job j left join job_live l on l.id = j.id left join outcome o on o.job_id = j.id
left join lease e on e.job_id = j.id",
    "j.id",
    "j.workflow_id = $6"
);

pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("search bound all", BOUND_ALL),
    ("search bound live", BOUND_LIVE),
    ("search bound leased", BOUND_LEASED),
    ("search bound ended", BOUND_ENDED),
    ("search bound failed", BOUND_FAILED),
    ("search bound canceled", BOUND_CANCELED),
    ("search bound unhappy", BOUND_UNHAPPY),
    ("search bound workflow", BOUND_WORKFLOW),
    ("search all", ALL),
    ("search live", LIVE),
    ("search leased", LEASED),
    ("search ended", ENDED),
    ("search failed", FAILED),
    ("search canceled", CANCELED),
    ("search unhappy", UNHAPPY),
    ("search workflow", WORKFLOW),
];

/// What finds a step's end, and what looks at its rows.
fn statements(base: Base) -> (&'static str, &'static str) {
    match base {
        Base::All => (BOUND_ALL, ALL),
        Base::Live => (BOUND_LIVE, LIVE),
        Base::Leased => (BOUND_LEASED, LEASED),
        Base::Ended => (BOUND_ENDED, ENDED),
        Base::Failed => (BOUND_FAILED, FAILED),
        Base::Canceled => (BOUND_CANCELED, CANCELED),
        Base::Unhappy => (BOUND_UNHAPPY, UNHAPPY),
        Base::Workflow => (BOUND_WORKFLOW, WORKFLOW),
    }
}

#[async_trait]
impl JobSearch for PostgresStore {
    async fn search(
        &self,
        filter: &JobFilter,
        cursor: Option<JobCursor>,
        limit: i64,
        scan: i64,
    ) -> Result<Searched<JobView>, StoreError> {
        bounded(async {
            let mut snapshot = snapshot(self).await?;
            let ids = step(&mut snapshot, filter, cursor, limit, scan).await?;
            let found: Vec<Uuid> = ids.found.iter().map(|job| job.0).collect();
            let mut found = parts::load(&mut snapshot, &found).await?;
            done(snapshot).await?;
            found.reverse();
            let found = found.into_iter().map(|(now, parts)| parts.view(now)).collect();
            Ok(Searched { found, reached: ids.reached })
        })
        .await
    }

    async fn search_ids(
        &self,
        filter: &JobFilter,
        cursor: Option<JobCursor>,
        limit: i64,
        scan: i64,
    ) -> Result<Searched<JobId>, StoreError> {
        bounded(async {
            let mut snapshot = snapshot(self).await?;
            let ids = step(&mut snapshot, filter, cursor, limit, scan).await?;
            done(snapshot).await?;
            Ok(ids)
        })
        .await
    }
}

async fn step(
    snapshot: &mut Snapshot,
    filter: &JobFilter,
    cursor: Option<JobCursor>,
    limit: i64,
    scan: i64,
) -> Result<Searched<JobId>, StoreError> {
    let base = Base::of(filter);
    let (bound, list) = statements(base);
    let span = Span::of(filter, cursor);
    let mut ends = sqlx::query_scalar(bound).bind(span.below).bind(span.from).bind((scan - 1).max(0));
    if base == Base::Workflow {
        ends = ends.bind(filter.workflow);
    }
    let ends: Vec<Uuid> = ends.fetch_all(&mut *snapshot).await.map_err(store_error)?;
    let bound = (ends.len() > 1).then(|| ends[0]);
    let states: Vec<i16> = filter.states.iter().map(|state| state.code()).collect();
    let found: Vec<Uuid> = sqlx::query_scalar(list)
        .bind(span.below)
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
        .bind(bound.unwrap_or(span.from))
        .fetch_all(snapshot)
        .await
        .map_err(store_error)?;
    Ok(searched(found.into_iter().map(JobId).collect(), bound, limit))
}
