//! The first schema, filled and then brought up to date.

use std::borrow::Cow;

use sqlx::{
    AssertSqlSafe, SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};

use super::{
    conformance::{
        kit::Kit,
        upgrade::{Old, what_the_first_schema_held_is_all_there},
    },
    kitchen::{open, plain},
    support::PgServer,
};

const FIRST: &str = include_str!("../../migrations/postgres/0001_store.sql");

const ROWS: &str = "
    insert into job (id, created_at, run_at, max_attempts, timeout_seconds, schema_version, priority, birth_state,
                     kind, queue, tenant, payload)
    select u.id, now() - interval '1 hour', now() - interval '1 hour' + u.delay, 5, 300, 1, 5, u.state,
           'mail.send', 'mail', 'default', '{\"to\": \"a\"}'
    from (values ($queued::uuid, interval '0', 0::smallint), ($scheduled, interval '2 hours', 1), ($active, '0', 0),
                 ($completed, '0', 0), ($dead, '0', 0)) u (id, delay, state);
    insert into job_live (id, run_at, updated_at, shard, priority, state, queue, kind, tenant)
    select id, run_at, created_at, $SHARD, 5, birth_state, queue, kind, tenant from job
    where id not in ($completed, $dead);
    insert into lease (job_id, session, boot, granted_at, fence, ttl_ms, started_seq, event_seq, attempt, shard, queue,
                       worker)
    values ($active, gen_random_uuid(), gen_random_uuid(), now() - interval '30 minutes', $FENCE, 30000, 2, 2, 1,
            $SHARD, 'mail', 'w');
    insert into outcome (job_id, finished_at, started_at, run_at, fence, event_seq, started_seq, attempt, shard,
                         priority, state, end_kind, attempt_status, queue, kind, tenant, worker, error_type,
                         error_message)
    select id, now() - interval '10 minutes', now() - interval '20 minutes', run_at, $FENCE, 3, 2, 1, $SHARD, 5,
           case id when $dead then 7 else 6 end, case id when $dead then $FAILED else $COMPLETED end,
           case id when $dead then 3 else 1 end, queue, kind, tenant, 'w',
           case id when $dead then 'smtp' end, case id when $dead then 'mailbox is full' end
    from job where id in ($completed, $dead);
    insert into dead_letter (job_id, failed_at, shard, queue)
    select job_id, finished_at, shard, queue from outcome where state = 7;
    insert into counter (shard, queue, lane, queued, scheduled, active, completed, failed)
    values ($SHARD, 'mail', 1, 1, 1, 1, 1, 1);";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_first_schema_held_is_all_there_after_the_second() {
    let url = PgServer::shared().create_database().await;
    let mut plain = plain(&url).await;
    let name = Cow::Borrowed("store");
    let first = Migration::new(1, name, MigrationType::Simple, FIRST.into_sql_str(), false);
    Migrator::with_migrations(vec![first])
        .run_direct(None, &mut plain, false)
        .await
        .expect("the first schema");
    let old = Old::new();
    let rows = old.sql(ROWS, |id| format!("'{id}'"));
    sqlx::raw_sql(AssertSqlSafe(rows)).execute(&mut plain).await.expect("fills it");
    what_the_first_schema_held_is_all_there(Kit::new(open(&url).await).await, old).await;
}
