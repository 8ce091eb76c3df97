//! Dependency graphs.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{
    super::{PostgresStore, error::store_error, rows::Columns},
    Snapshot, done, snapshot,
};
use crate::{
    domain::{JobId, JobState},
    store::{
        StoreError,
        read::{GRAPH_NODES_MAX, Graph, GraphNode},
    },
};

/// What is connected to a job, nearest first.
const REACHED: &str = "with recursive reached (id) as (
    select id from job where id = $1
    union
    select n.id from reached r
    cross join lateral (
        select d.parent as id from dependency d where d.child = r.id
        union all
        select d.child from dependency d where d.parent = r.id
    ) n
)
select id from reached limit $2";

const NODES: &str = "select j.id, j.kind, coalesce(l.queue, o.queue, j.queue), case
        when e.job_id is not null then 5
        when l.id is null then coalesce(o.state, j.birth_state)
        when l.state in (1, 2, 4) and l.gate is null and l.run_at <= now() then 0
        else l.state end::smallint,
       j.dependency_policy, l.blocked_reason
from job j
left join job_live l on l.id = any(array[j.id])
left join lease e on e.job_id = any(array[j.id])
left join outcome o on o.job_id = any(array[j.id])
where j.id = any($1)";

const EDGES: &str = "select parent, child from dependency
where child = any($1) and parent = any($1)
order by child, parent";

pub(super) const STATEMENTS: &[(&str, &str)] =
    &[("graph reached", REACHED), ("graph nodes", NODES), ("graph edges", EDGES)];

/// The graph around a job; `None` for an unknown one.
pub(in super::super) async fn graph(store: &PostgresStore, id: JobId) -> Result<Option<Graph>, StoreError> {
    let mut snapshot = snapshot(store).await?;
    let graph = load(&mut snapshot, id).await?;
    done(snapshot).await?;
    Ok(graph)
}

/// The same in the caller's snapshot.
pub(super) async fn load(snapshot: &mut Snapshot, root: JobId) -> Result<Option<Graph>, StoreError> {
    let most = i64::try_from(GRAPH_NODES_MAX).unwrap_or(i64::MAX);
    let mut reached: Vec<Uuid> = sqlx::query_scalar(REACHED)
        .bind(root.0)
        .bind(most + 1)
        .fetch_all(&mut *snapshot)
        .await
        .map_err(store_error)?;
    if reached.is_empty() {
        return Ok(None);
    }
    let truncated = reached.len() > GRAPH_NODES_MAX;
    reached.truncate(GRAPH_NODES_MAX);
    let mut nodes = nodes(snapshot, &reached).await?;
    let edges = sqlx::query(EDGES).bind(&reached).fetch_all(snapshot).await.map_err(store_error)?;
    for row in &edges {
        let mut columns = Columns::of(row);
        let (parent, child) = (columns.job()?, columns.job()?);
        if let Some(node) = nodes.get_mut(&child) {
            node.depends_on.push(parent);
        }
        if let Some(node) = nodes.get_mut(&parent) {
            node.dependents.push(child);
        }
    }
    Ok(Some(Graph { root_job_id: root, nodes: nodes.into_values().collect(), truncated }))
}

async fn nodes(snapshot: &mut Snapshot, ids: &[Uuid]) -> Result<BTreeMap<JobId, GraphNode>, StoreError> {
    let rows = sqlx::query(NODES).bind(ids).fetch_all(snapshot).await.map_err(store_error)?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row);
            let (job_id, kind, queue) = (columns.job()?, columns.next()?, columns.next()?);
            let (state, policy) = (columns.state()?, columns.policy()?);
            let reason: Option<String> = columns.next()?;
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
            Ok((job_id, node))
        })
        .collect()
}
