//! Dependency graphs.

use super::super::PostgresStore;
use crate::{
    domain::JobId,
    store::{StoreError, read::Graph},
};

pub(super) const STATEMENTS: &[(&str, &str)] = &[];

pub(in super::super) async fn graph(_store: &PostgresStore, _id: JobId) -> Result<Option<Graph>, StoreError> {
    Ok(None)
}
