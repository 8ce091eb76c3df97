-- The store of a node alone. The same tables as on PostgreSQL, with SQLite's types: ids are blobs of
-- 16 bytes, times are integers (microseconds since 1970, UTC), states and kinds are the codes of
-- `domain`. One process writes (it holds `ganger.lock`), over one connection.

-- What the store knows of itself: `generation`, `generation_before` (see sqlite/generation.rs) and
-- `batch_seq`, the number of the newest committed batch.
create table meta (
    key text not null primary key,
    value any
) strict, without rowid;

insert into meta (key, value) values ('batch_seq', 0);

-- Ownership. Every batch compares the epochs it was made under with these.
create table shard (
    id integer not null primary key check (id between 0 and 127),
    epoch integer not null default 0 check (epoch >= 0 and epoch < 2097152),
    owner blob,
    owner_addr text,
    acquired_at integer
) strict;

-- The least epoch that may still write. Raised before the epoch, so that a take-over cannot be starved.
create table shard_seal (
    id integer not null primary key,
    floor integer not null default 0
) strict;

with recursive n (id) as (select 0 union all select id + 1 from n where id < 127)
insert into shard (id) select id from n;
insert into shard_seal (id) select id from shard;

-- A start of a node's process.
create table node (
    boot blob not null primary key check (length(boot) = 16),
    address text not null,
    started_at integer not null,
    heartbeat_at integer not null
) strict, without rowid;

-- The definition of a job, and the first row of its timeline. Outlives its live row.
create table job (
    id blob not null primary key check (length(id) = 16),
    kind text not null,
    queue text not null,
    tenant text not null,
    -- Byte for byte as it was submitted.
    payload text not null,
    priority integer not null check (priority between 0 and 9),
    -- queued, scheduled or blocked.
    birth_state integer not null check (birth_state in (0, 1, 3)),
    run_at integer not null,
    created_at integer not null,
    max_attempts integer not null check (max_attempts between 1 and 100),
    timeout_seconds integer not null check (timeout_seconds > 0),
    schema_version integer not null,
    idempotency_key text,
    workflow_id blob,
    -- Null without dependencies.
    dependency_policy integer check (dependency_policy in (0, 1)),
    -- JobOptions as JSON; null when all are default.
    options text
) strict, without rowid;

create index job_workflow on job (workflow_id, id) where workflow_id is not null;

-- What has not finished. A job is in exactly one of job_live and outcome.
create table job_live (
    id blob not null primary key check (length(id) = 16),
    shard integer not null,
    queue text not null,
    part integer not null default 0,
    priority integer not null check (priority between 0 and 9),
    run_at integer not null,
    -- As stored: a leased job has the state it was granted from. Never active, never terminal.
    state integer not null check (state between 0 and 4),
    -- What keeps it out of the ready order: `limit:…`, `type:…`, `hold:…`.
    gate text,
    fair_key text,
    -- Attempts used up.
    attempt integer not null default 0 check (attempt >= 0),
    -- The newest fence that ended; 0 before the first.
    fence integer not null default 0 check (fence >= 0),
    -- The newest written seq of the timeline, but for those that its lease counts.
    event_seq integer not null default 1 check (event_seq >= 1),
    -- Dependencies not yet met.
    blocked_on integer not null default 0 check (blocked_on >= 0),
    blocked_reason text,
    -- Workers that died under it since its attempts began.
    deaths integer not null default 0,
    replay_count integer not null default 0,
    last_replayed_at integer,
    last_error text,
    last_worker text,
    last_started_at integer,
    execution_ms integer not null default 0,
    updated_at integer not null,
    tenant text not null,
    kind text not null,
    check ((state = 3) = (blocked_on > 0))
) strict, without rowid;

-- The ready order: keyset pages of one priority in (run_at, id).
create index job_live_ready on job_live (shard, queue, priority, run_at, id)
    where gate is null and state <> 3;
-- Only what waits for a time, to count what is due without reading what is ready.
create index job_live_deferred on job_live (shard, queue, state, run_at)
    where gate is null and state in (1, 2, 4);

-- The jobs behind a gate, in the order in which it lets them through.
create index job_live_gate on job_live (shard, queue, gate, priority desc, run_at, id)
    where gate is not null;

-- A lease row makes a job active, and is the `job.started` row of its timeline.
create table lease (
    job_id blob not null primary key check (length(job_id) = 16),
    shard integer not null,
    queue text not null,
    fence integer not null check (fence > 0),
    attempt integer not null check (attempt > 0),
    worker text not null,
    session blob not null,
    boot blob not null,
    granted_at integer not null,
    ttl_ms integer not null check (ttl_ms >= 0),
    cancel_requested integer not null default 0 check (cancel_requested in (0, 1)),
    -- The seq of job.started.
    started_seq integer not null,
    -- The newest seq written while it runs.
    event_seq integer not null,
    -- When the job became ready, if it was granted from a deferred state: its job.enqueued row is
    -- started_seq - 1.
    due_at integer,
    details text,
    policy_keys text,
    check (event_seq >= started_seq)
) strict, without rowid;

create index lease_queue on lease (shard, queue);

-- How a job ended, with its last attempt packed in.
create table outcome (
    job_id blob not null primary key check (length(job_id) = 16),
    shard integer not null,
    queue text not null,
    -- completed, failed or canceled.
    state integer not null check (state in (6, 7, 8)),
    fence integer not null check (fence >= 0),
    attempt integer not null check (attempt >= 0),
    finished_at integer not null,
    -- The seq of the end.
    event_seq integer not null,
    -- The newest seq: repeats of its submission are told of behind the end.
    last_seq integer not null,
    end_kind integer not null,
    run_at integer not null,
    priority integer not null,
    result text,
    reason text,
    -- Null when it ended while it waited, as are due_at and attempt_status.
    started_seq integer,
    started_at integer,
    -- How long the last attempt took, where finished_at does not tell: the job ended while it waited.
    execution_ms integer,
    due_at integer,
    attempt_status integer,
    worker text,
    error_type text,
    error_message text,
    stack_trace text,
    deaths integer not null default 0,
    replay_count integer not null default 0,
    last_replayed_at integer,
    tenant text not null,
    kind text not null,
    check (last_seq >= event_seq),
    check ((started_seq is null) = (attempt_status is null))
) strict, without rowid;

create index outcome_finished on outcome (finished_at);

-- Ended attempts, but for the one that the outcome packs.
create table attempt (
    job_id blob not null,
    fence integer not null,
    attempt integer not null,
    worker text not null,
    status integer not null check (status between 1 and 6),
    error_type text,
    error_message text,
    stack_trace text,
    started_at integer not null,
    finished_at integer not null,
    primary key (job_id, fence)
) strict, without rowid;

-- The unusual rows of timelines; the usual ones are job, lease and outcome rows.
create table event (
    job_id blob not null,
    seq integer not null check (seq > 1),
    kind integer not null,
    state integer not null check (state between 0 and 8),
    at integer not null,
    attempt integer,
    fence integer,
    worker text,
    metadata text,
    primary key (job_id, seq)
) strict, without rowid;

-- Settings of a queue; a queue without any has no row.
create table queue (
    name text not null primary key,
    shard integer not null,
    paused integer not null default 0,
    draining integer not null default 0,
    config text
) strict, without rowid;

-- How many jobs of a queue are in each state, by the state's code; one row for each lane, summed on
-- reading.
create table counter (
    shard integer not null,
    queue text not null,
    lane integer not null,
    queued integer not null default 0,
    scheduled integer not null default 0,
    retrying integer not null default 0,
    blocked integer not null default 0,
    throttled integer not null default 0,
    active integer not null default 0,
    completed integer not null default 0,
    failed integer not null default 0,
    canceled integer not null default 0,
    primary key (shard, queue, lane)
) strict, without rowid;

-- A submission's key. Holds until expires_at, and as long as its job is live.
create table idempotency (
    tenant text not null,
    key text not null,
    job_id blob not null,
    fingerprint blob not null,
    expires_at integer not null,
    primary key (tenant, key)
) strict, without rowid;

create index idempotency_expires on idempotency (expires_at);

-- Who waits, or waited, for whom.
create table dependency (
    parent blob not null,
    child blob not null,
    -- The child's shard: where the parent's end is told.
    child_shard integer not null,
    policy integer not null check (policy in (0, 1)),
    met integer not null default 0 check (met in (0, 1)),
    primary key (parent, child)
) strict, without rowid;

create index dependency_child on dependency (child, parent);

-- What one shard left for another, consumed by its owner.
create table inbox (
    id integer not null primary key autoincrement,
    shard integer not null,
    -- 0: job_id was born there; 1: job_id, a parent of jobs there, has ended or was retried.
    kind integer not null check (kind in (0, 1)),
    job_id blob not null,
    outcome_state integer,
    at integer not null
) strict;

create index inbox_shard on inbox (shard, id);

-- Jobs that failed for good.
create table dead_letter (
    job_id blob not null primary key check (length(job_id) = 16),
    shard integer not null,
    queue text not null,
    worker text not null,
    error_type text not null,
    error_message text not null,
    stack_trace text,
    failed_at integer not null,
    attempt integer not null,
    replay_count integer not null default 0,
    last_replayed_at integer
) strict, without rowid;

pragma user_version = 1;
