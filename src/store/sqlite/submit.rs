//! Makes jobs.
//!
//! What decides is read first: ids that exist already, keys that hold, parents. Then each operation is
//! planned in turn, seeing what those before it in the batch have made; a refused one leaves nothing.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{
    admit,
    batch::Batch,
    moves::{self, MOVE, NOTE_LEASE, NOTE_OUTCOME, entry, materialise},
    parts::{self, Stored},
    rows::{Cols, Rows, ids},
    submit_plan::{Key, Parent, Plan},
    submit_rows,
};
use crate::{
    domain::{EventKind, JobId, JobState, UniqueKey},
    store::{
        OpResult, StoreError,
        ops::{LiveEntry, SubmitOp, Submitted},
    },
};

const KNOWN: &str = "select id from job where id in (select unhex(value) from jsonb_each(?1))";

/// Keys that hold: their time is not over, or their job is live.
const KEYS: &str = "
    select e.value ->> 0, e.value ->> 1, i.job_id, i.fingerprint
    from jsonb_each(?1) e
    join idempotency i on i.tenant = e.value ->> 0 and i.key = e.value ->> 1
    where i.expires_at > ?2 or exists (select 1 from job_live l where l.id = i.job_id)";

/// Unique keys that are not free of themselves, with the state their jobs are shown in.
const UNIQUES: &str = "
    select k.key, k.job_id, k.states,
           case when lease.job_id is not null then 5
                when l.state in (1, 2, 4) and l.gate is null and l.run_at <= ?2 then 0
                else coalesce(l.state, o.state) end
    from jsonb_each(?1) e
    join unique_key k on k.key = unhex(e.value ->> 0)
    left join job_live l on l.id = k.job_id
    left join lease on lease.job_id = k.job_id
    left join outcome o on o.job_id = k.job_id
    where (k.expires_at is null or k.expires_at > ?2) and coalesce(l.state, o.state) is not null";

const PARENTS: &str = "
    select job.id, job.tenant, o.state
    from jsonb_each(?1) e
    join job on job.id = unhex(e.value)
    left join outcome o on o.job_id = job.id";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] =
    &[("known", KNOWN), ("keys", KEYS), ("uniques", UNIQUES), ("parents", PARENTS)];

/// Answers each submit with what became of its jobs.
pub(super) async fn run(
    batch: &mut Batch<'_>,
    ops: &[(usize, &SubmitOp)],
    results: &mut [Option<OpResult>],
) -> Result<(), StoreError> {
    if ops.is_empty() {
        return Ok(());
    }
    let mut plan = Plan::new(batch.now);
    load(batch, ops, &mut plan).await?;
    for (index, op) in ops {
        results[*index] = Some(match plan.submit(op) {
            Ok(submitted) => OpResult::Submitted(submitted),
            Err(refusal) => OpResult::SubmitRefused(refusal),
        });
    }
    submit_rows::write(batch, &plan).await?;
    repeat(batch, ops, &plan, results).await?;
    suppress(batch, &plan).await
}

async fn load(
    batch: &mut Batch<'_>,
    ops: &[(usize, &SubmitOp)],
    plan: &mut Plan<'_>,
) -> Result<(), StoreError> {
    let jobs = || ops.iter().flat_map(|(_, op)| &op.jobs);
    plan.queues = admit::read(batch, ops).await?;
    for row in &batch.read(KNOWN, ids(jobs().map(|job| job.id))).await? {
        plan.known.insert(Cols::of(row).job()?);
    }
    let mut keys = Rows::default();
    for job in jobs() {
        if let Some(idempotency) = &job.idempotency {
            keys.row().text(&job.tenant).text(&idempotency.key);
        }
    }
    if keys.len() > 0 {
        let rows = sqlx::query(KEYS)
            .bind(keys.finish())
            .bind(batch.now.0)
            .fetch_all(&mut *batch.conn)
            .await
            .map_err(super::error::store_error)?;
        for row in &rows {
            let mut cols = Cols::of(row);
            let key = (cols.get()?, cols.get()?);
            plan.keys.insert(key, Key { job: cols.job()?, fingerprint: cols.get()? });
        }
    }
    let mut uniques = Rows::default();
    for unique in jobs().filter_map(|job| job.unique.as_ref()) {
        uniques.row().bytes(&unique.hash);
    }
    if uniques.len() > 0 {
        let query = sqlx::query(UNIQUES).bind(uniques.finish()).bind(batch.now.0);
        let rows = query.fetch_all(&mut *batch.conn).await.map_err(super::error::store_error)?;
        for row in &rows {
            let mut cols = Cols::of(row);
            let (key, job): (Vec<u8>, JobId) = (cols.get()?, cols.job()?);
            let states = cols.int()?;
            if let Ok(key) = key.try_into()
                && UniqueKey::is_kept_in(states, cols.state()?)
            {
                plan.uniques.insert(key, job);
            }
        }
    }
    if jobs().any(|job| !job.dependencies.is_empty()) {
        // Those that are made here are not there yet, and many jobs name the same few.
        let own: HashSet<JobId> = jobs().map(|job| job.id).collect();
        let others = jobs().flat_map(|job| &job.dependencies).filter(|parent| !own.contains(parent));
        let parents: BTreeSet<JobId> = others.copied().collect();
        for row in &batch.read(PARENTS, ids(parents)).await? {
            let mut cols = Cols::of(row);
            let id = cols.job()?;
            let tenant = cols.get()?;
            plan.parents.insert(id, Parent { tenant, ended: cols.opt_code(JobState::from_code)? });
        }
    }
    Ok(())
}

/// Jobs whose id exists already were made by an earlier try of the same submission: they are answered
/// from their rows.
async fn repeat(
    batch: &mut Batch<'_>,
    ops: &[(usize, &SubmitOp)],
    plan: &Plan<'_>,
    results: &mut [Option<OpResult>],
) -> Result<(), StoreError> {
    let repeated = |job: &JobId| plan.known.contains(job);
    let again = ops.iter().flat_map(|(_, op)| &op.jobs).map(|job| job.id).filter(repeated);
    let again: Vec<JobId> = again.collect();
    if again.is_empty() {
        return Ok(());
    }
    let stored: HashMap<JobId, Stored> = parts::load(batch.conn, ids(again))
        .await?
        .into_iter()
        .map(|stored| (stored.parts.job.id, stored))
        .collect();
    for (index, op) in ops {
        let Some(OpResult::Submitted(submitted)) = &mut results[*index] else { continue };
        for (job, answer) in op.jobs.iter().zip(submitted) {
            if let Some(stored) = stored.get(&job.id).filter(|_| repeated(&job.id)) {
                *answer = Submitted::Made {
                    entry: stored_entry(stored, batch),
                    created_at: stored.parts.job.created_at,
                    blocked_reason: stored.parts.live.as_ref().and_then(|live| live.blocked_reason.clone()),
                };
            }
        }
    }
    Ok(())
}

fn stored_entry(stored: &Stored, batch: &Batch<'_>) -> LiveEntry {
    let job = &stored.parts.job;
    match (&stored.parts.live, &stored.parts.lease) {
        (Some(live), None) => entry(job, live),
        // It was granted or has ended since: not to be dispatched by this answer.
        _ => LiveEntry {
            job: job.id,
            queue: job.queue.clone(),
            kind: job.kind.clone(),
            state: stored.state(batch.now),
            priority: job.priority,
            run_at: job.run_at,
        },
    }
}

/// The timeline rows of jobs that repeats of their submission were answered with.
async fn suppress(batch: &mut Batch<'_>, plan: &Plan<'_>) -> Result<(), StoreError> {
    if plan.repeats.is_empty() {
        return Ok(());
    }
    let (mut live_rows, mut leases, mut outcomes) = (Rows::default(), Rows::default(), Rows::default());
    for mut stored in parts::load(batch.conn, ids(plan.repeats.keys().copied())).await? {
        let id = stored.parts.job.id;
        materialise(batch, &mut stored);
        let state = stored.state(batch.now);
        for _ in 0..plan.repeats.get(&id).copied().unwrap_or(0) {
            stored.last_seq += 1;
            let seq = stored.last_seq;
            batch.event(id, seq, EventKind::DuplicateSuppressed, state, batch.now, None, None);
        }
        match (&stored.parts.lease, &stored.parts.live) {
            (Some(lease), _) => {
                leases.row().id(id).int(stored.last_seq).int(i64::from(lease.cancel_requested));
            }
            (None, Some(live)) => {
                let blocked_on = stored.blocked_on;
                moves::move_row(&mut live_rows, id, live, stored.last_seq, blocked_on, live.updated_at);
            }
            (None, None) => {
                outcomes.row().id(id).int(stored.last_seq);
            }
        }
    }
    batch.write(NOTE_LEASE, leases).await?;
    batch.write(MOVE, live_rows).await?;
    batch.write(NOTE_OUTCOME, outcomes).await
}
