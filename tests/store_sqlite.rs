//! The embedded engine against the conformance suite, and what is its own.

#[cfg(test)]
#[macro_use]
mod conformance;

#[cfg(test)]
mod sqlite {
    use std::sync::Arc;

    use ganger::store::{
        Store,
        sqlite::{SqliteOptions, SqliteStore},
    };
    use tempfile::TempDir;

    use super::conformance;

    async fn fresh() -> (Arc<dyn Store>, TempDir) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = SqliteStore::open(dir.path(), SqliteOptions::default()).await.expect("opens");
        (Arc::new(store), dir)
    }

    conformance!(fresh);
}
