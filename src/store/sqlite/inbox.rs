//! Takes what other shards, and births, left for a shard.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    batch::Batch,
    error::{store_error, unreadable},
    moves::{MOVE, entry, move_row},
    parts::{self, Stored},
    rows::{Cols, Rows, ids},
    submit_plan::blocked_reason,
};
use crate::{
    domain::{DependencyPolicy, EventKind, JobId, JobState, ShardId},
    store::{
        OpResult, StoreError,
        ops::{InboxOp, InboxTaken},
    },
};

const TAKE: &str = "
    delete from inbox where id in (select id from inbox where shard = ?1 order by id limit ?2)
    returning id, kind, job_id";

/// The unmet edges of parents that ended, or run again, to jobs of this shard, with where the child is now.
const WAITING: &str = "
    select d.parent, d.child, d.policy, o.state, l.shard
    from jsonb_each(?1) e
    join dependency d on d.parent = unhex(e.value)
    left join outcome o on o.job_id = d.parent
    join job_live l on l.id = d.child
    where d.met = 0 and d.child_shard = ?2
    order by d.child, d.parent";

const MET: &str = "
    update dependency set met = 1
    from jsonb_each(?1) e
    where dependency.parent = unhex(e.value ->> 0) and dependency.child = unhex(e.value ->> 1)";

/// What the children still wait for. Counted, not subtracted: a row taken twice does no harm.
const UNMET: &str = "
    select d.child, d.parent, d.policy, o.state
    from jsonb_each(?1) e
    join dependency d on d.child = unhex(e.value)
    left join outcome o on o.job_id = d.parent
    where d.met = 0
    order by d.child, d.parent";

const MOVED_EDGE: &str = "
    update dependency set child_shard = e.value ->> 2
    from jsonb_each(?1) e
    where dependency.parent = unhex(e.value ->> 0) and dependency.child = unhex(e.value ->> 1)";

const READDRESS: &str = "
    insert into inbox (shard, kind, job_id, at)
    select value ->> 0, value ->> 1, unhex(value ->> 2), value ->> 3 from jsonb_each(?1)";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("take inbox", TAKE),
    ("waiting", WAITING),
    ("met", MET),
    ("unmet", UNMET),
    ("moved edge", MOVED_EDGE),
    ("readdress", READDRESS),
];

const BORN: i64 = 0;
const FINISHED: i64 = 1;

/// Takes each shard's rows in turn.
pub(super) async fn run(
    batch: &mut Batch<'_>,
    ops: &[(usize, &InboxOp)],
    results: &mut [Option<OpResult>],
) -> Result<(), StoreError> {
    for (index, op) in ops {
        results[*index] = Some(OpResult::Inbox(take(batch, op).await?));
    }
    Ok(())
}

async fn take(batch: &mut Batch<'_>, op: &InboxOp) -> Result<InboxTaken, StoreError> {
    let shard = op.owner.shard;
    let mut rows = sqlx::query(TAKE)
        .bind(shard.0)
        .bind(op.limit)
        .fetch_all(&mut *batch.conn)
        .await
        .map_err(store_error)?
        .iter()
        .map(|row| {
            let mut cols = Cols::of(row);
            Ok((cols.get::<i64>()?, cols.get::<i64>()?, cols.job()?))
        })
        .collect::<Result<Vec<_>, StoreError>>()?;
    rows.sort_unstable_by_key(|(id, ..)| *id);
    let named = |wanted: i64| {
        let mut seen = HashSet::new();
        rows.iter()
            .filter(|(_, kind, _)| *kind == wanted)
            .map(|(.., job)| *job)
            .filter(|job| seen.insert(*job))
            .collect::<Vec<JobId>>()
    };
    let mut taken =
        InboxTaken { rows: i64::try_from(rows.len()).unwrap_or(i64::MAX), ..InboxTaken::default() };
    let mut forwarded = Rows::default();
    resolve(batch, shard, named(FINISHED), &mut taken, &mut forwarded).await?;
    born(batch, shard, named(BORN), &mut taken, &mut forwarded).await?;
    batch.write(READDRESS, forwarded).await?;
    Ok(taken)
}

/// Jobs made by others, as they are now.
async fn born(
    batch: &mut Batch<'_>,
    shard: ShardId,
    jobs: Vec<JobId>,
    taken: &mut InboxTaken,
    forwarded: &mut Rows,
) -> Result<(), StoreError> {
    if jobs.is_empty() {
        return Ok(());
    }
    for stored in parts::load(batch.conn, ids(jobs)).await? {
        let id = stored.parts.job.id;
        let Some(live) = stored.parts.live.as_ref().filter(|_| stored.parts.lease.is_none()) else {
            continue;
        };
        if live.shard == shard {
            taken.born.push(entry(&stored.parts.job, live));
        } else {
            forwarded.row().int(live.shard.0).int(BORN).id(id).int(batch.now.0);
            taken.wakes.push(live.shard);
        }
    }
    Ok(())
}

struct Unmet {
    parent: JobId,
    policy: DependencyPolicy,
    ended: Option<JobState>,
}

/// Resolves the edges of this shard's jobs to parents that have ended. One that runs again has no outcome
/// and meets no edge, but its children no longer wait for a failed job; its next end is told anew.
async fn resolve(
    batch: &mut Batch<'_>,
    shard: ShardId,
    parents: Vec<JobId>,
    taken: &mut InboxTaken,
    forwarded: &mut Rows,
) -> Result<(), StoreError> {
    if parents.is_empty() {
        return Ok(());
    }
    let (mut met, mut moved) = (Rows::default(), Rows::default());
    let mut told: BTreeMap<(ShardId, JobId), ()> = BTreeMap::new();
    let mut children: Vec<JobId> = Vec::new();
    let edges = sqlx::query(WAITING)
        .bind(ids(parents))
        .bind(shard.0)
        .fetch_all(&mut *batch.conn)
        .await
        .map_err(store_error)?;
    for row in &edges {
        let mut cols = Cols::of(row);
        let (parent, child) = (cols.job()?, cols.job()?);
        let policy = cols.code(DependencyPolicy::from_code)?;
        let (ended, now_in) = (cols.opt_code(JobState::from_code)?, cols.shard()?);
        if now_in != shard {
            moved.row().id(parent).id(child).int(now_in.0);
            told.insert((now_in, parent), ());
            continue;
        }
        if policy.is_met_by(ended) {
            met.row().id(parent).id(child);
        }
        if children.last() != Some(&child) {
            children.push(child);
        }
    }
    for (to, parent) in told.into_keys() {
        forwarded.row().int(to.0).int(FINISHED).id(parent).int(batch.now.0);
        taken.wakes.push(to);
    }
    batch.write(MET, met).await?;
    batch.write(MOVED_EDGE, moved).await?;
    settle_children(batch, children, taken).await
}

/// Unblocks the children that wait for nothing any more, and says why others may never run.
async fn settle_children(
    batch: &mut Batch<'_>,
    children: Vec<JobId>,
    taken: &mut InboxTaken,
) -> Result<(), StoreError> {
    if children.is_empty() {
        return Ok(());
    }
    let mut unmet: HashMap<JobId, Vec<Unmet>> = HashMap::new();
    for row in &batch.read(UNMET, ids(children.iter().copied())).await? {
        let mut cols = Cols::of(row);
        let (child, parent) = (cols.job()?, cols.job()?);
        let policy = cols.code(DependencyPolicy::from_code)?;
        let ended = cols.opt_code(JobState::from_code)?;
        unmet.entry(child).or_default().push(Unmet { parent, policy, ended });
    }
    let mut moves = Rows::default();
    for stored in parts::load(batch.conn, ids(children)).await? {
        let waits_for = unmet.remove(&stored.parts.job.id).unwrap_or_default();
        settle_child(batch, stored, &waits_for, &mut moves, taken)?;
    }
    batch.write(MOVE, moves).await
}

fn settle_child(
    batch: &mut Batch<'_>,
    stored: Stored,
    waits_for: &[Unmet],
    moves: &mut Rows,
    taken: &mut InboxTaken,
) -> Result<(), StoreError> {
    let id = stored.parts.job.id;
    let Some(mut live) = stored.parts.live.filter(|live| live.state == JobState::Blocked) else {
        return Ok(());
    };
    let reason = waits_for.iter().find_map(|edge| blocked_reason(edge.parent, edge.ended, edge.policy));
    let told = live.blocked_reason.clone();
    live.blocked_reason = reason;
    if !waits_for.is_empty() {
        let count = i64::try_from(waits_for.len()).map_err(|_| unreadable("number of dependencies"))?;
        move_row(moves, id, &live, stored.last_seq, count, batch.now);
        if let Some(reason) = live.blocked_reason.clone().filter(|reason| told.as_ref() != Some(reason)) {
            taken.stuck.push((entry(&stored.parts.job, &live), reason));
        }
        return Ok(());
    }
    live.state = if live.run_at > batch.now { JobState::Scheduled } else { JobState::Queued };
    batch.count_move(live.shard, &live.queue, JobState::Blocked, live.state);
    let seq = stored.last_seq + 1;
    batch.event(id, seq, EventKind::Unblocked, live.state, batch.now, None, None);
    move_row(moves, id, &live, seq, 0, batch.now);
    taken.unblocked.push(entry(&stored.parts.job, &live));
    Ok(())
}
