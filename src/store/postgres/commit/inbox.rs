//! What others left for a shard: jobs made elsewhere, and parents that ended.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use super::{
    super::{error::store_error, rows::Columns},
    batch::{Batch, Placed, Results},
    held::{self, Held},
    submit::blocked_by,
};
use crate::{
    domain::{DependencyPolicy, EventKind, JobId, JobState, ShardId},
    store::{
        StoreError,
        ops::{InboxOp, InboxTaken, OpResult},
    },
};

const TAKE: &str = "delete from inbox
where id = any(array(select id from inbox where shard = $1 order by id limit $2 for update))
returning id, kind, job_id";

/// The unmet edges of parents that ended, or run again, to jobs of this shard, with where each child is now: its
/// row is locked, so that it is not moved away before it is settled.
const WAITING: &str = "select d.parent, d.child, d.policy, l.shard, o.state
from unnest($1::uuid[]) as p (id)
join dependency d on d.parent = any(array[p.id])
left join outcome o on o.job_id = any(array[d.parent])
join job_live l on l.id = any(array[d.child])
where not d.met and d.child_shard = $2
order by d.child, d.parent
for update of l";

const MET: &str = "update dependency d set met = true
from unnest($1::uuid[], $2::uuid[]) as u (parent, child)
where d.parent = any(array[u.parent]) and d.child = u.child";

/// What children still wait for. Counted, not subtracted: a row taken twice does no harm.
const UNMET: &str = "select d.child, d.parent, d.policy, o.state
from dependency d
left join outcome o on o.job_id = any(array[d.parent])
where d.child = any($1) and not d.met
order by d.child, d.parent";

const MOVED_EDGES: &str = "update dependency d set child_shard = u.shard
from unnest($1::uuid[], $2::uuid[], $3::smallint[]) as u (parent, child, shard)
where d.parent = any(array[u.parent]) and d.child = u.child";

const READDRESS: &str = "insert into inbox (shard, kind, job_id, at)
select u.shard, u.kind, u.job_id, $4
from unnest($1::smallint[], $2::smallint[], $3::uuid[]) as u (shard, kind, job_id)";

pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("inbox take", TAKE),
    ("inbox waiting", WAITING),
    ("inbox met", MET),
    ("inbox unmet", UNMET),
    ("inbox moved edges", MOVED_EDGES),
    ("inbox readdress", READDRESS),
];

const BORN: i16 = 0;
const FINISHED: i16 = 1;

/// Rows for other shards: shard, kind, job.
type Forwarded = BTreeSet<(i16, i16, Uuid)>;

pub(super) async fn run(
    batch: &mut Batch<'_>,
    ops: &Placed<'_, InboxOp>,
    results: &mut Results,
) -> Result<(), StoreError> {
    for (place, op) in ops {
        let taken = take(batch, op).await?;
        results.set(*place, OpResult::Inbox(taken));
    }
    Ok(())
}

async fn take(batch: &mut Batch<'_>, op: &InboxOp) -> Result<InboxTaken, StoreError> {
    let rows = sqlx::query(TAKE)
        .bind(op.owner.shard.0)
        .bind(op.limit)
        .fetch_all(&mut *batch.connection)
        .await
        .map_err(store_error)?;
    let mut taken =
        InboxTaken { rows: i64::try_from(rows.len()).unwrap_or(i64::MAX), ..InboxTaken::default() };
    let mut read: BTreeMap<i64, (i16, Uuid)> = BTreeMap::new();
    for row in &rows {
        let mut columns = Columns::of(row);
        read.insert(columns.next()?, (columns.next()?, columns.next()?));
    }
    // Each job once, in the order in which it was first named.
    let named = |wanted: i16| {
        let mut seen = BTreeSet::new();
        let mut jobs: Vec<Uuid> = Vec::new();
        for (_, job) in read.values().filter(|(kind, _)| *kind == wanted) {
            if seen.insert(*job) {
                jobs.push(*job);
            }
        }
        jobs
    };
    let mut forwarded = Forwarded::new();
    let unblocked = resolve(batch, op.owner.shard, named(FINISHED), &mut taken, &mut forwarded).await?;
    born(batch, op.owner.shard, named(BORN), &unblocked, &mut taken, &mut forwarded).await?;
    let shards: BTreeSet<i16> = forwarded.iter().map(|(shard, ..)| *shard).collect();
    taken.wakes = shards.into_iter().map(ShardId).collect();
    readdress(batch, forwarded).await?;
    Ok(taken)
}

/// Jobs made by others, as they are now.
async fn born(
    batch: &mut Batch<'_>,
    shard: ShardId,
    jobs: Vec<Uuid>,
    unblocked: &BTreeSet<JobId>,
    taken: &mut InboxTaken,
    forwarded: &mut Forwarded,
) -> Result<(), StoreError> {
    let mut live = held::load(batch, jobs.clone()).await?;
    for job in jobs {
        let Some(row) = live.remove(&JobId(job)).filter(|row| row.lease.is_none()) else { continue };
        if row.shard != shard {
            forwarded.insert((row.shard.0, BORN, job));
        } else if !unblocked.contains(&row.id) {
            taken.born.push(row.entry());
        }
    }
    Ok(())
}

/// Resolves the edges of this shard's jobs to parents that have ended. One that runs again has no
/// outcome and meets no edge, but its children no longer wait for a failed job; its next end is told anew.
async fn resolve(
    batch: &mut Batch<'_>,
    shard: ShardId,
    parents: Vec<Uuid>,
    taken: &mut InboxTaken,
    forwarded: &mut Forwarded,
) -> Result<BTreeSet<JobId>, StoreError> {
    if parents.is_empty() {
        return Ok(BTreeSet::new());
    }
    let edges = sqlx::query(WAITING)
        .bind(parents)
        .bind(shard.0)
        .fetch_all(&mut *batch.connection)
        .await
        .map_err(store_error)?;
    let (mut met, mut moved) = (Vec::new(), Vec::new());
    let mut children = BTreeSet::new();
    for row in &edges {
        let mut columns = Columns::of(row);
        let (parent, child): (Uuid, Uuid) = (columns.next()?, columns.next()?);
        let policy = columns.policy()?.unwrap_or_default();
        let lies_in = columns.shard()?;
        let ended = if columns.is_null()? { None } else { Some(columns.state()?) };
        if lies_in != shard {
            moved.push((parent, child, lies_in.0));
            forwarded.insert((lies_in.0, FINISHED, parent));
            continue;
        }
        if policy.is_met_by(ended) {
            met.push((parent, child));
        }
        children.insert(child);
    }
    if !met.is_empty() {
        sqlx::query(MET)
            .bind(met.iter().map(|(parent, _)| *parent).collect::<Vec<Uuid>>())
            .bind(met.iter().map(|(_, child)| *child).collect::<Vec<Uuid>>())
            .execute(&mut *batch.connection)
            .await
            .map_err(store_error)?;
    }
    if !moved.is_empty() {
        sqlx::query(MOVED_EDGES)
            .bind(moved.iter().map(|(parent, ..)| *parent).collect::<Vec<Uuid>>())
            .bind(moved.iter().map(|(_, child, _)| *child).collect::<Vec<Uuid>>())
            .bind(moved.iter().map(|(.., shard)| *shard).collect::<Vec<i16>>())
            .execute(&mut *batch.connection)
            .await
            .map_err(store_error)?;
    }
    settle(batch, children, taken).await
}

/// Unblocks the children that wait for nothing any more, and says why others may never run.
async fn settle(
    batch: &mut Batch<'_>,
    children: BTreeSet<Uuid>,
    taken: &mut InboxTaken,
) -> Result<BTreeSet<JobId>, StoreError> {
    if children.is_empty() {
        return Ok(BTreeSet::new());
    }
    held::lock(batch, &children, false).await?;
    let ids: Vec<Uuid> = children.into_iter().collect();
    let rows = sqlx::query(UNMET).bind(&ids).fetch_all(&mut *batch.connection).await.map_err(store_error)?;
    let mut unmet: HashMap<JobId, Vec<(JobId, DependencyPolicy, Option<JobState>)>> = HashMap::new();
    for row in &rows {
        let mut columns = Columns::of(row);
        let (child, parent) = (columns.job()?, columns.job()?);
        let policy = columns.policy()?.unwrap_or_default();
        let ended = if columns.is_null()? { None } else { Some(columns.state()?) };
        unmet.entry(child).or_default().push((parent, policy, ended));
    }
    let mut changed = Vec::new();
    let mut unblocked = BTreeSet::new();
    for (id, mut row) in held::load(batch, ids).await? {
        if row.state != JobState::Blocked {
            continue;
        }
        match unmet.remove(&id) {
            Some(edges) => {
                let reason = edges.iter().find_map(|(parent, policy, ended)| {
                    ended
                        .filter(|state| !policy.is_met_by(Some(*state)))
                        .map(|state| blocked_by(*parent, state))
                });
                let count = i32::try_from(edges.len()).unwrap_or(i32::MAX);
                stay(&mut row, count, reason, taken);
            }
            None => {
                unblock(batch, &mut row);
                unblocked.insert(id);
                taken.unblocked.push(row.entry());
            }
        }
        changed.push(row);
    }
    held::save(batch, &changed).await?;
    Ok(unblocked)
}

fn stay(row: &mut Held, count: i32, reason: Option<String>, taken: &mut InboxTaken) {
    row.blocked_on = count;
    if row.blocked_reason != reason {
        row.blocked_reason = reason;
        if let Some(reason) = &row.blocked_reason {
            taken.stuck.push((row.entry(), reason.clone()));
        }
    }
}

fn unblock(batch: &mut Batch<'_>, row: &mut Held) {
    let state = if row.run_at > batch.now { JobState::Scheduled } else { JobState::Queued };
    row.blocked_on = 0;
    row.blocked_reason = None;
    let now = batch.now;
    row.event(EventKind::Unblocked, state, now, None, None, &mut batch.effects);
    row.enter(state, &mut batch.effects);
}

async fn readdress(batch: &mut Batch<'_>, forwarded: Forwarded) -> Result<(), StoreError> {
    if forwarded.is_empty() {
        return Ok(());
    }
    sqlx::query(READDRESS)
        .bind(forwarded.iter().map(|(shard, ..)| *shard).collect::<Vec<i16>>())
        .bind(forwarded.iter().map(|(_, kind, _)| *kind).collect::<Vec<i16>>())
        .bind(forwarded.iter().map(|(.., job)| *job).collect::<Vec<Uuid>>())
        .bind(batch.now.to_datetime())
        .execute(&mut *batch.connection)
        .await
        .map_err(store_error)?;
    Ok(())
}
