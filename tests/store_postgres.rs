//! PostgreSQL against the conformance suite, and what is its own.
//!
//! Without the epoch check, or without the fence in the statement that ends leases, tests must fail:
//!
//! ```text
//! RUSTFLAGS='--cfg ganger_broken="no_epoch_check"' cargo test --target-dir target/broken --test store_postgres
//! RUSTFLAGS='--cfg ganger_broken="no_fence_check"' cargo test --target-dir target/broken --test store_postgres
//! ```

#[cfg(test)]
#[macro_use]
mod conformance;
#[cfg(test)]
mod support;

#[cfg(test)]
#[path = "store_postgres/bench.rs"]
mod bench;
#[cfg(test)]
#[path = "store_postgres/faults.rs"]
mod faults;
#[cfg(test)]
#[path = "store_postgres/kitchen.rs"]
mod kitchen;
#[cfg(test)]
#[path = "store_postgres/late.rs"]
mod late;
#[cfg(test)]
#[path = "store_postgres/ownership.rs"]
mod ownership;
#[cfg(test)]
#[path = "store_postgres/races.rs"]
mod races;
#[cfg(test)]
#[path = "store_postgres/statements.rs"]
mod statements;
#[cfg(test)]
#[path = "store_postgres/upgrade.rs"]
mod upgrade;

#[cfg(test)]
mod postgres {
    use std::sync::Arc;

    use ganger::store::Store;

    use super::{conformance, kitchen};

    async fn fresh() -> (Arc<dyn Store>, String) {
        let url = kitchen::database().await;
        (kitchen::open(&url).await, url)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn broken_counters_are_healed() {
        let (kit, url) = kitchen::fresh().await;
        let spoil = |shard: ganger::domain::ShardId, queue: &'static str, column: &'static str, by: i64| {
            let url = url.clone();
            async move {
                let mut plain = kitchen::plain(&url).await;
                let sql = format!(
                    "update counter set {column} = {column} + $3 where shard = $1 and queue = $2 and lane = 0"
                );
                let done = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(shard.0).bind(queue).bind(by);
                assert_eq!(done.execute(&mut plain).await.expect("spoils").rows_affected(), 1);
            }
        };
        conformance::reconcile::broken_counters_are_healed_under_load(kit, spoil).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn missing_fingerprints_are_made_by_upkeep() {
        let (kit, url) = kitchen::fresh().await;
        let forget = async || {
            let mut plain = kitchen::plain(&url).await;
            let done = sqlx::raw_sql("update dead_letter set fingerprint = ''").execute(&mut plain).await;
            assert_eq!(done.expect("forgets").rows_affected(), 4);
        };
        conformance::dead_letters::missing_fingerprints_are_made_by_upkeep(kit, forget).await;
    }

    conformance!(fresh);
}
