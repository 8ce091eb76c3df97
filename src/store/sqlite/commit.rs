//! A batch as one transaction.
//!
//! An operation that the store refuses must not take its batch with it: the batch is run again in
//! halves, each under a savepoint, until the one at fault stands alone. There is one `commit` in any
//! case, so its unknown outcome is that of the whole batch.

use std::{collections::HashSet, future::Future, pin::Pin, time::Duration};

use sqlx::SqliteConnection;
use tokio::time::timeout;

use super::{
    audit, batch::Batch, cancel, end, error::store_error, forget, gate, grant, inbox, log, replay, retry,
    settings, submit, update, wake, writer,
};
use crate::{
    domain::{ShardEpoch, Timestamp},
    store::{CommitError, Op, OpResult, Settled, StoreError, UnknownCommit},
};

const NEXT_SEQ: &str = "update meta set value = value + 1 where key = 'batch_seq' returning value";
const SAVEPOINT: &str = "savepoint half";
const RELEASE: &str = "release half";
const UNDO: &str = "rollback to half";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[("next batch", NEXT_SEQ), ("savepoint", SAVEPOINT)];

/// A batch that takes longer is given up: the caller has a deadline too.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// How often a batch that met a lock is tried again. Nobody else should hold one.
const TRIES: u32 = 3;

/// The number of a batch whose commit was not answered.
pub(super) struct Witness(pub(super) i64);

/// Commits `ops` over the writing connection.
pub(super) async fn commit(writer: &mut writer::Writer, ops: &[Op]) -> Result<Vec<OpResult>, CommitError> {
    let mut tries = 0;
    let (seq, results) = loop {
        tries += 1;
        match timeout(DEADLINE, attempt(writer, ops)).await {
            Ok(Ok(done)) => break done,
            Ok(Err(StoreError::Conflict(_))) if tries < TRIES => writer.rollback().await,
            Ok(Err(error)) => {
                writer.rollback().await;
                return Err(CommitError::Failed(error));
            }
            // The connection is left as it is: the next use replaces it, which rolls back.
            Err(_) => {
                return Err(CommitError::Failed(StoreError::Unavailable("a batch took too long".into())));
            }
        }
    };
    // Until it is answered: the caller may go away, and what comes next must not mistake its number.
    writer.unsettled = Some(seq);
    let cause = match timeout(DEADLINE, writer.try_commit()).await {
        Ok(Ok(())) => match crate::store::pass_after_commit(ops) {
            Ok(()) => {
                writer.unsettled = None;
                return Ok(results);
            }
            Err(cause) => cause,
        },
        Ok(Err(writer::CommitFault::Undone(error))) => {
            writer.unsettled = None;
            return Err(CommitError::Failed(error));
        }
        Ok(Err(writer::CommitFault::Unknown(error))) => error.to_string(),
        Err(_) => "the commit took too long".to_owned(),
    };
    Err(CommitError::Unknown(UnknownCommit { results, witness: Box::new(Witness(seq)), cause }))
}

/// Runs the batch up to its `commit`; an operation at fault makes it run again in halves.
async fn attempt(writer: &mut writer::Writer, ops: &[Op]) -> Result<(i64, Vec<OpResult>), StoreError> {
    let conn = writer.begin().await?;
    let now = writer::now();
    let seq = next_seq(conn).await?;
    match run(conn, now, ops).await {
        Ok(results) => return Ok((seq, results)),
        Err(StoreError::Refused(_)) => (),
        Err(error) => return Err(error),
    }
    writer.rollback().await;
    let conn = writer.begin().await?;
    let seq = next_seq(conn).await?;
    let results = run_halved(conn, now, ops).await?;
    Ok((seq, results))
}

async fn next_seq(conn: &mut SqliteConnection) -> Result<i64, StoreError> {
    sqlx::query_scalar(NEXT_SEQ).fetch_one(conn).await.map_err(store_error)
}

type Halved<'a> = Pin<Box<dyn Future<Output = Result<Vec<OpResult>, StoreError>> + Send + 'a>>;

fn run_halved<'a>(conn: &'a mut SqliteConnection, now: Timestamp, ops: &'a [Op]) -> Halved<'a> {
    Box::pin(async move {
        execute(conn, SAVEPOINT).await?;
        match run(conn, now, ops).await {
            Ok(results) => {
                execute(conn, RELEASE).await?;
                Ok(results)
            }
            Err(StoreError::Refused(why)) => {
                execute(conn, UNDO).await?;
                execute(conn, RELEASE).await?;
                if ops.len() == 1 {
                    return Ok(vec![OpResult::Refused(why)]);
                }
                let (left, right) = ops.split_at(ops.len() / 2);
                let mut results = run_halved(conn, now, left).await?;
                results.extend(run_halved(conn, now, right).await?);
                Ok(results)
            }
            Err(error) => Err(error),
        }
    })
}

async fn execute(conn: &mut SqliteConnection, sql: &'static str) -> Result<(), StoreError> {
    sqlx::query(sql).execute(conn).await.map_err(store_error)?;
    Ok(())
}

/// Runs operations: the shard check, then kind by kind in the order both engines keep.
async fn run(conn: &mut SqliteConnection, now: Timestamp, ops: &[Op]) -> Result<Vec<OpResult>, StoreError> {
    let mut results: Vec<Option<OpResult>> = Vec::new();
    results.resize_with(ops.len(), || None);
    let mut batch = Batch::new(conn, now);

    let owners: HashSet<ShardEpoch> = ops.iter().filter_map(Op::shard_epoch).collect();
    let lost = batch.lost(&owners).await?;
    let mut kinds = Kinds::default();
    for (index, op) in ops.iter().enumerate() {
        if let Some(owner) = op.shard_epoch().filter(|owner| lost.contains(owner)) {
            results[index] = Some(OpResult::FenceLost(owner.shard));
            continue;
        }
        match op {
            Op::Submit(op) => kinds.submits.push((index, op)),
            Op::Grant(op) => kinds.grants.push((index, op)),
            Op::End(op) => kinds.ends.push((index, op)),
            Op::Cancel(op) => kinds.cancels.push((index, op)),
            Op::Retry(op) => kinds.retries.push((index, op)),
            Op::Inbox(op) => kinds.inboxes.push((index, op)),
            Op::Park(op) => kinds.parks.push((index, op)),
            Op::Unpark(op) => kinds.unparks.push((index, op)),
            Op::Update(op) => kinds.updates.push((index, op)),
            Op::Replay(op) => kinds.replays.push((index, op)),
            Op::Forget(op) => kinds.forgets.push((index, op)),
            Op::Settings(op) => kinds.settings.push((index, op)),
            Op::Log(op) => kinds.logs.push((index, op)),
            Op::Audit(op) => kinds.audits.push((index, op)),
        }
    }
    let mut told = wake::Told::default();
    submit::run(&mut batch, &kinds.submits, &mut results).await?;
    grant::run(&mut batch, &kinds.grants, &mut results).await?;
    end::run(&mut batch, &kinds.ends, &mut told, &mut results).await?;
    cancel::run(&mut batch, &kinds.cancels, &mut told, &mut results).await?;
    retry::run(&mut batch, &kinds.retries, &mut told, &mut results).await?;
    replay::run(&mut batch, &kinds.replays, &mut told, &mut results).await?;
    wake::run(&mut batch, told, &mut results).await?;
    inbox::run(&mut batch, &kinds.inboxes, &mut results).await?;
    gate::park(&mut batch, &kinds.parks, &mut results).await?;
    gate::unpark(&mut batch, &kinds.unparks, &mut results).await?;
    update::run(&mut batch, &kinds.updates, &mut results).await?;
    forget::run(&mut batch, &kinds.forgets, &mut results).await?;
    settings::run(&mut batch, &kinds.settings, &mut results).await?;
    log::run(&mut batch, &kinds.logs, &mut results).await?;
    audit::run(&mut batch, &kinds.audits, &mut results);
    batch.finish().await?;
    crate::store::pass_in_transaction(ops)?;

    let unanswered = || OpResult::Refused("the operation was not answered".to_owned());
    Ok(results.into_iter().map(|result| result.unwrap_or_else(unanswered)).collect())
}

#[derive(Default)]
struct Kinds<'o> {
    submits: Vec<(usize, &'o crate::store::ops::SubmitOp)>,
    grants: Vec<(usize, &'o crate::store::ops::GrantOp)>,
    ends: Vec<(usize, &'o crate::store::ops::EndOp)>,
    cancels: Vec<(usize, &'o crate::store::ops::CancelOp)>,
    retries: Vec<(usize, &'o crate::store::ops::RetryOp)>,
    inboxes: Vec<(usize, &'o crate::store::ops::InboxOp)>,
    parks: Vec<(usize, &'o crate::store::ops::ParkOp)>,
    unparks: Vec<(usize, &'o crate::store::ops::UnparkOp)>,
    updates: Vec<(usize, &'o crate::store::ops::UpdateOp)>,
    replays: Vec<(usize, &'o crate::store::ops::ReplayOp)>,
    forgets: Vec<(usize, &'o crate::store::ops::ForgetOp)>,
    settings: Vec<(usize, &'o crate::store::ops::SettingsOp)>,
    logs: Vec<(usize, &'o crate::store::ops::LogOp)>,
    audits: Vec<(usize, &'o crate::store::ops::AuditOp)>,
}

/// Tells what became of a batch whose commit was not answered.
pub(super) async fn settle(
    writer: &mut writer::Writer,
    unknown: &UnknownCommit,
) -> Result<Settled, StoreError> {
    let lost = unknown.witness.downcast_ref().map(|Witness(lost)| *lost);
    let fate = match lost {
        Some(lost) => writer.fate(lost).await?,
        None => None,
    };
    fate.ok_or_else(|| StoreError::Refused("no commit of this store was lost under that number".into()))
}
