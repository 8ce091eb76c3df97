//! Commits: a batch is one transaction on one lane's connection.
//!
//! ```text
//! begin → shard check (share lock, batch mark) → locks in id order → submits → grants → ends
//!       → cancels and retries → inbox → gates → changes, replays, removals → dependents
//!       → events, attempts, inbox rows, audit rows, counters → commit
//! ```
//! A batch that deadlocks is repeated; one that holds a statement the server refuses is tried in halves
//! (and undone) until the operations at fault are known, then committed without them, in one
//! transaction. A connection that ends while COMMIT is on its way leaves the outcome open: `settle` reads
//! the batch's mark, which the transaction wrote together with everything else.

mod admit;
mod audit;
mod batch;
mod dependents;
mod effects;
mod end;
mod forget;
mod gate;
mod grant;
mod held;
mod inbox;
mod keys;
mod lane;
mod log;
mod operator;
mod replay;
mod returned;
mod settings;
mod submit;
mod unique;
mod update;

use std::{collections::BTreeMap, time::Duration};

pub(super) use audit::write as write_audit;
pub(super) use effects::{Effects, UPKEEP_LANE};
pub(super) use lane::{Lane, settle};

use super::{
    PostgresStore,
    error::{is_definite, store_error},
};
use crate::store::{
    StoreError,
    error::{CommitError, UnknownCommit},
    ops::{Op, OpResult},
};
use lane::LaneConnection;

/// Longer than the server's own statement timeout, for a server that does not answer at all.
const BATCH_DEADLINE: Duration = Duration::from_secs(15);

/// COMMIT waits for the disk and for synchronous standbys, not for locks.
const COMMIT_DEADLINE: Duration = Duration::from_secs(10);

/// How often a batch is repeated after deadlocks: each has a victim, so the others go on.
const CONFLICTS_MAX: u32 = 8;

/// Statements by name, for the test that prepares each.
pub(super) fn statements() -> Vec<(&'static str, &'static str)> {
    [
        admit::STATEMENTS,
        audit::STATEMENTS,
        batch::STATEMENTS,
        dependents::STATEMENTS,
        effects::STATEMENTS,
        end::STATEMENTS,
        forget::STATEMENTS,
        gate::STATEMENTS,
        grant::STATEMENTS,
        held::STATEMENTS,
        inbox::STATEMENTS,
        keys::STATEMENTS,
        lane::STATEMENTS,
        log::STATEMENTS,
        operator::STATEMENTS,
        replay::STATEMENTS,
        returned::STATEMENTS,
        settings::STATEMENTS,
        submit::STATEMENTS,
        unique::STATEMENTS,
        update::STATEMENTS,
    ]
    .concat()
}

/// Commits `ops` on `lane`.
pub(super) async fn commit(
    store: &PostgresStore,
    lane: u16,
    ops: &[Op],
) -> Result<Vec<OpResult>, CommitError> {
    if ops.is_empty() {
        return Ok(Vec::new());
    }
    let lane = store
        .lanes
        .get(usize::from(lane))
        .ok_or_else(|| CommitError::Failed(StoreError::Refused(format!("there is no lane {lane}"))))?;
    let mut slot = lane.slot.lock().await;
    let mut refused = BTreeMap::new();
    let (mut conflicts, mut reconnects) = (0, 0);
    loop {
        let reused = slot.is_some();
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => store.open_lane(lane).await.map_err(CommitError::Failed)?,
        };
        match attempt(&mut connection, lane.number, ops, &refused).await {
            Ok(results) => {
                *slot = Some(connection);
                return Ok(results);
            }
            Err(Attempt::Unknown(unknown)) => return Err(CommitError::Unknown(unknown)),
            Err(Attempt::Failed(StoreError::Conflict(_))) if conflicts < CONFLICTS_MAX => {
                conflicts += 1;
                *slot = connection.rolled_back().await;
                let pause = rand::random_range(1..=10_u64 << conflicts.min(5));
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            // A connection that died while it was idle says nothing about the server.
            Err(Attempt::Failed(StoreError::Unavailable(_))) if reused && reconnects == 0 => reconnects += 1,
            Err(Attempt::Failed(StoreError::Refused(text))) => {
                if let Some(mut connection) = connection.rolled_back().await {
                    let found = faults(&mut connection, lane.number, ops, &refused).await?;
                    *slot = connection.rolled_back().await;
                    if found.is_empty() {
                        return Err(CommitError::Failed(StoreError::Refused(text)));
                    }
                    refused.extend(found);
                }
            }
            Err(Attempt::Failed(error)) => {
                *slot = connection.rolled_back().await;
                return Err(CommitError::Failed(error));
            }
        }
    }
}

/// How an attempt at a batch ended short of success.
enum Attempt {
    Failed(StoreError),
    Unknown(UnknownCommit),
}

/// The batch once, without the operations known to be at fault.
async fn attempt(
    connection: &mut LaneConnection,
    lane: i16,
    ops: &[Op],
    refused: &BTreeMap<usize, String>,
) -> Result<Vec<OpResult>, Attempt> {
    let kept: Vec<&Op> =
        ops.iter().enumerate().filter(|(index, _)| !refused.contains_key(index)).map(|(_, op)| op).collect();
    let mut done = run(connection, lane, &kept).await.map_err(Attempt::Failed)?.into_iter();
    let results: Vec<OpResult> = (0..ops.len())
        .filter_map(|index| match refused.get(&index) {
            Some(text) => Some(OpResult::Refused(text.clone())),
            None => done.next(),
        })
        .collect();
    let answer = tokio::time::timeout(COMMIT_DEADLINE, connection.commit()).await;
    let cause = match answer {
        Ok(Ok(())) => match crate::store::pass_after_commit(ops) {
            Ok(()) => return Ok(results),
            Err(cause) => cause,
        },
        Ok(Err(error)) if is_definite(&error) => return Err(Attempt::Failed(store_error(error))),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer to COMMIT within 10 s".to_owned(),
    };
    Err(Attempt::Unknown(UnknownCommit { results, witness: Box::new(connection.witness()), cause }))
}

/// The statements of a batch, up to but without its COMMIT.
async fn run(connection: &mut LaneConnection, lane: i16, ops: &[&Op]) -> Result<Vec<OpResult>, StoreError> {
    match tokio::time::timeout(BATCH_DEADLINE, batch::run(connection, lane, ops)).await {
        Ok(results) => results,
        Err(_) => Err(StoreError::Unavailable("the server did not answer within 15 s".into())),
    }
}

/// Finds the operations that the server refuses, by trying halves; nothing of it stays.
async fn faults(
    connection: &mut LaneConnection,
    lane: i16,
    ops: &[Op],
    known: &BTreeMap<usize, String>,
) -> Result<BTreeMap<usize, String>, CommitError> {
    let all: Vec<(usize, &Op)> =
        ops.iter().enumerate().filter(|(index, _)| !known.contains_key(index)).collect();
    let mut found = BTreeMap::new();
    let mut open = vec![all.as_slice()];
    while let Some(part) = open.pop() {
        let tried: Vec<&Op> = part.iter().map(|(_, op)| *op).collect();
        let result = run(connection, lane, &tried).await;
        connection.rollback().await.map_err(|error| CommitError::Failed(store_error(error)))?;
        match (result, part) {
            (Ok(_), _) => {}
            (Err(StoreError::Refused(text)), [(index, _)]) => {
                found.insert(*index, text);
            }
            (Err(StoreError::Refused(_)), part) => {
                let (first, second) = part.split_at(part.len() / 2);
                open.extend([first, second]);
            }
            (Err(error @ (StoreError::Unavailable(_) | StoreError::Conflict(_))), _) => {
                return Err(CommitError::Failed(error));
            }
        }
    }
    Ok(found)
}
