//! What the tests of this engine share: databases, plain connections, pauses.

use std::{sync::Arc, time::Duration};

use ganger::store::{
    Store,
    postgres::{PostgresOptions, PostgresStore},
};
use sqlx::{Connection, PgConnection};
use tokio::sync::OnceCell;

use super::{
    conformance::kit::Kit,
    support::{PgServer, wait_for},
};

/// Nothing here takes longer on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A database of its own that has the schema: a copy of one that was migrated once, which takes longer than most cases.
pub(crate) async fn database() -> String {
    static MIGRATED: OnceCell<String> = OnceCell::const_new();
    let template = MIGRATED.get_or_init(|| async {
        let url = PgServer::shared().create_database().await;
        let store = open(&url).await;
        store.migrate(true).await.expect("migrates");
        store.close().await;
        url.rsplit('/').next().expect("has a name").to_owned()
    });
    PgServer::shared().copy_database(template.await).await
}

/// A store of its own with a kit over it, and the database's URL.
pub(crate) async fn fresh() -> (Kit, String) {
    let url = database().await;
    (Kit::new(open(&url).await).await, url)
}

pub(crate) async fn open(url: &str) -> Arc<PostgresStore> {
    Arc::new(PostgresStore::connect(url, PostgresOptions::default()).await.expect("connects"))
}

/// A connection beside the store's.
pub(crate) async fn plain(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("connects")
}

/// A transaction that stops every batch that counts a job of `queue` on `lane`, just before its COMMIT.
pub(crate) async fn pause_before_commit(url: &str, queue: &str, lane: i16) -> PgConnection {
    let mut pause = plain(url).await;
    sqlx::raw_sql("begin").execute(&mut pause).await.expect("begins");
    sqlx::query(
        "insert into counter (shard, queue, lane) values ($1, $2, $3)
         on conflict (shard, queue, lane) do update set queued = counter.queued",
    )
    .bind(ganger::domain::ShardId::of_queue(queue).0)
    .bind(queue)
    .bind(lane)
    .execute(&mut pause)
    .await
    .expect("holds the counter");
    pause
}

/// Waits until `count` of the store's lanes wait for a lock.
pub(crate) async fn until_waiting(url: &str, count: i64) {
    let watch = Arc::new(tokio::sync::Mutex::new(plain(url).await));
    wait_for("lanes wait for a lock", SOON, || {
        let watch = watch.clone();
        async move {
            let waiting: i64 = sqlx::query_scalar(
                "select count(*) from pg_stat_activity where datname = current_database()
                   and application_name like 'ganger lane %' and wait_event_type = 'Lock'",
            )
            .fetch_one(&mut *watch.lock().await)
            .await
            .expect("reads the activity");
            if waiting == count { Ok(()) } else { Err(format!("{waiting} wait")) }
        }
    })
    .await;
}

pub(crate) async fn end(mut transaction: PgConnection, how: &'static str) {
    sqlx::raw_sql(how).execute(&mut transaction).await.expect("ends the transaction");
    transaction.close().await.expect("closes");
}
