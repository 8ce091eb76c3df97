//! The dependency graph around a job.

use std::collections::{BTreeMap, HashSet};

use sqlx::{SqliteConnection, SqlitePool};

use super::{
    error::store_error,
    readers::snapshot,
    rows::{Cols, ids},
    search::state_shown,
    writer::now,
};
use crate::{
    domain::{DependencyPolicy, JobId, JobState, Timestamp},
    store::{
        StoreError,
        read::{GRAPH_NODES_MAX, Graph, GraphNode},
    },
};

const EXISTS: &str = "select count(*) from job where id = ?1";

/// What is connected to a job, nearest first.
const REACHED: &str = "
    with recursive reached (id) as (
        select ?1
        union select d.parent from reached cross join dependency d on d.child = reached.id
        union select d.child from reached cross join dependency d on d.parent = reached.id
        limit ?2
    )
    select id from reached";

const NODES: &str = concat!(
    "select job.id, job.kind, coalesce(l.queue, o.queue, job.queue), ",
    state_shown!("?2"),
    ", job.dependency_policy, l.blocked_reason
    from jsonb_each(?1) e
    join job on job.id = unhex(e.value)
    left join job_live l on l.id = job.id
    left join lease on lease.job_id = job.id
    left join outcome o on o.job_id = job.id
    order by job.id"
);

const EDGES: &str = "
    select d.parent, d.child
    from jsonb_each(?1) e
    join dependency d on d.child = unhex(e.value)
    order by d.child, d.parent";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] =
    &[("exists", EXISTS), ("reached", REACHED), ("nodes", NODES), ("edges", EDGES)];

/// The graph around a job; `None` for an unknown one.
pub(super) async fn graph(pool: &SqlitePool, id: JobId) -> Result<Option<Graph>, StoreError> {
    let mut tx = snapshot(pool).await?;
    let known: i64 = sqlx::query_scalar(EXISTS).bind(id.0).fetch_one(&mut *tx).await.map_err(store_error)?;
    if known == 0 {
        return Ok(None);
    }
    load(&mut tx, id, now()).await.map(Some)
}

/// The graph around a job that exists, in the caller's snapshot.
pub(super) async fn load(
    conn: &mut SqliteConnection,
    root: JobId,
    now: Timestamp,
) -> Result<Graph, StoreError> {
    let most = i64::try_from(GRAPH_NODES_MAX).unwrap_or(i64::MAX);
    let reached =
        sqlx::query(REACHED).bind(root.0).bind(most + 1).fetch_all(&mut *conn).await.map_err(store_error)?;
    let truncated = reached.len() > GRAPH_NODES_MAX;
    let shown = reached
        .iter()
        .take(GRAPH_NODES_MAX)
        .map(|row| Cols::of(row).job())
        .collect::<Result<HashSet<_>, _>>()?;
    let asked = ids(shown.iter().copied());
    let mut nodes = nodes(conn, asked.clone(), now).await?;
    let edges = sqlx::query(EDGES).bind(asked).fetch_all(&mut *conn).await.map_err(store_error)?;
    for row in &edges {
        let mut cols = Cols::of(row);
        let (parent, child) = (cols.job()?, cols.job()?);
        if !shown.contains(&parent) {
            continue;
        }
        if let Some(node) = nodes.get_mut(&child) {
            node.depends_on.push(parent);
        }
        if let Some(node) = nodes.get_mut(&parent) {
            node.dependents.push(child);
        }
    }
    Ok(Graph { root_job_id: root, nodes: nodes.into_values().collect(), truncated })
}

async fn nodes(
    conn: &mut SqliteConnection,
    asked: String,
    now: Timestamp,
) -> Result<BTreeMap<JobId, GraphNode>, StoreError> {
    let rows = sqlx::query(NODES).bind(asked).bind(now.0).fetch_all(conn).await.map_err(store_error)?;
    let mut nodes = BTreeMap::new();
    for row in &rows {
        let mut cols = Cols::of(row);
        let (job_id, kind, queue) = (cols.job()?, cols.get()?, cols.get()?);
        let state = cols.state()?;
        let policy = cols.opt_code(DependencyPolicy::from_code)?;
        let reason: Option<String> = cols.get()?;
        let node = GraphNode {
            job_id,
            kind,
            state,
            queue,
            depends_on: Vec::new(),
            dependents: Vec::new(),
            dependency_policy: policy.unwrap_or_default(),
            blocked_reason: reason.filter(|_| state == JobState::Blocked),
        };
        nodes.insert(job_id, node);
    }
    Ok(nodes)
}
