//! Fingerprints of dead letters that were written before there were any.

use sqlx::PgConnection;
use uuid::Uuid;

use super::{error::store_error, rows::Columns};
use crate::{domain::fingerprint, store::StoreError};

const MISSING: &str = "select d.job_id, d.error_type, coalesce(o.error_message, '')
from dead_letter d
join outcome o on o.job_id = any(array[d.job_id])
where d.fingerprint = ''
limit $1";

/// In the order of the ids, as batches lock them.
const FILL: &str = "with held as materialized (
    select job_id from dead_letter where job_id = any($1) order by job_id for no key update
)
update dead_letter d set fingerprint = u.fingerprint
from unnest($1::uuid[], $2::text[]) as u (id, fingerprint)
join held h on h.job_id = u.id
where d.job_id = u.id";

pub(super) const STATEMENTS: &[(&str, &str)] =
    &[("fingerprints missing", MISSING), ("fingerprints fill", FILL)];

/// Letters in one step: no lock is held for long.
const STEP: i64 = 2_000;
/// Steps of one round of upkeep, which has more to do; the next one goes on.
const STEPS_MAX: usize = 25;

/// Makes fingerprints that are missing.
pub(super) async fn fill(connection: &mut PgConnection) -> Result<(), StoreError> {
    for _ in 0..STEPS_MAX {
        let rows = sqlx::query(MISSING).bind(STEP).fetch_all(&mut *connection).await.map_err(store_error)?;
        if rows.is_empty() {
            break;
        }
        let (mut ids, mut prints) = (Vec::<Uuid>::new(), Vec::<String>::new());
        for row in &rows {
            let mut columns = Columns::of(row);
            ids.push(columns.next()?);
            prints.push(fingerprint(columns.next()?, columns.next()?));
        }
        sqlx::query(FILL).bind(ids).bind(prints).execute(&mut *connection).await.map_err(store_error)?;
    }
    Ok(())
}
