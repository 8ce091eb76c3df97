//! A batch as one transaction.
//!
//! An operation that the store refuses must not take its batch with it: the batch is run again in
//! halves, each under a savepoint, until the one at fault stands alone. There is one `commit` in any
//! case, so its unknown outcome is that of the whole batch.

use std::{collections::HashSet, future::Future, pin::Pin, time::Duration};

use sqlx::SqliteConnection;
use tokio::time::timeout;

use super::{batch::Batch, cancel, end, error::store_error, gate, grant, inbox, retry, submit, wake, writer};
use crate::{
    domain::{ShardEpoch, Timestamp},
    store::{CommitError, Op, OpResult, Settled, StoreError, UnknownCommit},
};

const NEXT_SEQ: &str = "update meta set value = value + 1 where key = 'batch_seq' returning value";
const SEQ: &str = "select value from meta where key = 'batch_seq'";
const SAVEPOINT: &str = "savepoint half";
const RELEASE: &str = "release half";
const UNDO: &str = "rollback to half";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] =
    &[("next batch", NEXT_SEQ), ("newest batch", SEQ), ("savepoint", SAVEPOINT)];

/// A batch that takes longer is given up: the caller has a deadline too.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// How often a batch that met a lock is tried again. Nobody else should hold one.
const TRIES: u32 = 3;

/// The number of a batch whose commit was not answered.
struct Witness(i64);

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
    let cause = match timeout(DEADLINE, writer.commit()).await {
        Ok(Ok(())) => return Ok(results),
        Ok(Err(error)) => error.to_string(),
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
        }
    }
    let mut ended = wake::Ended::default();
    submit::run(&mut batch, &kinds.submits, &mut results).await?;
    grant::run(&mut batch, &kinds.grants, &mut results).await?;
    end::run(&mut batch, &kinds.ends, &mut ended, &mut results).await?;
    cancel::run(&mut batch, &kinds.cancels, &mut ended, &mut results).await?;
    retry::run(&mut batch, &kinds.retries, &mut results).await?;
    wake::run(&mut batch, ended, &mut results).await?;
    inbox::run(&mut batch, &kinds.inboxes, &mut results).await?;
    gate::park(&mut batch, &kinds.parks, &mut results).await?;
    gate::unpark(&mut batch, &kinds.unparks, &mut results).await?;
    batch.finish().await?;

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
}

/// Finds out whether a batch whose commit was not answered happened. If it did not, a batch number is
/// written over what the lost commit may have left in the log, so that no crash brings it back.
pub(super) async fn settle(
    writer: &mut writer::Writer,
    unknown: &UnknownCommit,
) -> Result<Settled, StoreError> {
    let Some(Witness(lost)) = unknown.witness.downcast_ref() else {
        return Err(StoreError::Refused("a batch of another store".into()));
    };
    let conn = writer.begin().await?;
    let newest: i64 = sqlx::query_scalar(SEQ).fetch_one(&mut *conn).await.map_err(store_error)?;
    if newest >= *lost {
        writer.rollback().await;
        return Ok(Settled::Committed);
    }
    next_seq(conn).await?;
    // Twice, so that the number of the lost batch is never given to another.
    next_seq(conn).await?;
    writer.commit().await?;
    Ok(Settled::RolledBack)
}
