//! PostgreSQL against the conformance suite, and what is its own.

#[cfg(test)]
#[macro_use]
mod conformance;
#[cfg(test)]
mod support;

#[cfg(test)]
#[path = "store_postgres/bench.rs"]
mod bench;

#[cfg(test)]
mod postgres {
    use std::sync::Arc;

    use ganger::store::{
        Store,
        postgres::{PostgresOptions, PostgresStore},
    };

    use super::{conformance, support::PgServer};

    async fn fresh() -> (Arc<dyn Store>, ()) {
        let url = PgServer::shared().create_database().await;
        let store = PostgresStore::connect(&url, PostgresOptions::default()).await.expect("connects");
        (Arc::new(store), ())
    }

    conformance!(fresh);
}
