//! All of a job.

use super::{
    super::{PostgresStore, error::store_error, rows::Columns},
    Snapshot, dead_letters, done, graph, parts, snapshot,
};
use crate::{
    domain::{JobId, Timestamp},
    store::{
        StoreError,
        assemble::JobParts,
        read::{DeadLetter, IdempotencyRecord, Inspection},
    },
};

const KEY: &str = "select i.key, i.tenant, i.job_id, i.expires_at
from job j
join idempotency i on i.tenant = j.tenant and i.key = j.idempotency_key
where j.id = $1 and i.job_id = $1";

const LETTER: &str = "select job_id, failed_at, queue, replay_count, last_replayed_at, fingerprint from dead_letter where job_id = $1";

/// How often a job was replayed, wherever that is kept.
const LINEAGE: &str = "select replay_count, last_replayed_at from job_live where id = $1
union all select replay_count, last_replayed_at from outcome where job_id = $1";

pub(super) const STATEMENTS: &[(&str, &str)] =
    &[("inspect key", KEY), ("inspect letter", LETTER), ("inspect lineage", LINEAGE)];

/// The most attempts and timeline rows of an inspection.
const ROWS_MAX: usize = 1_000;

/// All of a job, in one snapshot.
pub(in super::super) async fn inspect(
    store: &PostgresStore,
    id: JobId,
) -> Result<Option<Inspection>, StoreError> {
    let mut snapshot = snapshot(store).await?;
    let Some((now, parts)) = parts::load(&mut snapshot, &[id.0]).await?.into_iter().next() else {
        return Ok(None);
    };
    let events = parts::events(&mut snapshot, id).await?;
    let attempts = parts::attempts(&mut snapshot, id).await?;
    let Some(graph) = graph::load(&mut snapshot, id).await? else {
        return Ok(None);
    };
    let idempotency = key(&mut snapshot, id).await?;
    let dead_letter = letter(&mut snapshot, id, &parts).await?;
    let (replay_count, last_replayed_at) = lineage(&mut snapshot, id).await?;
    done(snapshot).await?;
    Ok(Some(Inspection {
        job: parts.view(now),
        attempts: newest(parts.attempts(attempts)),
        events: newest(parts.timeline(events, now)),
        graph,
        idempotency,
        dead_letter,
        replay_count,
        last_replayed_at,
    }))
}

fn newest<T>(mut rows: Vec<T>) -> Vec<T> {
    rows.split_off(rows.len().saturating_sub(ROWS_MAX))
}

async fn key(snapshot: &mut Snapshot, id: JobId) -> Result<Option<IdempotencyRecord>, StoreError> {
    let row = sqlx::query(KEY).bind(id.0).fetch_optional(snapshot).await.map_err(store_error)?;
    row.map(|row| {
        let mut columns = Columns::of(&row);
        Ok(IdempotencyRecord {
            key: columns.next()?,
            tenant_id: columns.next()?,
            job_id: columns.job()?,
            expires_at: columns.time()?,
        })
    })
    .transpose()
}

async fn letter(
    snapshot: &mut Snapshot,
    id: JobId,
    parts: &JobParts,
) -> Result<Option<DeadLetter>, StoreError> {
    let row = sqlx::query(LETTER).bind(id.0).fetch_optional(snapshot).await.map_err(store_error)?;
    row.map_or(Ok(None), |row| dead_letters::letter(&row, parts))
}

async fn lineage(snapshot: &mut Snapshot, id: JobId) -> Result<(i32, Option<Timestamp>), StoreError> {
    let row = sqlx::query(LINEAGE).bind(id.0).fetch_optional(snapshot).await.map_err(store_error)?;
    row.map_or(Ok((0, None)), |row| {
        let mut columns = Columns::of(&row);
        Ok((columns.next()?, columns.time_or_none()?))
    })
}
