//! Log lines of attempts.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    super::{
        error::store_error,
        rows::{Columns, clean},
    },
    batch::{Batch, Placed, Results},
};
use crate::{
    domain::{RawJson, Timestamp},
    store::{
        StoreError,
        ops::{LogOp, OpResult},
    },
};

/// The leases that lines are written under, held until the end of the batch, each with the job's newest line.
const HELD: &str = "select w.place, e.attempt, coalesce(n.seq, 0),
       case when n.fence = w.fence then n.line else 0 end
from unnest($1::uuid[], $2::bigint[], $3::smallint[], $4::bigint[]) as w (job_id, fence, shard, place)
join lease e on e.job_id = any(array[w.job_id]) and e.fence = w.fence and e.shard = w.shard
left join lateral (
    select l.seq, l.fence, l.line from job_log l where l.job_id = w.job_id order by l.seq desc limit 1
) n on true
order by w.job_id
for share of e";

const LINES: &str = "insert into job_log (job_id, seq, at, fence, attempt, line, level, message, fields)
select u.job_id, u.seq, u.at, u.fence, u.attempt, u.line, u.level, u.message, u.fields::json
from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::bigint[], $5::integer[], $6::integer[],
            $7::smallint[], $8::text[], $9::text[])
  as u (job_id, seq, at, fence, attempt, line, level, message, fields)";

pub(super) const STATEMENTS: &[(&str, &str)] = &[("log held", HELD), ("log lines", LINES)];

/// The columns of the lines to be written.
#[derive(Default)]
struct Lines {
    jobs: Vec<Uuid>,
    seqs: Vec<i64>,
    times: Vec<DateTime<Utc>>,
    fences: Vec<i64>,
    attempts: Vec<i32>,
    numbers: Vec<i32>,
    levels: Vec<i16>,
    messages: Vec<String>,
    fields: Vec<Option<String>>,
}

impl Lines {
    /// Takes in those of an op behind its line `known`, after the job's line `seq`; the newest `seq` then.
    fn take(&mut self, op: &LogOp, attempt: i32, mut seq: i64, known: i32, now: Timestamp) -> i64 {
        for (number, line) in (op.first..).zip(&op.lines).filter(|(number, _)| *number > known) {
            seq += 1;
            self.jobs.push(op.job.0);
            self.seqs.push(seq);
            self.times.push(line.at.unwrap_or(now).to_datetime());
            self.fences.push(op.fence.0);
            self.attempts.push(attempt);
            self.numbers.push(number);
            self.levels.push(line.level.code());
            self.messages.push(clean(&line.message));
            self.fields.push(line.fields.as_ref().map(RawJson::text).map(str::to_owned));
        }
        seq
    }
}

pub(super) async fn run(
    batch: &mut Batch<'_>,
    ops: &Placed<'_, LogOp>,
    results: &mut Results,
) -> Result<(), StoreError> {
    if ops.is_empty() {
        return Ok(());
    }
    let rows = sqlx::query(HELD)
        .bind(ops.iter().map(|(_, op)| op.job.0).collect::<Vec<Uuid>>())
        .bind(ops.iter().map(|(_, op)| op.fence.0).collect::<Vec<i64>>())
        .bind(ops.iter().map(|(_, op)| op.owner.shard.0).collect::<Vec<i16>>())
        .bind((0_i64..).take(ops.len()).collect::<Vec<i64>>())
        .fetch_all(&mut *batch.connection)
        .await
        .map_err(store_error)?;
    for (place, _) in ops {
        results.set(*place, OpResult::Stale { recorded: None });
    }
    let mut lines = Lines::default();
    for row in &rows {
        let mut columns = Columns::of(row);
        let (index, attempt, seq, known): (i64, i32, i64, i32) =
            (columns.next()?, columns.next()?, columns.next()?, columns.next()?);
        let Some((place, op)) = usize::try_from(index).ok().and_then(|index| ops.get(index)) else {
            continue;
        };
        let newest = lines.take(op, attempt, seq, known, batch.now);
        results.set(*place, OpResult::Logged(newest));
    }
    if lines.jobs.is_empty() {
        return Ok(());
    }
    sqlx::query(LINES)
        .bind(lines.jobs)
        .bind(lines.seqs)
        .bind(lines.times)
        .bind(lines.fences)
        .bind(lines.attempts)
        .bind(lines.numbers)
        .bind(lines.levels)
        .bind(lines.messages)
        .bind(lines.fields)
        .execute(&mut *batch.connection)
        .await
        .map_err(store_error)?;
    Ok(())
}
