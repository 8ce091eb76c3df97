//! Jobs made.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    super::{
        error::store_error,
        rows::{Columns, times},
    },
    admit as admission,
    batch::{Batch, Placed, Results},
    keys::{self, Keys, Said},
    unique::Uniques,
};
use crate::{
    domain::{JobId, JobState, NewJob, OnConflict, ShardId, Timestamp},
    store::{
        StoreError,
        ops::{LiveEntry, OpResult, SubmitOp, SubmitRefusal, Submitted},
        queues::{Admission, admit},
    },
};

/// Parents as they are now, behind their locks.
const PARENTS: &str = "select j.id, j.tenant, o.state
from job j
left join outcome o on o.job_id = any(array[j.id])
where j.id = any($1)";

const JOBS: &str = "insert into job (id, created_at, run_at, max_attempts, timeout_seconds, schema_version, priority,
       birth_state, dependency_policy, kind, queue, tenant, payload, idempotency_key, workflow_id, options)
select u.id, $1, u.run_at, u.max_attempts, u.timeout_seconds, u.schema_version, u.priority, u.birth_state,
       u.dependency_policy, u.kind, u.queue, u.tenant, u.payload::json, u.idempotency_key, u.workflow_id, u.options
from unnest($2::uuid[], $3::timestamptz[], $4::integer[], $5::integer[], $6::integer[], $7::smallint[],
            $8::smallint[], $9::smallint[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
            $15::uuid[], $16::text[])
  as u (id, run_at, max_attempts, timeout_seconds, schema_version, priority, birth_state, dependency_policy, kind,
        queue, tenant, payload, idempotency_key, workflow_id, options)
on conflict (id) do nothing
returning id";

const LIVE: &str =
    "insert into job_live (id, run_at, updated_at, blocked_on, shard, priority, state, queue, kind, tenant,
       fair_key, blocked_reason, expires_at)
select u.id, u.run_at, $1, u.blocked_on, u.shard, u.priority, u.state, u.queue, u.kind, u.tenant, u.fair_key,
       u.blocked_reason, u.expires_at
from unnest($2::uuid[], $3::timestamptz[], $4::integer[], $5::smallint[], $6::smallint[], $7::smallint[],
            $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::timestamptz[])
  as u (id, run_at, blocked_on, shard, priority, state, queue, kind, tenant, fair_key, blocked_reason,
        expires_at)";

const EDGES: &str = "insert into dependency (parent, child, child_shard, policy, met)
select * from unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::smallint[], $5::boolean[])
on conflict (parent, child) do nothing";

/// Jobs that were made before, by a submission whose answer the caller did not see.
const STORED: &str =
    "select j.id, j.created_at, coalesce(l.queue, j.queue), coalesce(l.state, j.birth_state),
       coalesce(l.priority, j.priority), coalesce(l.run_at, j.run_at), j.kind, l.blocked_reason
from job j
left join job_live l on l.id = any(array[j.id])
where j.id = any($1)";

pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("submit parents", PARENTS),
    ("submit jobs", JOBS),
    ("submit live", LIVE),
    ("submit edges", EDGES),
    ("submit stored", STORED),
];

/// A job that is about to be written.
struct Birth<'a> {
    job: &'a NewJob,
    shard: ShardId,
    /// Whether its owner learns of it through the inbox.
    born: bool,
    state: JobState,
    run_at: Timestamp,
    /// Its parents, with whether each is met.
    edges: Vec<(JobId, bool)>,
    blocked_reason: Option<String>,
}

impl Birth<'_> {
    fn blocked_on(&self) -> i32 {
        i32::try_from(self.edges.iter().filter(|(_, met)| !met).count()).unwrap_or(i32::MAX)
    }

    fn answer(&self, now: Timestamp) -> Submitted {
        Submitted::Made {
            entry: LiveEntry {
                job: self.job.id,
                queue: self.job.queue.clone(),
                kind: self.job.kind.clone(),
                state: self.state,
                priority: self.job.priority,
                run_at: self.run_at,
            },
            created_at: now,
            blocked_reason: self.blocked_reason.clone(),
        }
    }
}

/// The parents that a batch's jobs name, but for those it makes itself.
pub(super) fn parents(ops: &Placed<'_, SubmitOp>) -> BTreeSet<Uuid> {
    if ops.iter().all(|(_, op)| op.jobs.iter().all(|job| job.dependencies.is_empty())) {
        return BTreeSet::new();
    }
    let own: HashSet<JobId> = ops.iter().flat_map(|(_, op)| &op.jobs).map(|job| job.id).collect();
    ops.iter()
        .flat_map(|(_, op)| &op.jobs)
        .flat_map(|job| &job.dependencies)
        .filter(|parent| !own.contains(parent))
        .map(|parent| parent.0)
        .collect()
}

pub(super) async fn run<'a>(
    batch: &mut Batch<'_>,
    ops: &Placed<'a, SubmitOp>,
    mut keys: Keys<'a>,
    mut uniques: Uniques<'a>,
    results: &mut Results,
) -> Result<(), StoreError> {
    if ops.is_empty() {
        return Ok(());
    }
    keys.take(batch).await?;
    let queues = admission::read(batch, ops).await?;
    uniques.take(batch).await?;
    let parents = read_parents(batch, parents(ops)).await?;
    let mut family = Family { parents, queues, now: batch.now };
    let mut births: Vec<Birth<'a>> = Vec::new();
    let mut decided: Vec<(usize, Vec<Decided>)> = Vec::new();
    let mut repeats = Vec::new();
    for (place, op) in ops {
        match decide(op, &mut keys, &mut uniques, &mut family) {
            Ok((own, answers)) => {
                repeats.extend(answers.iter().filter_map(|answer| match answer {
                    Decided::Repeats(job) => Some(*job),
                    Decided::Made(_) => None,
                }));
                births.extend(own);
                decided.push((*place, answers));
            }
            Err(refusal) => {
                keys.refuse(op);
                uniques.refuse(op);
                results.set(*place, OpResult::SubmitRefused(refusal));
            }
        }
    }
    keys.settle(batch).await?;
    uniques.settle(batch).await?;
    births.sort_unstable_by_key(|birth| birth.job.id);
    births.dedup_by_key(|birth| birth.job.id);
    let mut answers = write(batch, births).await?;
    for (place, jobs) in decided {
        let submitted = jobs
            .into_iter()
            .map(|one| match one {
                Decided::Repeats(first) => Some(Submitted::Duplicate(first)),
                Decided::Made(job) => answers.remove(&job),
            })
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| StoreError::Refused("a job is in a batch twice".into()))?;
        results.set(place, OpResult::Submitted(submitted));
    }
    keys::record_repeats(batch, &repeats).await
}

enum Decided {
    Made(JobId),
    Repeats(JobId),
}

/// A parent: whose it is and how it ended, if it has.
type Parent = (String, Option<JobState>);

/// The parents that exist, those of the batch included, and what the queues of births admit.
struct Family {
    parents: HashMap<JobId, Parent>,
    queues: BTreeMap<String, Admission>,
    now: Timestamp,
}

/// What becomes of one operation's jobs, all or none.
fn decide<'a>(
    op: &'a SubmitOp,
    keys: &mut Keys<'a>,
    uniques: &mut Uniques<'a>,
    family: &mut Family,
) -> Result<(Vec<Birth<'a>>, Vec<Decided>), SubmitRefusal> {
    let mut births = Vec::with_capacity(op.jobs.len());
    let mut answers = Vec::with_capacity(op.jobs.len());
    // A job of the operation that repeats an earlier one: what depends on it depends on that one.
    let mut stands_for: HashMap<JobId, JobId> = HashMap::new();
    let mut made = Vec::new();
    let mut fault = None;
    for (index, job) in op.jobs.iter().enumerate() {
        let said = keys.ask(job);
        let taken_by = if matches!(said, Said::New) { uniques.ask(job) } else { None };
        if let Some(first) = taken_by {
            keys.give_up(job);
            if job.unique.as_ref().is_some_and(|unique| unique.on_conflict != OnConflict::Existing) {
                fault = Some(SubmitRefusal::NotUnique { index, job: first });
            }
        }
        match taken_by.map_or(said, Said::Repeats) {
            _ if fault.is_some() => {}
            Said::Mismatch(first) => fault = Some(SubmitRefusal::KeyMismatch { index, job: first }),
            Said::Repeats(first) => {
                stands_for.insert(job.id, first);
                answers.push(Decided::Repeats(first));
            }
            Said::New => match birth(op, index, job, &stands_for, family) {
                Ok(birth) => {
                    births.push(birth);
                    answers.push(Decided::Made(job.id));
                    family.parents.insert(job.id, (job.tenant.clone(), None));
                    made.push(job.id);
                }
                Err(refusal) => fault = Some(refusal),
            },
        }
        if let Some(fault) = fault {
            for job in made {
                family.parents.remove(&job);
            }
            return Err(fault);
        }
    }
    // A job of the queue's owner was admitted by it.
    if op.owner.is_none() {
        let made_here: HashSet<JobId> = made.iter().copied().collect();
        let new = op.jobs.iter().enumerate().filter(|(_, job)| made_here.contains(&job.id));
        if let Err(refusal) = admit(&mut family.queues, new) {
            for job in made {
                family.parents.remove(&job);
            }
            return Err(refusal);
        }
    }
    Ok((births, answers))
}

fn birth<'a>(
    op: &SubmitOp,
    index: usize,
    job: &'a NewJob,
    stands_for: &HashMap<JobId, JobId>,
    family: &Family,
) -> Result<Birth<'a>, SubmitRefusal> {
    let mut edges = Vec::with_capacity(job.dependencies.len());
    let mut blocked_reason = None;
    for dependency in &job.dependencies {
        let id = stands_for.get(dependency).unwrap_or(dependency);
        let Some((_, outcome)) = family.parents.get(id).filter(|(tenant, _)| *tenant == job.tenant) else {
            return Err(SubmitRefusal::UnknownDependency { index, dependency: *dependency });
        };
        let met = job.dependency_policy.is_met_by(*outcome);
        if let Some(state) = outcome.filter(|_| !met) {
            blocked_reason.get_or_insert_with(|| blocked_by(*id, state));
        }
        edges.push((*id, met));
    }
    let now = family.now;
    let run_at = job.run_at.map_or(now, |at| at.max(now));
    let state = match edges.iter().all(|(_, met)| *met) {
        false => JobState::Blocked,
        true if run_at > now => JobState::Scheduled,
        true => JobState::Queued,
    };
    let shard = op.owner.map_or_else(|| ShardId::of_queue(&job.queue), |owner| owner.shard);
    Ok(Birth { job, shard, born: op.owner.is_none(), state, run_at, edges, blocked_reason })
}

/// Why a job stays blocked although its parent has ended.
pub(super) fn blocked_by(parent: JobId, state: JobState) -> String {
    match state {
        JobState::Canceled => format!("dependency {parent} was canceled"),
        _ => format!("dependency {parent} {state}"),
    }
}

async fn read_parents(
    batch: &mut Batch<'_>,
    ids: BTreeSet<Uuid>,
) -> Result<HashMap<JobId, Parent>, StoreError> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query(PARENTS)
        .bind(ids.into_iter().collect::<Vec<Uuid>>())
        .fetch_all(&mut *batch.connection)
        .await
        .map_err(store_error)?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            let (id, tenant) = (columns.job()?, columns.next()?);
            let state = if columns.is_null()? { None } else { Some(columns.state()?) };
            Ok((id, (tenant, state)))
        })
        .collect()
}

/// Writes the jobs that are not there yet; answers for all.
async fn write(
    batch: &mut Batch<'_>,
    births: Vec<Birth<'_>>,
) -> Result<HashMap<JobId, Submitted>, StoreError> {
    let mut answers = HashMap::with_capacity(births.len());
    if births.is_empty() {
        return Ok(answers);
    }
    let made = insert_jobs(batch, &births).await?;
    let (births, repeated): (Vec<_>, Vec<_>) = if made.len() == births.len() {
        (births, Vec::new())
    } else {
        let made: HashSet<Uuid> = made.into_iter().collect();
        births.into_iter().partition(|birth| made.contains(&birth.job.id.0))
    };
    if !births.is_empty() {
        insert_live(batch, &births).await?;
        insert_edges(batch, &births).await?;
    }
    for birth in &births {
        batch.effects.count(birth.shard, &birth.job.queue, birth.state, 1);
        if birth.born {
            batch.effects.born(birth.shard, birth.job.id);
        }
        answers.insert(birth.job.id, birth.answer(batch.now));
    }
    if !repeated.is_empty() {
        answers.extend(stored(batch, repeated.iter().map(|birth| birth.job.id.0).collect()).await?);
    }
    Ok(answers)
}

async fn insert_jobs(batch: &mut Batch<'_>, births: &[Birth<'_>]) -> Result<Vec<Uuid>, StoreError> {
    let jobs = || births.iter().map(|birth| birth.job);
    let policy = |job: &NewJob| (!job.dependencies.is_empty()).then(|| job.dependency_policy.code());
    sqlx::query_scalar(JOBS)
        .bind(batch.now.to_datetime())
        .bind(jobs().map(|job| job.id.0).collect::<Vec<Uuid>>())
        .bind(times(births.iter().map(|birth| birth.run_at)))
        .bind(jobs().map(|job| job.max_attempts).collect::<Vec<i32>>())
        .bind(jobs().map(|job| job.timeout_seconds).collect::<Vec<i32>>())
        .bind(jobs().map(|job| job.schema_version).collect::<Vec<i32>>())
        .bind(jobs().map(|job| job.priority).collect::<Vec<i16>>())
        .bind(births.iter().map(|birth| birth.state.code()).collect::<Vec<i16>>())
        .bind(jobs().map(policy).collect::<Vec<Option<i16>>>())
        .bind(jobs().map(|job| job.kind.as_str()).collect::<Vec<&str>>())
        .bind(jobs().map(|job| job.queue.as_str()).collect::<Vec<&str>>())
        .bind(jobs().map(|job| job.tenant.as_str()).collect::<Vec<&str>>())
        .bind(jobs().map(|job| job.payload.text()).collect::<Vec<&str>>())
        .bind(jobs().map(|job| job.idempotency.as_ref().map(|key| key.key.as_str())).collect::<Vec<_>>())
        .bind(jobs().map(|job| job.workflow_id.map(|workflow| workflow.0)).collect::<Vec<Option<Uuid>>>())
        .bind(jobs().map(|job| job.options.to_stored()).collect::<Vec<Option<String>>>())
        .fetch_all(&mut *batch.connection)
        .await
        .map_err(store_error)
}

async fn insert_live(batch: &mut Batch<'_>, births: &[Birth<'_>]) -> Result<(), StoreError> {
    let jobs = || births.iter().map(|birth| birth.job);
    sqlx::query(LIVE)
        .bind(batch.now.to_datetime())
        .bind(jobs().map(|job| job.id.0).collect::<Vec<Uuid>>())
        .bind(times(births.iter().map(|birth| birth.run_at)))
        .bind(births.iter().map(Birth::blocked_on).collect::<Vec<i32>>())
        .bind(births.iter().map(|birth| birth.shard.0).collect::<Vec<i16>>())
        .bind(jobs().map(|job| job.priority).collect::<Vec<i16>>())
        .bind(births.iter().map(|birth| birth.state.code()).collect::<Vec<i16>>())
        .bind(jobs().map(|job| job.queue.as_str()).collect::<Vec<&str>>())
        .bind(jobs().map(|job| job.kind.as_str()).collect::<Vec<&str>>())
        .bind(jobs().map(|job| job.tenant.as_str()).collect::<Vec<&str>>())
        .bind(jobs().map(|job| job.options.fairness_key.as_deref()).collect::<Vec<Option<&str>>>())
        .bind(births.iter().map(|birth| birth.blocked_reason.as_deref()).collect::<Vec<Option<&str>>>())
        .bind(jobs().map(|job| job.options.expires_at.map(Timestamp::to_datetime)).collect::<Vec<_>>())
        .execute(&mut *batch.connection)
        .await
        .map_err(store_error)?;
    Ok(())
}

async fn insert_edges(batch: &mut Batch<'_>, births: &[Birth<'_>]) -> Result<(), StoreError> {
    let mut edges: BTreeMap<(Uuid, Uuid), (i16, i16, bool)> = BTreeMap::new();
    for birth in births {
        for (parent, met) in &birth.edges {
            let edge = (birth.shard.0, birth.job.dependency_policy.code(), *met);
            edges.insert((parent.0, birth.job.id.0), edge);
        }
    }
    if edges.is_empty() {
        return Ok(());
    }
    sqlx::query(EDGES)
        .bind(edges.keys().map(|(parent, _)| *parent).collect::<Vec<Uuid>>())
        .bind(edges.keys().map(|(_, child)| *child).collect::<Vec<Uuid>>())
        .bind(edges.values().map(|edge| edge.0).collect::<Vec<i16>>())
        .bind(edges.values().map(|edge| edge.1).collect::<Vec<i16>>())
        .bind(edges.values().map(|edge| edge.2).collect::<Vec<bool>>())
        .execute(&mut *batch.connection)
        .await
        .map_err(store_error)?;
    Ok(())
}

async fn stored(batch: &mut Batch<'_>, jobs: Vec<Uuid>) -> Result<Vec<(JobId, Submitted)>, StoreError> {
    let rows = sqlx::query(STORED).bind(jobs).fetch_all(&mut *batch.connection).await.map_err(store_error)?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            let job = columns.job()?;
            let created_at = columns.next::<DateTime<Utc>>()?.into();
            let (queue, state) = (columns.next()?, columns.state()?);
            let (priority, run_at, kind) = (columns.next()?, columns.time()?, columns.next()?);
            let entry = LiveEntry { job, queue, kind, state, priority, run_at };
            let blocked_reason = columns.next()?;
            Ok((job, Submitted::Made { entry, created_at, blocked_reason }))
        })
        .collect()
}
