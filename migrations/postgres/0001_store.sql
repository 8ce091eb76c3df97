-- The durable truth of a cluster. States are numbered as in src/domain/state (never renumbered):
-- 0 queued 1 scheduled 2 retrying 3 blocked 4 throttled 5 active 6 completed 7 failed 8 canceled.
-- A job is in exactly one of job_live and outcome; a lease row makes a live job active.

create table meta (
    key text primary key,
    value text not null
);
comment on table meta is 'Facts about the installation, such as which server it lies on (a restored copy is recognised by it).';

create table shard (
    id smallint primary key check (id >= 0),
    epoch bigint not null default 0 check (epoch >= 0 and epoch < 2097152),
    owner uuid,
    owner_addr text,
    acquired_at timestamptz
);
comment on table shard is 'Who owns each shard. Every batch share-locks the rows it writes under and compares their epoch.';
comment on column shard.epoch is 'Grows with every owner; a write under another epoch is refused. Below 2^21: it is the high part of fences.';

create table shard_seal (
    id smallint primary key references shard (id),
    floor bigint not null default 0 check (floor >= 0)
);
comment on table shard_seal is 'Set before an epoch is raised, so that overlapping batches of the old owner cannot hold the take-over off.';

insert into shard (id) select n from generate_series(0, 127) n;
insert into shard_seal (id) select n from generate_series(0, 127) n;

create table node (
    boot uuid primary key,
    address text not null,
    started_at timestamptz not null,
    heartbeat_at timestamptz not null
);
comment on table node is 'One row for each start of a node; its heartbeat tells whether it lives.';

create table journal_mark (
    connection uuid primary key,
    seq bigint not null,
    used_at timestamptz not null
) with (fillfactor = 50);
comment on table journal_mark is 'The number of the newest batch committed over a journal connection: what became of a COMMIT whose answer was lost.';

create table job (
    id uuid not null,
    created_at timestamptz not null,
    run_at timestamptz not null,
    max_attempts integer not null check (max_attempts > 0),
    timeout_seconds integer not null check (timeout_seconds > 0),
    schema_version integer not null,
    priority smallint not null check (priority between 0 and 9),
    birth_state smallint not null check (birth_state in (0, 1, 3)),
    dependency_policy smallint check (dependency_policy in (0, 1)),
    kind text not null,
    queue text not null,
    tenant text not null,
    payload json not null,
    idempotency_key text,
    workflow_id uuid,
    options text,
    primary key (id)
) partition by range (id);
comment on table job is 'The definition of a job, written once. Partitioned by week through its UUIDv7.';
comment on column job.payload is 'json, not jsonb: the bytes that came in go out.';
comment on column job.birth_state is 'The state and run_at it was born with: with created_at they are the first row of its timeline.';
create index job_workflow on job (workflow_id, id) where workflow_id is not null;

create table job_live (
    id uuid primary key,
    run_at timestamptz not null,
    updated_at timestamptz not null,
    last_started_at timestamptz,
    last_replayed_at timestamptz,
    fence bigint not null default 0 check (fence >= 0),
    event_seq bigint not null default 1 check (event_seq >= 1),
    execution_ms bigint not null default 0,
    attempt integer not null default 0 check (attempt >= 0),
    deaths integer not null default 0 check (deaths >= 0),
    replay_count integer not null default 0,
    blocked_on integer not null default 0 check (blocked_on >= 0),
    shard smallint not null,
    part smallint not null default 0,
    priority smallint not null check (priority between 0 and 9),
    state smallint not null check (state between 0 and 4),
    queue text not null,
    kind text not null,
    tenant text not null,
    gate text,
    fair_key text,
    blocked_reason text,
    last_error text,
    last_worker text,
    check ((state = 3) = (blocked_on > 0))
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
        autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
comment on table job_live is 'What has not finished; as small as the backlog.';
comment on column job_live.state is 'As stored: a leased job keeps the state it was granted from, a deferred one whose time has come its own.';
comment on column job_live.gate is 'What keeps it out of the ready order (limit:…, type:…, hold:…).';
comment on column job_live.fence is 'The newest fence that ended; 0 before the first.';
comment on column job_live.event_seq is 'The newest seq of its timeline, but for those of a lease.';
comment on column job_live.blocked_on is 'Edges to parents that are not met.';
create index job_live_ready on job_live (shard, queue, priority, run_at, id) where state <> 3 and gate is null;
create index job_live_gate on job_live (shard, queue, gate, priority desc, run_at, id) where gate is not null;

create table lease (
    job_id uuid primary key,
    session uuid not null,
    boot uuid not null,
    granted_at timestamptz not null,
    due_at timestamptz,
    fence bigint not null check (fence > 0),
    ttl_ms bigint not null check (ttl_ms > 0),
    started_seq bigint not null check (started_seq > 1),
    event_seq bigint not null check (event_seq >= started_seq),
    attempt integer not null check (attempt > 0),
    shard smallint not null,
    cancel_requested boolean not null default false,
    queue text not null,
    worker text not null,
    details json,
    policy_keys text[]
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
        autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
comment on table lease is 'Who runs what. The row is its own job.started in the timeline.';
comment on column lease.due_at is 'When the job became ready, if it was granted from a deferred state: its job.enqueued is started_seq - 1.';
comment on column lease.event_seq is 'The newest seq of the timeline while the lease lasts.';
create index lease_queue on lease (shard, queue);

create table outcome (
    job_id uuid not null,
    finished_at timestamptz not null,
    started_at timestamptz,
    due_at timestamptz,
    run_at timestamptz not null,
    last_replayed_at timestamptz,
    fence bigint not null check (fence >= 0),
    event_seq bigint not null check (event_seq > 1),
    started_seq bigint,
    execution_ms bigint,
    attempt integer not null check (attempt >= 0),
    deaths integer not null default 0,
    replay_count integer not null default 0,
    shard smallint not null,
    priority smallint not null,
    state smallint not null check (state in (6, 7, 8)),
    end_kind smallint not null,
    attempt_status smallint,
    queue text not null,
    kind text not null,
    tenant text not null,
    worker text,
    reason text,
    error_type text,
    error_message text,
    stack_trace text,
    result json,
    primary key (job_id),
    check ((attempt_status is null) = (started_seq is null))
) partition by range (job_id);
comment on table outcome is 'How a job ended, with its last attempt and the last rows of its timeline packed in.';
comment on column outcome.event_seq is 'The seq of the end; a repeat of the submission may have left later event rows.';
comment on column outcome.execution_ms is 'How long the last attempt took, where finished_at does not tell: the job ended while it waited.';
create index outcome_finished on outcome (finished_at);
create index outcome_unhappy on outcome (state, job_id) where state <> 6;

create table attempt (
    job_id uuid not null,
    fence bigint not null,
    started_at timestamptz not null,
    finished_at timestamptz not null,
    attempt integer not null,
    status smallint not null,
    worker text not null,
    error_type text,
    error_message text,
    stack_trace text,
    primary key (job_id, fence)
) partition by range (job_id);
comment on table attempt is 'Attempts that ended, but for a last one packed in outcome.';

create table event (
    job_id uuid not null,
    seq bigint not null check (seq > 1),
    at timestamptz not null,
    fence bigint,
    attempt integer,
    kind smallint not null,
    state smallint not null,
    worker text,
    metadata json,
    primary key (job_id, seq)
) partition by range (job_id);
comment on table event is 'The unusual rows of timelines; the ordinary ones are in job, lease and outcome.';

create table queue (
    name text primary key,
    shard smallint not null,
    paused boolean not null default false,
    draining boolean not null default false,
    config text
);
comment on table queue is 'Settings of queues that have any.';

create table counter (
    shard smallint not null,
    queue text not null,
    lane smallint not null,
    queued bigint not null default 0,
    scheduled bigint not null default 0,
    retrying bigint not null default 0,
    blocked bigint not null default 0,
    throttled bigint not null default 0,
    active bigint not null default 0,
    completed bigint not null default 0,
    failed bigint not null default 0,
    canceled bigint not null default 0,
    primary key (shard, queue, lane)
) with (fillfactor = 50);
comment on table counter is 'Jobs in each stored state; a row for each journal lane, so that lanes do not wait for one another. The sum counts.';
comment on column counter.lane is '-1: changes by upkeep.';

create table idempotency (
    tenant text not null,
    key text not null,
    job_id uuid not null,
    expires_at timestamptz not null,
    fingerprint bytea not null,
    primary key (tenant, key)
);
comment on table idempotency is 'Which job a key names: until expires_at, and as long as the job is live.';
create index idempotency_expires on idempotency (expires_at);
create index idempotency_job on idempotency (job_id);

create table dependency (
    parent uuid not null,
    child uuid not null,
    child_shard smallint not null,
    policy smallint not null check (policy in (0, 1)),
    met boolean not null,
    primary key (parent, child)
);
comment on table dependency is 'Which job waits or waited for which. Edges to failed parents stay unmet: a retried parent unlocks them.';
create index dependency_child on dependency (child);

create table inbox (
    id bigint generated always as identity primary key,
    shard smallint not null,
    kind smallint not null check (kind in (0, 1)),
    job_id uuid not null,
    outcome_state smallint,
    at timestamptz not null
) with (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
comment on table inbox is 'What others left for the owner of a shard; it takes them in its own transaction.';
comment on column inbox.kind is '0 born: job_id is a new job of the shard; 1 finished: job_id, a parent of jobs of the shard, has ended or was retried.';
create index inbox_shard on inbox (shard, id);

create table dead_letter (
    job_id uuid primary key,
    failed_at timestamptz not null,
    last_replayed_at timestamptz,
    replay_count integer not null default 0,
    shard smallint not null,
    queue text not null
);
comment on table dead_letter is 'Jobs that failed for good, until they are retried, canceled or removed; the error is in outcome.';

create function uuid_at(at timestamptz) returns uuid language sql immutable strict as $$
    select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;
comment on function uuid_at is 'The least UUIDv7 of a time: the bound of a partition.';

create function ensure_partitions(now timestamptz) returns integer language plpgsql as $$
declare
    parent text;
    week timestamptz;
    name text;
    made integer := 0;
begin
    foreach parent in array array['job', 'outcome', 'attempt', 'event'] loop
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
comment on function ensure_partitions is 'Makes the weekly partitions from the last week to three weeks ahead; returns how many were missing.';

select ensure_partitions(now());
