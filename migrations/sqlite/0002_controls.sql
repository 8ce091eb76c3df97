-- Operators' controls: changes of waiting jobs, expiry, dead-letter groups, log lines, the audit log, bulk operations.

-- A job that has not started by then is canceled; null once a lease of it has ended.
alter table job_live add column expires_at integer;
create index job_live_expires on job_live (expires_at, id) where expires_at is not null;

-- What waits in a queue out of its order, for a purge.
create index job_live_aside on job_live (shard, queue, id) where state = 3 or gate is not null;

-- Which job has a unique key: until expires_at, and as long as it is in one of the states (bit n for the state n).
create table unique_key (
    key blob not null primary key check (length(key) = 32),
    job_id blob not null check (length(job_id) = 16),
    expires_at integer,
    states integer not null
) strict, without rowid;

-- Hash of the error with numbers, ids and addresses folded: dead letters with the same cause share it.
alter table dead_letter add column fingerprint text not null default '';
alter table dead_letter add column kind text not null default '';
alter table dead_letter add column tenant text not null default '';
-- What is older than these columns gets them here; its fingerprint is made by upkeep, '' until then.
update dead_letter set kind = outcome.kind, tenant = outcome.tenant
    from outcome where outcome.job_id = dead_letter.job_id;
-- Both hold all that is filtered by: the rows themselves, with their stack traces, are only read when shown.
create index dead_letter_newest on dead_letter (failed_at, job_id, queue, kind, tenant, error_type, fingerprint);
create index dead_letter_group on dead_letter (fingerprint, kind, queue, failed_at, tenant, error_type);

-- What running jobs said, bounded for each attempt; seq is dense from 1 over a job's life.
create table job_log (
    job_id blob not null check (length(job_id) = 16),
    seq integer not null check (seq > 0),
    at integer not null,
    fence integer not null,
    attempt integer not null,
    -- Its number within its attempt, from 1: a line that is written again is recognised by it.
    line integer not null,
    -- 0 trace 1 debug 2 info 3 warn 4 error.
    level integer not null,
    message text not null,
    fields text,
    primary key (job_id, seq)
) strict, without rowid;

-- Who changed what; written in the transaction of the change.
create table audit (
    id blob not null primary key check (length(id) = 16),
    at integer not null,
    actor text not null,
    action text not null,
    object_type text not null,
    object_id text not null,
    request_id text not null,
    reason text,
    before text,
    after text
) strict, without rowid;
create index audit_object on audit (object_type, object_id, id);

-- Bulk operations; one that was under way when its node ended goes on from its cursor.
create table operation (
    id blob not null primary key check (length(id) = 16),
    action text not null,
    state text not null,
    request text not null,
    actor text not null,
    -- The newest job id when it began: what came later is not its business.
    bound blob not null,
    cursor blob,
    matched integer not null default 0,
    changed integer not null default 0,
    skipped integer not null default 0,
    started_at integer not null,
    finished_at integer,
    reason text
) strict, without rowid;
create index operation_running on operation (id) where finished_at is null;

pragma user_version = 2;

-- What is blocked, by queue, to count it; and what is blocked or throttled, newest first, to show it.
create index job_live_blocked on job_live (shard, queue) where state = 3 and gate is null;
create index job_live_held on job_live (state, id) where state in (3, 4);

-- What ended otherwise than completed is rare, and looked for.
create index outcome_unhappy on outcome (state, job_id) where state <> 6;
