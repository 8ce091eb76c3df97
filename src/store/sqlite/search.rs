//! Lists of jobs, in bounded steps.
//!
//! A step finds its end first: the row that lies `scan` rows behind the cursor. What matches is then looked for between
//! the two alone.

use async_trait::async_trait;
use sqlx::SqliteConnection;
use uuid::Uuid;

use super::{
    SqliteStore,
    error::store_error,
    parts,
    readers::snapshot,
    rows::{Cols, ids},
    writer::now,
};
use crate::{
    domain::{JobId, JobView, Timestamp},
    store::{
        StoreError,
        read::{JobCursor, JobFilter},
        search::{Base, JobSearch, Searched, Span, searched},
    },
};

macro_rules! state_shown {
    ($now:literal) => {
        concat!(
            "case when lease.job_id is not null then 5
                  when l.id is null then o.state
                  when l.state in (1, 2, 4) and l.gate is null and l.run_at <= ",
            $now,
            " then 0
                  else l.state end"
        )
    };
}
pub(super) use state_shown;

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
            " < ?1 and ",
            $id,
            " >= ?2
            order by ",
            $id,
            " desc limit 2 offset ?3"
        )
    };
}

const BOUND_ALL: &str = bound!("job where true", "id");
const BOUND_LIVE: &str = bound!("job_live where true", "id");
const BOUND_LEASED: &str = bound!("lease where true", "job_id");
const BOUND_ENDED: &str = bound!("outcome where true", "job_id");
const BOUND_FAILED: &str =
    bound!("outcome indexed by outcome_unhappy where state <> 6 and state = 7", "job_id");
const BOUND_CANCELED: &str =
    bound!("outcome indexed by outcome_unhappy where state <> 6 and state = 8", "job_id");
const BOUND_WORKFLOW: &str = bound!("job indexed by job_workflow where workflow_id = ?4", "id");
const BOUND_UNHAPPY: &str = "
    select job_id from (
        select * from (select job_id from outcome indexed by outcome_unhappy
                       where state <> 6 and state = 7 and job_id < ?1 and job_id >= ?2
                       order by job_id desc limit ?3 + 2)
        union all
        select * from (select job_id from outcome indexed by outcome_unhappy
                       where state <> 6 and state = 8 and job_id < ?1 and job_id >= ?2
                       order by job_id desc limit ?3 + 2)
    ) order by job_id desc limit 2 offset ?3";

/// Ids of jobs that match, newest first, of the rows `$from` whose `$id` lies in the step.
macro_rules! list {
    ($from:literal, $id:literal, $workflow:literal) => {
        concat!(
            "select job.id from ",
            $from,
            " where ", $id, " < ?1 and ", $id, " >= ?14
              and (?2 is null or (",
            state_shown!("?12"),
            ") in (select value from jsonb_each(?2)))
              and (?3 is null or coalesce(l.queue, o.queue) = ?3)
              and (?4 is null or coalesce(lease.worker, l.last_worker, o.worker) = ?4)
              and (?5 is null or job.tenant = ?5)
              and ", $workflow, "
              and (?7 is null or job.kind = ?7)
              and (?8 is null or exists (select 1 from json_each(job.options, '$.tags') t where t.value = ?8))
              and (?9 is null or job.created_at >= ?9)
              and (?10 is null or job.created_at < ?10)
              and (?11 is null
                   or instr(lower(job.kind), ?11) > 0
                   or instr(lower(coalesce(l.last_error, o.error_message)), ?11) > 0
                   or instr(lower(substr(hex(job.id), 1, 8) || '-' || substr(hex(job.id), 9, 4) || '-'
                            || substr(hex(job.id), 13, 4) || '-' || substr(hex(job.id), 17, 4) || '-'
                            || substr(hex(job.id), 21)), ?11) > 0)
            order by ", $id, " desc limit ?13"
        )
    };
}

const ALL: &str = list!(
    "job left join job_live l on l.id = job.id
         left join outcome o on o.job_id = job.id
         left join lease on lease.job_id = job.id",
    "job.id",
    "?6 is null"
);
const LIVE: &str = list!(
    "job_live l cross join job on job.id = l.id
         left join outcome o on o.job_id = l.id
         left join lease on lease.job_id = l.id",
    "l.id",
    "?6 is null"
);
const LEASED: &str = list!(
    "lease cross join job_live l on l.id = lease.job_id cross join job on job.id = lease.job_id
         left join outcome o on o.job_id = lease.job_id",
    "lease.job_id",
    "?6 is null"
);
const ENDED: &str = list!(
    "outcome o cross join job on job.id = o.job_id
         left join job_live l on l.id = o.job_id
         left join lease on lease.job_id = o.job_id",
    "o.job_id",
    "?6 is null"
);
/// Of those that did not complete, those in the states asked for.
const UNHAPPY: &str = list!(
    "outcome o indexed by outcome_unhappy cross join job on job.id = o.job_id and o.state <> 6 and o.state in (7, 8)
         left join job_live l on l.id = o.job_id
         left join lease on lease.job_id = o.job_id",
    "o.job_id",
    "?6 is null"
);
const FAILED: &str = list!(
    "outcome o indexed by outcome_unhappy cross join job on job.id = o.job_id and o.state <> 6 and o.state = 7
         left join job_live l on l.id = o.job_id
         left join lease on lease.job_id = o.job_id",
    "o.job_id",
    "?6 is null"
);
const CANCELED: &str = list!(
    "outcome o indexed by outcome_unhappy cross join job on job.id = o.job_id and o.state <> 6 and o.state = 8
         left join job_live l on l.id = o.job_id
         left join lease on lease.job_id = o.job_id",
    "o.job_id",
    "?6 is null"
);
const WORKFLOW: &str = list!(
    "job indexed by job_workflow left join job_live l on l.id = job.id
         left join outcome o on o.job_id = job.id
         left join lease on lease.job_id = job.id",
    "job.id",
    "job.workflow_id = ?6"
);

#[cfg(test)]
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
impl JobSearch for SqliteStore {
    async fn search(
        &self,
        filter: &JobFilter,
        cursor: Option<JobCursor>,
        limit: i64,
        scan: i64,
    ) -> Result<Searched<JobView>, StoreError> {
        let now = now();
        let mut tx = snapshot(&self.readers).await?;
        let Searched { found, reached } = step(&mut tx, filter, cursor, (limit, scan), now).await?;
        let stored = parts::load(&mut tx, ids(found)).await?;
        let found = stored.iter().map(|stored| stored.parts.view(now)).collect();
        Ok(Searched { found, reached })
    }

    async fn search_ids(
        &self,
        filter: &JobFilter,
        cursor: Option<JobCursor>,
        limit: i64,
        scan: i64,
    ) -> Result<Searched<JobId>, StoreError> {
        let mut tx = snapshot(&self.readers).await?;
        step(&mut tx, filter, cursor, (limit, scan), now()).await
    }
}

async fn step(
    conn: &mut SqliteConnection,
    filter: &JobFilter,
    cursor: Option<JobCursor>,
    (limit, scan): (i64, i64),
    now: Timestamp,
) -> Result<Searched<JobId>, StoreError> {
    let base = Base::of(filter);
    let (bound, list) = statements(base);
    let span = Span::of(filter, cursor);
    let mut ends = sqlx::query_scalar(bound).bind(span.below).bind(span.from).bind((scan - 1).max(0));
    if base == Base::Workflow {
        ends = ends.bind(filter.workflow);
    }
    let ends: Vec<Uuid> = ends.fetch_all(&mut *conn).await.map_err(store_error)?;
    let bound = (ends.len() > 1).then(|| ends[0]);
    let states: Vec<i16> = filter.states.iter().map(|state| state.code()).collect();
    let states = (!states.is_empty()).then(|| serde_json::to_string(&states).unwrap_or_default());
    let rows = sqlx::query(list)
        .bind(span.below)
        .bind(states)
        .bind(filter.queue.as_deref())
        .bind(filter.worker.as_deref())
        .bind(filter.tenant.as_deref())
        .bind(filter.workflow)
        .bind(filter.kind.as_deref())
        .bind(filter.tag.as_deref())
        .bind(filter.created_after.map(|at| at.0))
        .bind(filter.created_before.map(|at| at.0))
        .bind(filter.text.as_ref().map(|text| text.to_ascii_lowercase()))
        .bind(now.0)
        .bind(limit)
        .bind(bound.unwrap_or(span.from))
        .fetch_all(conn)
        .await
        .map_err(store_error)?;
    let found = rows.iter().map(|row| Cols::of(row).job()).collect::<Result<_, _>>()?;
    Ok(searched(found, bound, limit))
}
