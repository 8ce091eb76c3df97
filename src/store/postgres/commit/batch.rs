//! The order of a batch's statements.

use std::collections::{BTreeSet, HashSet};

use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    super::{error::store_error, rows::Columns},
    audit,
    effects::Effects,
    end, forget, gate, grant, held, inbox,
    keys::{self, Keys},
    lane::LaneConnection,
    log, operator, replay, returned, settings, submit,
    unique::Uniques,
    update,
};
use crate::{
    domain::{ShardEpoch, Timestamp},
    store::{
        StoreError,
        ops::{Op, OpResult},
    },
};

/// Share-locks the shards that are still owned under the epochs given, until the end of the batch,
/// writes the batch's mark, and tells the time that all of the batch happens at.
#[cfg(not(ganger_broken = "no_epoch_check"))]
const SHARD_CHECK: &str = "with owned as materialized (
    select s.id, e.epoch
    from unnest($1::smallint[], $2::bigint[]) as e (id, epoch)
    join shard s on s.id = e.id
    join shard_seal z on z.id = s.id
    where s.epoch = e.epoch and z.floor <= e.epoch
    order by s.id
    for share of s
), marked as (
    update journal_mark set seq = $3, used_at = now() where connection = $4
)
select array(select id from owned), array(select epoch from owned), clock_timestamp()";

/// The check without its predicate: a test that passes with it proves nothing (`--cfg ganger_broken`).
#[cfg(ganger_broken = "no_epoch_check")]
const SHARD_CHECK: &str = "with owned as materialized (
    select s.id, e.epoch
    from unnest($1::smallint[], $2::bigint[]) as e (id, epoch)
    join shard s on s.id = e.id
    join shard_seal z on z.id = s.id
    order by s.id
    for share of s
), marked as (
    update journal_mark set seq = $3, used_at = now() where connection = $4
)
select array(select id from owned), array(select epoch from owned), clock_timestamp()";

pub(super) const STATEMENTS: &[(&str, &str)] = &[("batch shard check", SHARD_CHECK)];

/// What the statements of a batch share.
pub(super) struct Batch<'c> {
    pub(super) connection: &'c mut PgConnection,
    /// The store's time: all of a batch happens at it, but for what is read behind locks that it waited for.
    pub(super) now: Timestamp,
    pub(super) effects: Effects,
}

/// Operations of one kind, with their places in the batch.
pub(super) type Placed<'a, T> = Vec<(usize, &'a T)>;

/// The results so far, each in the place of its operation.
#[derive(Debug)]
pub(super) struct Results(Vec<Option<OpResult>>);

impl Results {
    pub(super) fn set(&mut self, place: usize, result: OpResult) {
        if let Some(slot) = self.0.get_mut(place) {
            *slot = Some(result);
        }
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut OpResult> {
        self.0.get_mut(place).and_then(Option::as_mut)
    }
}

/// Runs `ops` in a transaction that is left open.
pub(super) async fn run(
    lane: &mut LaneConnection,
    number: i16,
    ops: &[&Op],
) -> Result<Vec<OpResult>, StoreError> {
    lane.begin().await?;
    let (owned, now) = shard_check(lane, ops).await?;
    let mut results = Results(ops.iter().map(|_| None).collect());
    let sorted = sort(ops, &owned, &mut results);
    let mut batch = Batch { connection: &mut lane.connection, now, effects: Effects::default() };

    let mut keys = Keys::of(&sorted.submits);
    let uniques = Uniques::of(&sorted.submits);
    lock(&mut batch, &sorted, &mut keys, &uniques).await?;
    submit::run(&mut batch, &sorted.submits, keys, uniques, &mut results).await?;
    grant::run(&mut batch, &sorted.grants, &mut results).await?;
    end::run(&mut batch, &sorted.ends, &mut results).await?;
    returned::run(&mut batch, &sorted.returns, &mut results).await?;
    operator::run(&mut batch, &sorted.cancels, &sorted.retries, &mut results).await?;
    inbox::run(&mut batch, &sorted.inboxes, &mut results).await?;
    gate::park(&mut batch, &sorted.parks, &mut results).await?;
    gate::unpark(&mut batch, &sorted.unparks, &mut results).await?;
    update::run(&mut batch, &sorted.updates, &mut results).await?;
    replay::run(&mut batch, &sorted.replays, &mut results).await?;
    forget::run(&mut batch, &sorted.forgets, &mut results).await?;
    settings::run(&mut batch, &sorted.settings, &mut results).await?;
    log::run(&mut batch, &sorted.logs, &mut results).await?;
    audit::run(&mut batch, &sorted.audits, &mut results).await?;
    // Behind every delete of a live row, in statements of their own: an edge committed while a delete
    // waited for its lock is in the snapshot of a later statement only.
    super::dependents::run(&mut batch, &mut results).await?;
    let Batch { connection, now, effects } = batch;
    effects.write(connection, number, now).await?;
    crate::store::pass_in_transaction(ops.iter().copied())?;
    results
        .0
        .into_iter()
        .map(|result| result.ok_or_else(|| StoreError::Refused("an operation was left unanswered".into())))
        .collect()
}

async fn shard_check(
    lane: &mut LaneConnection,
    ops: &[&Op],
) -> Result<(HashSet<ShardEpoch>, Timestamp), StoreError> {
    let named: BTreeSet<ShardEpoch> = ops.iter().filter_map(|op| op.shard_epoch()).collect();
    let row = sqlx::query(SHARD_CHECK)
        .bind(named.iter().map(|named| named.shard.0).collect::<Vec<i16>>())
        .bind(named.iter().map(|named| named.epoch.0).collect::<Vec<i64>>())
        .bind(lane.seq)
        .bind(lane.mark)
        .fetch_one(&mut lane.connection)
        .await
        .map_err(store_error)?;
    let mut columns = Columns::of(&row);
    let (shards, epochs): (Vec<i16>, Vec<i64>) = (columns.next()?, columns.next()?);
    let owned = shards
        .into_iter()
        .zip(epochs)
        .map(|(shard, epoch)| ShardEpoch {
            shard: crate::domain::ShardId(shard),
            epoch: crate::domain::Epoch(epoch),
        })
        .collect();
    Ok((owned, columns.time()?))
}

/// A batch's operations by what has to be done, in the order of their jobs' ids.
#[derive(Default)]
struct Sorted<'a> {
    submits: Placed<'a, crate::store::ops::SubmitOp>,
    grants: Placed<'a, crate::store::ops::GrantOp>,
    /// Ends after which the job has finished.
    ends: Placed<'a, crate::store::ops::EndOp>,
    /// Ends after which it lives on.
    returns: Placed<'a, crate::store::ops::EndOp>,
    cancels: Placed<'a, crate::store::ops::CancelOp>,
    retries: Placed<'a, crate::store::ops::RetryOp>,
    inboxes: Placed<'a, crate::store::ops::InboxOp>,
    parks: Placed<'a, crate::store::ops::ParkOp>,
    unparks: Placed<'a, crate::store::ops::UnparkOp>,
    updates: Placed<'a, crate::store::ops::UpdateOp>,
    replays: Placed<'a, crate::store::ops::ReplayOp>,
    forgets: Placed<'a, crate::store::ops::ForgetOp>,
    settings: Placed<'a, crate::store::ops::SettingsOp>,
    logs: Placed<'a, crate::store::ops::LogOp>,
    audits: Placed<'a, crate::store::ops::AuditOp>,
}

fn sort<'a>(ops: &[&'a Op], owned: &HashSet<ShardEpoch>, results: &mut Results) -> Sorted<'a> {
    let mut sorted = Sorted::default();
    for (place, op) in ops.iter().enumerate() {
        if let Some(named) = op.shard_epoch().filter(|named| !owned.contains(named)) {
            results.set(place, OpResult::FenceLost(named.shard));
            continue;
        }
        match op {
            Op::Submit(op) => sorted.submits.push((place, op)),
            Op::Grant(op) => sorted.grants.push((place, op)),
            Op::End(op) if op.kind.state().is_terminal() => sorted.ends.push((place, op)),
            Op::End(op) => sorted.returns.push((place, op)),
            Op::Cancel(op) => sorted.cancels.push((place, op)),
            Op::Retry(op) => sorted.retries.push((place, op)),
            Op::Inbox(op) => sorted.inboxes.push((place, op)),
            Op::Park(op) => sorted.parks.push((place, op)),
            Op::Unpark(op) => sorted.unparks.push((place, op)),
            Op::Update(op) => sorted.updates.push((place, op)),
            Op::Replay(op) => sorted.replays.push((place, op)),
            Op::Forget(op) => sorted.forgets.push((place, op)),
            Op::Settings(op) => sorted.settings.push((place, op)),
            Op::Log(op) => sorted.logs.push((place, op)),
            Op::Audit(op) => sorted.audits.push((place, op)),
        }
    }
    sorted.grants.sort_unstable_by_key(|(_, op)| op.job);
    sorted.ends.sort_unstable_by_key(|(_, op)| op.job);
    sorted
}

/// Takes the locks that the statements of several kinds would take in different orders: on live rows,
/// then on dead letters, each in the order of the ids. Grants and ends alone lock in that order by
/// themselves, and no other batch changes the jobs they name; only with parents or repeated
/// submissions, which other batches may end, beside them they are locked ahead.
async fn lock(
    batch: &mut Batch<'_>,
    sorted: &Sorted<'_>,
    keys: &mut Keys<'_>,
    uniques: &Uniques<'_>,
) -> Result<(), StoreError> {
    let parents: BTreeSet<Uuid> = submit::parents(&sorted.submits);
    let mut changed: BTreeSet<Uuid> = BTreeSet::new();
    changed.extend(sorted.returns.iter().map(|(_, op)| op.job.0));
    changed.extend(sorted.cancels.iter().map(|(_, op)| op.job.0));
    changed.extend(sorted.retries.iter().map(|(_, op)| op.job.0));
    changed.extend(sorted.updates.iter().map(|(_, op)| op.job.0));
    changed.extend(sorted.replays.iter().map(|(_, op)| op.job.0));
    changed.extend(sorted.forgets.iter().map(|(_, op)| op.job.0));
    let hot = !sorted.grants.is_empty() || !sorted.ends.is_empty();
    let letters = !(sorted.cancels.is_empty()
        && sorted.retries.is_empty()
        && sorted.replays.is_empty()
        && sorted.forgets.is_empty());
    let mut shared = Vec::new();
    if hot || !changed.is_empty() {
        shared = keys::holders(batch, keys).await?;
        shared.extend(uniques.holders(batch).await?);
    }
    if parents.is_empty() && shared.is_empty() {
        if !changed.is_empty() {
            held::lock(batch, &changed, letters).await?;
        }
    } else if changed.is_empty() && !hot {
        held::lock_shared(batch, &parents).await?;
    } else {
        changed.extend(parents);
        changed.extend(shared);
        changed.extend(sorted.grants.iter().map(|(_, op)| op.job.0));
        changed.extend(sorted.ends.iter().map(|(_, op)| op.job.0));
        held::lock(batch, &changed, true).await?;
    }
    Ok(())
}
