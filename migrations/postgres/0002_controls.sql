-- Operators' controls: changes of waiting jobs, expiry, dead-letter groups, log lines, the audit log, bulk operations.

alter table job_live add column expires_at timestamptz;
comment on column job_live.expires_at is 'A job that has not started by then is canceled; null once a lease of it has ended.';
create index job_live_expires on job_live (expires_at, id) where expires_at is not null;

-- What waits in a queue out of its order, for a purge.
create index job_live_aside on job_live (shard, queue, id) where state = 3 or gate is not null;

create table unique_key (
    key bytea primary key,
    job_id uuid not null,
    expires_at timestamptz,
    states smallint not null
);
comment on table unique_key is 'Which job has a unique key: until expires_at, and as long as it is in one of the states.';
comment on column unique_key.states is 'Bit n for the state n.';

alter table dead_letter add column fingerprint text not null default '';
alter table dead_letter add column error_type text not null default '';
alter table dead_letter add column kind text not null default '';
alter table dead_letter add column tenant text not null default '';
comment on column dead_letter.fingerprint is 'Hash of the error with numbers, ids and addresses folded: dead letters with the same cause share it.';
-- What is older than these columns gets them here; its fingerprint is made by upkeep, '' until then.
update dead_letter d set error_type = coalesce(o.error_type, ''), kind = o.kind, tenant = o.tenant
  from outcome o where o.job_id = d.job_id;
create index dead_letter_newest on dead_letter (failed_at desc, job_id desc);
create index dead_letter_group on dead_letter (fingerprint, failed_at desc, job_id desc);

create table job_log (
    job_id uuid not null,
    seq bigint not null check (seq > 0),
    at timestamptz not null,
    fence bigint not null,
    attempt integer not null,
    line integer not null,
    level smallint not null,
    message text not null,
    fields json,
    primary key (job_id, seq)
) partition by range (job_id);
comment on table job_log is 'What running jobs said, bounded for each attempt; seq is dense from 1 over a job''s life.';
comment on column job_log.line is 'Its number within its attempt, from 1: a line that is written again is recognised by it.';
comment on column job_log.level is '0 trace 1 debug 2 info 3 warn 4 error.';

create table audit (
    id uuid primary key,
    at timestamptz not null,
    actor text not null,
    action text not null,
    object_type text not null,
    object_id text not null,
    request_id text not null,
    reason text,
    before json,
    after json
);
comment on table audit is 'Who changed what; written in the transaction of the change.';
create index audit_object on audit (object_type, object_id, id desc);

create table operation (
    id uuid primary key,
    action text not null,
    state text not null,
    request text not null,
    actor text not null,
    bound uuid not null,
    cursor uuid,
    matched bigint not null default 0,
    changed bigint not null default 0,
    skipped bigint not null default 0,
    started_at timestamptz not null,
    finished_at timestamptz,
    reason text
);
comment on table operation is 'Bulk operations; one that was under way when its node ended goes on from its cursor.';
comment on column operation.bound is 'The newest job id when it began: what came later is not its business.';
create index operation_running on operation (id) where finished_at is null;

create or replace function ensure_partitions(now timestamptz) returns integer language plpgsql as $$
declare
    parent text;
    week timestamptz;
    name text;
    made integer := 0;
begin
    foreach parent in array array['job', 'outcome', 'attempt', 'event', 'job_log'] loop
        if to_regclass(parent || '_default') is null then
            execute format('create table %I partition of %I default', parent || '_default', parent);
        end if;
        for n in -1 .. 3 loop
            week := date_trunc('week', now at time zone 'UTC') at time zone 'UTC' + n * interval '7 days';
            name := parent || '_' || to_char(week at time zone 'UTC', 'YYYYMMDD');
            if to_regclass(name) is null then
                begin
                    execute format('create table %I partition of %I for values from (%L) to (%L)',
                        name, parent, uuid_at(week), uuid_at(week + interval '7 days'));
                    made := made + 1;
                exception when check_violation then
                    -- The default partition holds rows of that week already: they stay there.
                    null;
                end;
            end if;
        end loop;
    end loop;
    return made;
end
$$;

select ensure_partitions(now());

-- What is blocked, by queue, to count it; and what is blocked or throttled, newest first, to show it.
create index job_live_blocked on job_live (shard, queue) where state = 3 and gate is null;
create index job_live_held on job_live (state, id) where state in (3, 4);

-- Only what waits for a time, to count what is due without reading what is ready.
create index job_live_deferred on job_live (shard, queue, state, run_at) where gate is null and state in (1, 2, 4);
