//! PostgreSQL against the conformance suite, and what is its own.
//!
//! Built with `--cfg ganger_broken="no_epoch_check"` or `"no_fence_check"`, tests of the suite and of
//! `ownership` must fail: see `tests/store_postgres/broken`.

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
#[path = "store_postgres/ownership.rs"]
mod ownership;
#[cfg(test)]
#[path = "store_postgres/races.rs"]
mod races;
#[cfg(test)]
#[path = "store_postgres/statements.rs"]
mod statements;

#[cfg(test)]
mod postgres {
    use std::sync::Arc;

    use ganger::store::Store;

    use super::{conformance, kitchen, support::PgServer};

    async fn fresh() -> (Arc<dyn Store>, String) {
        let url = PgServer::shared().create_database().await;
        (kitchen::open(&url).await, url)
    }

    conformance!(fresh);
}
