//! What PostgreSQL itself can do with the rows of a job's life: the limit that `ganger-bench` measures
//! beside the node, in the same run and on the same server.
//!
//! Bare UNNEST batches over connections of their own, on copies of the real tables with their indexes and
//! checks, but with no shard check, no counters, no fence and nobody who waits for an answer.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::error::store_error;
use crate::store::StoreError;

const SETUP: &str = "
drop schema if exists ganger_raw cascade;
create schema ganger_raw;
create table ganger_raw.job (like public.job including all);
create table ganger_raw.job_live (like public.job_live including all);
create table ganger_raw.lease (like public.lease including all);
create table ganger_raw.outcome (like public.outcome including all);";

const TEARDOWN: &str = "drop schema if exists ganger_raw cascade";

const INSERT: &str = "with j as (
    insert into ganger_raw.job (id, created_at, run_at, max_attempts, timeout_seconds, schema_version, priority,
           birth_state, kind, queue, tenant, payload)
    select u.id, now(), now(), 5, 300, 1, 5, 0, 'noop', 'bench', 'default', u.payload::json
    from unnest($1::uuid[], $2::text[]) as u (id, payload)
)
insert into ganger_raw.job_live (id, run_at, updated_at, shard, priority, state, queue, kind, tenant)
select u.id, now(), now(), 1, 5, 0, 'bench', 'noop', 'default' from unnest($1::uuid[]) as u (id)";

const LEASE: &str =
    "insert into ganger_raw.lease (job_id, session, boot, granted_at, fence, ttl_ms, started_seq,
       event_seq, attempt, shard, queue, worker)
select u.id, u.id, u.id, now(), 4294967296, 30000, 2, 2, 1, 1, 'bench', 'bench/local'
from unnest($1::uuid[]) as u (id)";

const END: &str = "with gone as (
    delete from ganger_raw.job_live l using unnest($1::uuid[]) as u (id) where l.id = u.id and l.id = any($1)
    returning l.*
), ended as (
    delete from ganger_raw.lease e using gone g where e.job_id = g.id and e.job_id = any($1)
    returning g.*, e.fence as lease_fence, e.event_seq as lease_seq, e.attempt as lease_attempt,
              e.worker, e.granted_at, e.started_seq
)
insert into ganger_raw.outcome (job_id, finished_at, started_at, run_at, fence, event_seq, started_seq, attempt,
       deaths, replay_count, shard, priority, state, end_kind, attempt_status, queue, kind, tenant, worker)
select id, now(), granted_at, run_at, lease_fence, lease_seq + 1, started_seq, lease_attempt, deaths, replay_count,
       shard, priority, 6, 6, 1, queue, kind, tenant, worker
from ended";

/// How fast bare batches went.
#[derive(Debug, Clone, Copy)]
pub struct RawLimit {
    /// Rows of `job` and `job_live` inserted, in jobs per second.
    pub insert_per_second: f64,
    /// Leases inserted and jobs completed, in jobs per second.
    pub drain_per_second: f64,
    /// Whole lives: both together, in jobs per second.
    pub life_per_second: f64,
}

/// Inserts and completes `jobs` jobs by bare batches of `batch` over `connections` connections, on scratch
/// tables that are dropped again.
///
/// # Errors
/// The server's.
pub async fn raw_limit(
    url: &str,
    jobs: usize,
    batch: usize,
    connections: usize,
    payload: &str,
) -> Result<RawLimit, StoreError> {
    let mut setup = PgConnection::connect(url).await.map_err(store_error)?;
    sqlx::raw_sql(SETUP).execute(&mut setup).await.map_err(store_error)?;
    let ids: Vec<Uuid> = (0..jobs).map(|_| Uuid::now_v7()).collect();
    let parts: Vec<&[Uuid]> = ids.chunks(jobs.div_ceil(connections.max(1)).max(1)).collect();
    let inserted = measure(url, &parts, batch, &[INSERT], Some(payload)).await?;
    let drained = measure(url, &parts, batch, &[LEASE, END], None).await?;
    sqlx::query(TEARDOWN).execute(&mut setup).await.map_err(store_error)?;
    setup.close().await.map_err(store_error)?;
    let rate = |took: Duration| jobs as f64 / took.as_secs_f64();
    Ok(RawLimit {
        insert_per_second: rate(inserted),
        drain_per_second: rate(drained),
        life_per_second: rate(inserted + drained),
    })
}

async fn measure(
    url: &str,
    parts: &[&[Uuid]],
    batch: usize,
    statements: &[&'static str],
    payload: Option<&str>,
) -> Result<Duration, StoreError> {
    let connect = || async { PgConnection::connect(url).await.map_err(store_error) };
    let connections = try_join_all(parts.iter().map(|_| connect())).await?;
    let began = Instant::now();
    let work = parts.iter().zip(connections).map(|(part, mut connection)| async move {
        for ids in part.chunks(batch.max(1)) {
            // Each statement is a transaction of its own, as the node's grants and ends are.
            for statement in statements {
                let mut query = sqlx::query(*statement).bind(ids);
                if let Some(payload) = payload {
                    query = query.bind(vec![payload; ids.len()]);
                }
                query.execute(&mut connection).await.map_err(store_error)?;
            }
        }
        Ok::<_, StoreError>(())
    });
    try_join_all(work).await?;
    Ok(began.elapsed())
}
