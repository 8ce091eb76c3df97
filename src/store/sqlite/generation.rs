//! Recognises a database that was put back from a backup.
//!
//! The database and a file beside it hold the same random id and are given a new one at each start,
//! the database first (it keeps the one before, so that a crash in between is no restore). The file also
//! holds the number of a batch that the database had committed when it was written, at each heartbeat:
//! a database that was copied and put back within one start has the right id but misses that batch.
//!
//! ```text
//! meta: generation g2, generation_before g1, batch_seq 812      file: g2 790      the same
//! meta: generation g2, generation_before g1, batch_seq 812      file: g1 640      crashed at start
//! meta: generation g1, generation_before g0, batch_seq 500      file: g2 790      restored
//! meta: generation g2, generation_before g1, batch_seq 700      file: g2 790      restored
//! ```
//!
//! A copy of the whole directory cannot be told from the original: `--restored` says so.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use sqlx::SqliteConnection;
use uuid::Uuid;

use super::error::store_error;
use crate::store::StoreError;

const READ: &str = "
    select (select value from meta where key = 'generation'),
           (select value from meta where key = 'generation_before'),
           (select value from meta where key = 'batch_seq')";

const WRITE: &str = "
    insert into meta (key, value) values ('generation', ?1), ('generation_before', ?2)
    on conflict (key) do update set value = excluded.value";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[("read generation", READ), ("write generation", WRITE)];

/// What the database says of itself.
pub(super) struct Recorded {
    current: Option<String>,
    before: Option<String>,
    /// Its newest batch.
    pub(super) batch_seq: i64,
}

/// Reads what the database says.
pub(super) async fn read(conn: &mut SqliteConnection) -> Result<Recorded, StoreError> {
    let (current, before, batch_seq) = sqlx::query_as(READ).fetch_one(conn).await.map_err(store_error)?;
    Ok(Recorded { current, before, batch_seq })
}

impl Recorded {
    /// Whether the database is not the one that the file was written for.
    pub(super) fn is_restored(&self, dir: &Path) -> Result<bool, StoreError> {
        let Some(current) = &self.current else {
            // A new database beside an old file: the database was taken away.
            return Ok(file(dir)?.is_some());
        };
        Ok(match file(dir)? {
            None => true,
            Some((id, seq)) => {
                let known = id == *current || self.before.as_ref() == Some(&id);
                !known || self.batch_seq < seq
            }
        })
    }

    /// Gives the database a new id, in the caller's transaction; returns it for the file, which is
    /// written after the commit.
    pub(super) async fn renew(&self, conn: &mut SqliteConnection) -> Result<String, StoreError> {
        let next = Uuid::new_v4().to_string();
        sqlx::query(WRITE).bind(&next).bind(&self.current).execute(conn).await.map_err(store_error)?;
        Ok(next)
    }
}

fn file(dir: &Path) -> Result<Option<(String, i64)>, StoreError> {
    match fs::read_to_string(dir.join("generation")) {
        Ok(text) => {
            Ok(text.split_once(' ').and_then(|(id, seq)| Some((id.to_owned(), seq.trim().parse().ok()?))))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unavailable("read", &error)),
    }
}

/// Writes the file: whole, or not at all.
pub(super) fn write_file(dir: &Path, id: &str, batch_seq: i64) -> Result<(), StoreError> {
    let write = || -> io::Result<()> {
        let temporary = dir.join("generation.new");
        let mut new = File::create(&temporary)?;
        writeln!(new, "{id} {batch_seq}")?;
        new.sync_all()?;
        fs::rename(&temporary, dir.join("generation"))?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|error| unavailable("write", &error))
}

fn unavailable(what: &str, error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("failed to {what} the generation file: {error}"))
}
