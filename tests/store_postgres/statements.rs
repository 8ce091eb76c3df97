//! Every statement prepares, and none of them walks a large table.

use ganger::store::postgres::PostgresStore;
use sqlx::{AssertSqlSafe, Either, Executor, SqlSafeStr, Statement};

use super::kitchen::{fresh, plain};

/// The tables that grow with the number of jobs.
const LARGE: [&str; 7] = ["job_", "job_live", "lease", "outcome", "event", "dependency", "idempotency"];

#[tokio::test]
async fn every_statement_prepares() {
    let (_kit, url) = fresh().await;
    let mut connection = plain(&url).await;
    let statements = PostgresStore::statements();
    assert!(statements.len() > 60, "the list has lost statements: {}", statements.len());
    for (name, text) in statements {
        let prepared = (&mut connection).prepare(SqlSafeStr::into_sql_str(text)).await;
        prepared.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// 30,000 rows in each large table.
const FILL: &str = "
insert into job (id, created_at, run_at, max_attempts, timeout_seconds, schema_version, priority, birth_state, kind,
                 queue, tenant, payload)
select (lpad(to_hex((extract(epoch from now()) * 1000)::bigint + n), 12, '0') || '7000'
        || '8' || lpad(to_hex(n), 15, '0'))::uuid,
       now(), now(), 5, 300, 1, 5, 0, 'k', 'q', 't', '{}' from generate_series(1, 60000) n;
insert into job_live (id, run_at, updated_at, shard, priority, state, queue, kind, tenant)
select id, run_at, now(), 1, 5, 0, queue, kind, tenant from job order by id limit 30000;
insert into lease (job_id, session, boot, granted_at, fence, ttl_ms, started_seq, event_seq, attempt, shard, queue,
                   worker)
select id, id, id, now(), 1, 1000, 2, 2, 1, 1, queue, 'w' from job_live;
insert into outcome (job_id, finished_at, run_at, fence, event_seq, attempt, shard, priority, state, end_kind, queue,
                     kind, tenant)
select id, now(), now(), 1, 2, 1, 1, 5, 6, 6, queue, kind, tenant from job order by id desc limit 30000;
insert into event (job_id, seq, at, kind, state) select id, 2, now(), 0, 0 from job;
insert into attempt (job_id, fence, started_at, finished_at, attempt, status, worker)
select id, 1, now(), now(), 1, 1, 'w' from job;
insert into dependency (parent, child, child_shard, policy, met)
select id, (select id from job order by id limit 1), 1, 0, false from job;
insert into idempotency (tenant, key, job_id, expires_at, fingerprint)
select 't', id::text, id, now(), '' from job;
analyze;";

/// Counts every finished job, which it is meant to do, a few times a day.
const WALKS: [&str; 1] = ["reconcile ended"];

/// Searches that put the rows of their step in order, which come one state after the other.
const SORTED: [&str; 1] = ["search unhappy"];

/// Statements that read what is behind gates, in its order.
const GATED: [&str; 2] = ["gate unpark", "queues gates"];

/// As the lanes set them, but for the switch that makes the planner avoid sequential scans.
const SETTINGS: &str = "set plan_cache_mode = force_generic_plan; set enable_hashjoin = off;
set enable_mergejoin = off; set enable_material = off; set jit = off";

#[tokio::test]
async fn no_statement_walks_a_large_table() {
    let (_kit, url) = fresh().await;
    let mut connection = plain(&url).await;
    sqlx::raw_sql(FILL).execute(&mut connection).await.expect("fills the tables");
    sqlx::raw_sql(SETTINGS).execute(&mut connection).await.expect("sets");
    // Readers avoid them by the switch, since a filter that may be null looks like no filter to the planner.
    sqlx::raw_sql("set enable_seqscan = off").execute(&mut connection).await.expect("sets");
    for (index, (name, text)) in PostgresStore::statements().into_iter().enumerate() {
        let prepared = (&mut connection).prepare(SqlSafeStr::into_sql_str(text)).await.expect("prepares");
        let count = match prepared.parameters() {
            Some(Either::Left(types)) => types.len(),
            Some(Either::Right(count)) => count,
            None => 0,
        };
        let mut values = vec!["null"; count];
        if name.starts_with("search ") {
            // Nulls would leave no partition to look at.
            values[0] = "'ffffffff-ffff-ffff-ffff-ffffffffffff'";
            values[if name.contains("bound") { 1 } else { 12 }] = "'00000000-0000-0000-0000-000000000000'";
        }
        let arguments = if count == 0 { String::new() } else { format!("({})", values.join(", ")) };
        let prepare = format!("prepare s{index} as {text}");
        sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut connection).await.expect("prepares");
        let explain = format!("explain execute s{index}{arguments}");
        let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain))
            .fetch_all(&mut connection)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let walked = plan.iter().find(|line| {
            line.contains("Seq Scan on ")
                && LARGE.iter().any(|table| line.contains(&format!("Seq Scan on {table}")))
        });
        assert!(walked.is_none() || WALKS.contains(&name), "{name} walks a table:\n{}", plan.join("\n"));
        if name.starts_with("search ") {
            // The step's own rows, by their ids: whatever else there is, it is not read.
            let ids = |line: &&String| {
                line.contains("Index Cond") && line.contains("id < $1)") && line.contains("id >= $")
            };
            assert!(plan.iter().any(|line| ids(&line)), "{name} leaves its step:\n{}", plan.join("\n"));
            let sorts = plan.iter().any(|line| line.contains("Sort  (") && !line.contains("Incremental"));
            assert!(!sorts || SORTED.contains(&name), "{name} sorts:\n{}", plan.join("\n"));
        }
        if GATED.contains(&name) {
            let gated = plan.iter().any(|line| line.contains("using job_live_gate "));
            assert!(gated, "{name} does not follow the gates:\n{}", plan.join("\n"));
            assert!(!plan.iter().any(|line| line.contains("Sort")), "{name} sorts:\n{}", plan.join("\n"));
        }
    }
}
