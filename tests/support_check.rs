//! Tests of what the tests stand on: servers start and stop, faults land, and every check of a history bites.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed step fails the test"
)]

mod support;

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};
use support::history::{Dump, JobDump, Operation, Recorder, assert_sound, check, load};
use support::{PgProxy, PgServer, block_until, wait_for, wait_until};

const SOON: Duration = Duration::from_secs(10);

// PostgreSQL

#[tokio::test]
async fn the_shared_server_gives_each_caller_its_own_database() {
    let server = PgServer::shared();
    let (one, two) = tokio::join!(server.create_database(), server.create_database());
    assert_ne!(one, two);
    let mut one = PgConnection::connect(&one).await.unwrap();
    let mut two = PgConnection::connect(&two).await.unwrap();
    one.execute("create table only_here (id bigint)").await.unwrap();
    assert!(two.execute("select * from only_here").await.is_err());
    let fsync: String = sqlx::query_scalar("show fsync").fetch_one(&mut one).await.unwrap();
    assert_eq!(fsync, "on");
}

#[tokio::test]
async fn a_crashed_server_comes_back_with_what_was_committed() {
    let server = PgServer::start();
    let url = server.create_database().await;
    let mut client = PgConnection::connect(&url).await.unwrap();
    client.execute("create table kept (id bigint)").await.unwrap();
    client.execute("insert into kept values (7)").await.unwrap();

    server.stop_immediate();
    assert!(PgConnection::connect(&url).await.is_err());
    server.restart();

    let mut client = PgConnection::connect(&url).await.unwrap();
    let id: i64 = sqlx::query_scalar("select id from kept").fetch_one(&mut client).await.unwrap();
    assert_eq!(id, 7);
}

#[test]
fn a_server_starts_fast_enough_for_a_test_to_have_its_own() {
    drop(PgServer::start());
    let began = Instant::now();
    drop(PgServer::start());
    // A tenth of this alone; the rest is for a machine shared with others.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn no_server_outlives_a_killed_test_process() {
    const FILE: &str = "GANGER_TEST_VICTIM_FILE";
    if let Ok(file) = std::env::var(FILE) {
        // The victim: started below, on this very test.
        let server = PgServer::start();
        std::fs::write(file, server.url("postgres")).unwrap();
        std::thread::park();
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "no_server_outlives_a_killed_test_process"])
        .env(FILE, &file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let url = block_until("the victim's server", SOON * 3, || {
        // The file is there before it is written whole.
        let url = std::fs::read_to_string(&file).unwrap_or_default();
        if url.ends_with("/postgres") { Ok(url) } else { Err(url) }
    })
    .unwrap();
    let address = url.trim_start_matches("postgres://postgres@").trim_end_matches("/postgres");
    assert!(TcpStream::connect(address).is_ok());

    victim.kill().unwrap();
    victim.wait().unwrap();

    let gone = || TcpStream::connect(address).err().ok_or("it still listens");
    block_until("the victim's server is gone", SOON, gone).unwrap();
}

// Faults

async fn table_behind_a_proxy() -> (PgProxy, String, PgConnection) {
    let direct = PgServer::shared().create_database().await;
    let proxy = PgProxy::start(&direct).await;
    let mut client = PgConnection::connect(&proxy.url(&direct)).await.unwrap();
    client.execute("create table row (id bigint primary key)").await.unwrap();
    (proxy, direct, client)
}

async fn rows(url: &str) -> i64 {
    let mut client = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar("select count(*) from row").fetch_one(&mut client).await.unwrap()
}

#[tokio::test]
async fn a_healthy_link_passes_small_and_large_answers() {
    let (proxy, _, mut client) = table_behind_a_proxy().await;
    let query = "select repeat('x', $1)::text from generate_series(1, 50)";
    for size in [0, 1, 100_000] {
        let texts: Vec<String> = sqlx::query_scalar(query).bind(size).fetch_all(&mut client).await.unwrap();
        assert_eq!(texts.len(), 50);
        assert!(texts.iter().all(|text| text.len() == size as usize));
    }
    assert_eq!(proxy.faults(), Default::default());
}

#[tokio::test]
async fn a_lost_commit_is_an_error_to_the_client_and_durable_on_the_server() {
    let (proxy, direct, mut client) = table_behind_a_proxy().await;
    proxy.lose_commits(1);

    let mut tx = client.begin().await.unwrap();
    sqlx::query("insert into row values ($1)").bind(1i64).execute(&mut *tx).await.unwrap();
    assert!(tx.commit().await.is_err());

    assert_eq!(proxy.faults().answers_lost, 1);
    assert_eq!(rows(&direct).await, 1);
}

#[tokio::test]
async fn a_commit_by_the_extended_protocol_is_lost_as_well() {
    let (proxy, direct, mut client) = table_behind_a_proxy().await;
    proxy.lose_commits(1);
    client.execute("begin").await.unwrap();
    sqlx::query("insert into row values ($1)").bind(1i64).execute(&mut client).await.unwrap();
    // A query that is prepared, unlike the one above.
    assert!(sqlx::query("commit").persistent(true).execute(&mut client).await.is_err());
    assert_eq!((proxy.faults().answers_lost, rows(&direct).await), (1, 1));
}

#[tokio::test]
async fn only_as_many_commits_are_lost_as_were_asked_for() {
    let (proxy, direct, client) = table_behind_a_proxy().await;
    client.close().await.unwrap();
    proxy.lose_commits(2);
    let mut failed = 0;
    for id in 0..5i64 {
        let mut client = PgConnection::connect(&proxy.url(&direct)).await.unwrap();
        let mut tx = client.begin().await.unwrap();
        sqlx::query("insert into row values ($1)").bind(id).execute(&mut *tx).await.unwrap();
        failed += u32::from(tx.commit().await.is_err());
    }
    assert_eq!((failed, proxy.faults().answers_lost, rows(&direct).await), (2, 2, 5));
}

#[tokio::test]
async fn a_cut_ends_present_links_and_lets_new_ones_through() {
    let (proxy, direct, mut client) = table_behind_a_proxy().await;
    proxy.cut_all();
    assert!(client.execute("select 1").await.is_err());
    assert_eq!(rows(&proxy.url(&direct)).await, 0);
    assert_eq!(proxy.faults().links_cut, 1);
}

#[tokio::test]
async fn refused_links_stay_refused_until_healed() {
    let (proxy, direct, mut client) = table_behind_a_proxy().await;
    proxy.refuse();
    assert!(client.execute("select 1").await.is_err());
    assert!(PgConnection::connect(&proxy.url(&direct)).await.is_err());
    assert!(proxy.faults().links_refused >= 1);
    proxy.heal();
    assert_eq!(rows(&proxy.url(&direct)).await, 0);
}

#[tokio::test]
async fn a_black_hole_answers_nothing_and_delivers_late_once_healed() {
    let (proxy, direct, mut client) = table_behind_a_proxy().await;
    proxy.black_hole();
    let mut insert = Box::pin(client.execute("insert into row values (1)"));
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut insert).await.is_err());
    assert_eq!(rows(&direct).await, 0);

    proxy.heal();
    insert.await.unwrap();
    assert_eq!(rows(&direct).await, 1);
}

// Waiting

#[tokio::test]
async fn waiting_gives_the_value_as_soon_as_it_is_there() {
    let mut polls = 0;
    let value = wait_until("the third poll", SOON, || {
        polls += 1;
        let now = polls;
        async move { (now >= 3).then_some(now) }
    })
    .await;
    assert_eq!(value, 3);
}

#[tokio::test]
#[should_panic(expected = "a green light: not within 20ms; last saw \"red\"")]
async fn waiting_in_vain_says_for_what_and_what_it_saw() {
    wait_for("a green light", Duration::from_millis(20), || async { Err::<(), _>("red") }).await;
}

#[tokio::test]
#[should_panic(expected = "the check itself hung")]
async fn a_check_that_hangs_is_cut_at_the_deadline() {
    wait_until("anything", Duration::from_millis(20), std::future::pending::<Option<()>>).await;
}

// Histories

/// A job whose timeline is `(type, state, fence)` and whose attempts are `(attempt, fence, status)`.
fn job(events: &[(&str, &str, u64)], attempts: &[(u64, u64, &str)]) -> JobDump {
    let row = |(seq, (kind, state, fence)): (usize, &(&str, &str, u64))| {
        let mut row = json!({"jobId": "j1", "seq": seq + 1, "type": format!("job.{kind}"), "state": state});
        if *fence > 0 {
            row["fence"] = json!(fence);
        }
        row
    };
    let attempt = |(attempt, fence, status): &(u64, u64, &str)| json!({"attempt": attempt, "fence": fence, "status": status});
    let state = events.last().map_or("queued", |(_, state, _)| state);
    JobDump {
        job: json!({
            "id": "j1", "tenantId": "default", "idempotencyKey": "k1", "state": state,
            "attempts": attempts.len().min(2), "maxAttempts": 2,
        }),
        events: events.iter().enumerate().map(row).collect(),
        attempts: attempts.iter().map(attempt).collect(),
    }
}

/// Fails twice, is replayed and completes.
fn good() -> JobDump {
    job(
        &[
            ("enqueued", "queued", 0),
            ("duplicate_suppressed", "queued", 0),
            ("started", "active", 1),
            ("retrying", "retrying", 1),
            ("enqueued", "queued", 0),
            ("started", "active", 5),
            ("recovered", "failed", 5),
            ("replayed", "queued", 0),
            ("started", "active", 6),
            ("completed", "completed", 6),
        ],
        &[(1, 1, "retrying"), (2, 5, "lease_expired"), (1, 6, "completed")],
    )
}

/// Completes at once.
fn short() -> JobDump {
    job(
        &[("enqueued", "queued", 0), ("started", "active", 1), ("completed", "completed", 1)],
        &[(1, 1, "completed")],
    )
}

fn operations(lines: &[Value]) -> Vec<Operation> {
    let operation = |(line, ns): (&Value, u64)| {
        let mut line = line.clone();
        (line["proc"], line["mono_ns"]) = (json!(1), json!(ns));
        serde_json::from_value(line).unwrap()
    };
    lines.iter().zip(0..).map(operation).collect()
}

fn submitted() -> Vec<Operation> {
    operations(&[
        json!({"type": "invoke", "f": "submit", "value": {"key": "k1"}}),
        json!({"type": "info", "f": "submit", "value": {"key": "k1"}}),
        json!({"type": "invoke", "f": "submit", "value": {"key": "k1"}}),
        json!({"type": "ok", "f": "submit", "value": {"key": "k1", "jobId": "j1"}}),
    ])
}

fn found(history: &[Operation], jobs: &[JobDump]) -> Vec<&'static str> {
    let mut found: Vec<_> =
        check(history, &Dump { jobs: jobs.to_vec(), drained: true }).iter().map(|one| one.check).collect();
    found.dedup();
    found
}

#[track_caller]
fn assert_bites(check: &str, broken: JobDump) {
    let found = found(&submitted(), &[broken]);
    assert!(found.contains(&check), "{check} did not bite; found {found:?}");
}

#[test]
fn sound_histories_have_no_violation() {
    assert_sound(&submitted(), &Dump { jobs: vec![good()], drained: true });
    assert_sound(&submitted(), &Dump { jobs: vec![short()], drained: true });
    let canceled = [("enqueued", "queued", 0), ("canceled", "canceled", 0)];
    assert!(found(&submitted(), &[job(&canceled, &[])]).is_empty());
    let failed_then_canceled = [
        ("scheduled", "scheduled", 0),
        ("enqueued", "queued", 0),
        ("throttled", "throttled", 0),
        ("enqueued", "queued", 0),
        ("started", "active", 9),
        ("cancel_requested", "active", 9),
        ("failed", "failed", 9),
        ("canceled", "canceled", 0),
    ];
    assert!(found(&submitted(), &[job(&failed_then_canceled, &[(1, 9, "failed")])]).is_empty());
}

#[test]
#[should_panic(expected = "vacuous")]
fn a_history_without_an_acknowledgement_proves_nothing() {
    assert_sound(&[], &Dump::default());
}

#[test]
fn s1_reports_an_acknowledged_job_that_is_gone() {
    assert_eq!(found(&submitted(), &[]), ["S1"]);
    let mut deleted = submitted();
    deleted.extend(operations(&[json!({"type": "ok", "f": "delete", "value": {"jobId": "j1"}})]));
    assert!(found(&deleted, &[]).is_empty());
}

#[test]
fn s1_reports_a_job_that_waits_for_nothing_after_the_drain() {
    let mut stuck = job(&[("enqueued", "queued", 0)], &[]);
    stuck.job["waitingFor"] = json!("worker");
    assert_eq!(found(&submitted(), &[stuck.clone()]), ["S1"]);
    stuck.job["waitingFor"] = json!("pause");
    assert!(found(&submitted(), &[stuck]).is_empty());
}

#[test]
fn s2_reports_jobs_that_nobody_asked_for() {
    assert_eq!(found(&[], &[short()]), ["S2"]);
    let failed = operations(&[
        json!({"type": "invoke", "f": "submit", "value": {"jobs": [{"key": "k0"}, {"key": "k1"}]}}),
        json!({"type": "fail", "f": "submit", "value": {"jobs": [{"key": "k0"}, {"key": "k1"}]}}),
    ]);
    assert_eq!(found(&failed, &[short()]), ["S2"]);
    // Its outcome was never learnt: it may have happened.
    assert!(found(&failed[..1], &[short()]).is_empty());
}

#[test]
fn s2_takes_a_schedules_job_for_explained() {
    let mut made = short();
    made.job["scheduleId"] = json!("s1");
    assert_eq!(found(&[], &[made.clone()]), ["S2"]);
    let history = operations(&[json!({"type": "invoke", "f": "schedule", "value": {}})]);
    assert!(found(&history, &[made]).is_empty());
}

#[test]
fn s3_reports_a_second_end() {
    let mut twice = short();
    twice.events.push(json!({"seq": 4, "type": "job.canceled", "state": "canceled"}));
    twice.job["state"] = json!("canceled");
    assert_bites("S3", twice);
    let revived = [
        ("enqueued", "queued", 0),
        ("started", "active", 1),
        ("failed", "failed", 1),
        ("enqueued", "queued", 0),
    ];
    assert_bites("S3", job(&revived, &[(1, 1, "failed")]));
}

#[test]
fn s4_reports_an_illegal_move_a_hole_and_a_repeat() {
    let leap = [("enqueued", "queued", 0), ("completed", "completed", 0)];
    assert_bites("S4", job(&leap, &[]));
    assert_bites("S4", job(&[("started", "active", 1)], &[(1, 1, "started")]));
    for seq in [1, 4] {
        let mut holed = short();
        holed.events[2]["seq"] = json!(seq);
        assert_eq!(found(&submitted(), &[holed]), ["S4"]);
    }
    let mut mislabelled = short();
    mislabelled.events[1]["type"] = json!("job.throttled");
    assert_bites("S4", mislabelled);
}

#[test]
fn s4_takes_a_rerun_only_of_a_workflows_job() {
    let events = [
        ("enqueued", "queued", 0),
        ("started", "active", 1),
        ("completed", "completed", 1),
        ("retried", "queued", 0),
        ("canceled", "canceled", 0),
    ];
    let mut rerun = job(&events, &[(1, 1, "completed")]);
    assert_eq!(found(&submitted(), &[rerun.clone()]), ["S4"]);
    rerun.job["workflowId"] = json!("w1");
    assert!(found(&submitted(), &[rerun]).is_empty());
}

#[test]
fn s5_reports_two_completions_in_one_epoch() {
    let mut twice = short();
    twice.events.push(json!({"seq": 4, "type": "job.completed", "state": "completed", "fence": 1}));
    assert_bites("S5", twice);
    let mut hidden = good();
    hidden.attempts[0]["status"] = json!("completed");
    assert_bites("S5", hidden);
}

#[test]
fn s5_reports_a_completion_with_a_stale_fence() {
    let mut stale = good();
    stale.events[9]["fence"] = json!(5);
    assert_eq!(found(&submitted(), &[stale]), ["S5"]);
}

#[test]
fn f1_reports_fences_that_do_not_grow() {
    for fence in [5, 4] {
        let mut equal = good();
        (equal.events[8]["fence"], equal.events[9]["fence"]) = (json!(fence), json!(fence));
        equal.attempts[2]["fence"] = json!(fence);
        assert_bites("F1", equal);
    }
    let mut foreign = good();
    foreign.attempts[2]["fence"] = json!(7);
    assert_eq!(found(&submitted(), &[foreign]), ["F1"]);
}

#[test]
fn a1_reports_more_attempts_than_allowed() {
    let mut counted = good();
    counted.job["attempts"] = json!(3);
    assert_eq!(found(&submitted(), &[counted]), ["A1"]);
    let mut limited = good();
    (limited.job["attempts"], limited.job["maxAttempts"]) = (json!(1), json!(1));
    assert_eq!(found(&submitted(), &[limited.clone()]), ["A1"]);
    // One given back is not used up.
    limited.attempts[0]["status"] = json!("released");
    assert!(found(&submitted(), &[limited]).is_empty());
}

#[test]
fn i1_reports_two_jobs_for_one_key() {
    let mut second = short();
    second.job["id"] = json!("j2");
    assert_eq!(found(&submitted(), &[short(), second.clone()]), ["I1"]);
    second.job["tenantId"] = json!("other");
    assert_eq!(found(&submitted(), &[short(), second]), ["S2"]);
}

#[test]
fn t1_reports_accounts_that_disagree() {
    let mut behind = short();
    behind.job["state"] = json!("failed");
    assert_eq!(found(&submitted(), &[behind]), ["T1"]);
    let mut missing = good();
    missing.attempts.remove(1);
    assert_eq!(found(&submitted(), &[missing]), ["T1"]);
    let mut open = good();
    open.attempts[1]["status"] = json!("started");
    assert_eq!(found(&submitted(), &[open]), ["T1"]);
}

#[test]
fn a_recorded_history_reads_back_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let recorder = Recorder::create(&path);
    recorder.invoke(1, "submit", json!({"key": "k1"}));
    recorder.invoke(2, "submit", json!({"key": "k2"}));
    recorder.ok(1, "submit", json!({"key": "k1", "jobId": "j1"}));
    recorder.fail(2, "submit", json!({"key": "k2"}));
    let history = load(&path);
    assert_eq!(history.iter().map(|op| op.proc).collect::<Vec<_>>(), [1, 2, 1, 2]);
    assert!(history.is_sorted_by_key(|op| op.mono_ns));
    assert!(found(&history, &[short()]).is_empty());
}
