//! All of a job.

use super::super::PostgresStore;
use crate::{
    domain::JobId,
    store::{StoreError, read::Inspection},
};

pub(super) const STATEMENTS: &[(&str, &str)] = &[];

pub(in super::super) async fn inspect(_store: &PostgresStore, _id: JobId) -> Result<Option<Inspection>, StoreError> {
    Ok(None)
}
