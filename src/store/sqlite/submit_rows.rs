//! Writes what a plan of submissions decided.

use super::{batch::Batch, rows::Rows, submit_plan::Plan};
use crate::store::StoreError;

const JOB: &str = "
    insert into job (id, kind, queue, tenant, payload, priority, birth_state, run_at, created_at,
                     max_attempts, timeout_seconds, schema_version, idempotency_key, workflow_id,
                     dependency_policy, options)
    select unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
           value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12,
           unhex(value ->> 13), value ->> 14, value ->> 15
    from jsonb_each(?1)";

const LIVE: &str = "
    insert into job_live (id, shard, queue, priority, run_at, state, blocked_on, blocked_reason,
                          updated_at, tenant, kind, expires_at)
    select unhex(value ->> 0), value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
           value ->> 6, value ->> 7, value ->> 8, value ->> 9, value ->> 10, value ->> 11
    from jsonb_each(?1)";

/// What was read as not holding may be replaced.
const CLAIM: &str = "
    insert into idempotency (tenant, key, job_id, fingerprint, expires_at)
    select value ->> 0, value ->> 1, unhex(value ->> 2), unhex(value ->> 3), value ->> 4
    from jsonb_each(?1) where true
    on conflict (tenant, key) do update set
        job_id = excluded.job_id, fingerprint = excluded.fingerprint, expires_at = excluded.expires_at";

/// What was read as free may be passed on.
const CLAIM_UNIQUE: &str = "
    insert into unique_key (key, job_id, expires_at, states)
    select unhex(value ->> 0), unhex(value ->> 1), value ->> 2, value ->> 3
    from jsonb_each(?1) where true
    on conflict (key) do update set
        job_id = excluded.job_id, expires_at = excluded.expires_at, states = excluded.states";

const EDGE: &str = "
    insert into dependency (parent, child, child_shard, policy, met)
    select unhex(value ->> 0), unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4
    from jsonb_each(?1)";

const BORN: &str = "
    insert into inbox (shard, kind, job_id, at)
    select value ->> 0, 0, unhex(value ->> 1), value ->> 2
    from jsonb_each(?1)";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    ("job", JOB),
    ("live", LIVE),
    ("claim", CLAIM),
    ("claim unique", CLAIM_UNIQUE),
    ("edge", EDGE),
    ("born", BORN),
];

/// Writes the planned jobs with all that belongs to them.
pub(super) async fn write(batch: &mut Batch<'_>, plan: &Plan<'_>) -> Result<(), StoreError> {
    let (mut jobs, mut live) = (Rows::default(), Rows::default());
    let (mut edges, mut born) = (Rows::default(), Rows::default());
    for birth in &plan.births {
        let job = birth.job;
        jobs.row()
            .id(job.id)
            .text(&job.kind)
            .text(&job.queue)
            .text(&job.tenant)
            .text(job.payload.text())
            .int(job.priority)
            .int(birth.state.code())
            .int(birth.run_at.0)
            .int(plan.now.0)
            .int(job.max_attempts)
            .int(job.timeout_seconds)
            .int(job.schema_version)
            .opt_text(job.idempotency.as_ref().map(|idempotency| idempotency.key.as_str()))
            .opt_uuid(job.workflow_id.map(|workflow| workflow.0))
            .opt_int((!birth.edges.is_empty()).then(|| job.dependency_policy.code()))
            .opt_text(job.options.to_stored().as_deref());
        live.row()
            .id(job.id)
            .int(birth.shard.0)
            .text(&job.queue)
            .int(job.priority)
            .int(birth.run_at.0)
            .int(birth.state.code())
            .int(birth.blocked_on)
            .opt_text(birth.blocked_reason.as_deref())
            .int(plan.now.0)
            .text(&job.tenant)
            .text(&job.kind)
            .opt_int(job.options.expires_at.map(|at| at.0));
        for (parent, met) in &birth.edges {
            edges
                .row()
                .id(*parent)
                .id(job.id)
                .int(birth.shard.0)
                .int(job.dependency_policy.code())
                .int(i64::from(*met));
        }
        if birth.announced {
            born.row().int(birth.shard.0).id(job.id).int(plan.now.0);
        }
        batch.count(birth.shard, &job.queue, birth.state, 1);
    }
    let mut claims = Rows::default();
    for job in &plan.claims {
        if let Some(idempotency) = &job.idempotency {
            let holds_ms = i64::from(idempotency.window_seconds) * 1_000;
            claims
                .row()
                .text(&job.tenant)
                .text(&idempotency.key)
                .id(job.id)
                .bytes(&idempotency.fingerprint)
                .int(plan.now.plus_millis(holds_ms).0);
        }
    }
    let mut uniques = Rows::default();
    for job in &plan.unique_claims {
        if let Some(unique) = &job.unique {
            let until = unique.period_seconds.map(|period| plan.now.plus_millis(i64::from(period) * 1_000).0);
            uniques.row().bytes(&unique.hash).id(job.id).opt_int(until).int(unique.states);
        }
    }
    batch.write(JOB, jobs).await?;
    batch.write(LIVE, live).await?;
    batch.write(CLAIM, claims).await?;
    batch.write(CLAIM_UNIQUE, uniques).await?;
    batch.write(EDGE, edges).await?;
    batch.write(BORN, born).await
}
