//! Every statement is prepared, and the plans of those that run often are looked at.

use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::{writer::Writer, *};

fn statements() -> Vec<(&'static str, &'static str)> {
    let files = [
        audit::STATEMENTS,
        batch::STATEMENTS,
        cancel::STATEMENTS,
        commit::STATEMENTS,
        dead_letters::STATEMENTS,
        end::STATEMENTS,
        forget::STATEMENTS,
        gate::STATEMENTS,
        generation::STATEMENTS,
        grant::STATEMENTS,
        graph::STATEMENTS,
        inbox::STATEMENTS,
        jobs::STATEMENTS,
        log::STATEMENTS,
        moves::STATEMENTS,
        operations::STATEMENTS,
        ownership::STATEMENTS,
        parts::STATEMENTS,
        queues::STATEMENTS,
        reconcile::STATEMENTS,
        remove::STATEMENTS,
        replay::STATEMENTS,
        retry::STATEMENTS,
        schema::STATEMENTS,
        search::STATEMENTS,
        admit::STATEMENTS,
        aside::STATEMENTS,
        settings::STATEMENTS,
        submissions::STATEMENTS,
        submit::STATEMENTS,
        submit_rows::STATEMENTS,
        update::STATEMENTS,
        wake::STATEMENTS,
        writer::STATEMENTS,
        &[("ping", PING)],
    ];
    files.concat()
}

/// Lists and reports for people may read all jobs: they have a deadline, and nothing waits for them.
const MAY_SCAN: [&str; 3] = ["finished", "letters groups", "reconcile ended"];

/// Tables that grow with the number of jobs, and the names they have in statements.
const GROWING: [&str; 13] = [
    "job",
    "job_live",
    "l",
    "lease",
    "outcome",
    "o",
    "event",
    "attempt",
    "a",
    "dependency",
    "d",
    "inbox",
    "idempotency",
];

async fn opened() -> (tempfile::TempDir, SqliteStore) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(dir.path(), SqliteOptions::default()).await.expect("opens");
    store.migrate(true).await.expect("migrates");
    (dir, store)
}

/// A birth with a payload of `bytes`.
fn birth(bytes: usize) -> Op {
    let job = crate::domain::NewJob {
        id: JobId::new(),
        kind: "test".into(),
        queue: "test".into(),
        tenant: "default".into(),
        payload: crate::domain::RawJson::trusted(format!("\"{}\"", "x".repeat(bytes))),
        priority: 5,
        run_at: None,
        max_attempts: 1,
        timeout_seconds: 1,
        schema_version: 1,
        idempotency: None,
        workflow_id: None,
        dependencies: Vec::new(),
        dependency_policy: crate::domain::DependencyPolicy::Block,
        unique: None,
        options: crate::domain::JobOptions::default(),
    };
    Op::Submit(crate::store::ops::SubmitOp { owner: None, jobs: vec![job] })
}

async fn plan(conn: &mut SqliteConnection, sql: &str) -> Vec<String> {
    let explain = format!("explain query plan {sql}");
    let rows = sqlx::query(AssertSqlSafe(explain)).fetch_all(conn).await.expect("explains");
    rows.iter().map(|row| row.get::<String, _>("detail")).collect()
}

async fn database() -> (tempfile::TempDir, Writer) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut writer = Writer::open(&dir.path().join("ganger.db")).await.expect("opens");
    schema::migrate(writer.connection().await.expect("connects"), true).await.expect("migrates");
    (dir, writer)
}

#[tokio::test]
async fn every_statement_prepares_and_none_that_is_hot_scans_a_growing_table() {
    let (_dir, mut writer) = database().await;
    let conn = writer.connection().await.expect("connects");
    for (name, sql) in statements() {
        // Explaining prepares.
        let plan = plan(conn, sql).await;
        if MAY_SCAN.contains(&name) {
            continue;
        }
        for line in &plan {
            let scanned = line.strip_prefix("SCAN ").and_then(|rest| rest.split(' ').next());
            assert!(
                !scanned.is_some_and(|table| GROWING.contains(&table)),
                "{name} reads a whole table: {plan:#?}"
            );
        }
    }
}

#[tokio::test]
async fn the_ready_order_comes_from_its_index_without_sorting() {
    let (_dir, mut writer) = database().await;
    let conn = writer.connection().await.expect("connects");
    for (name, index) in [
        ("ready", "job_live_ready"),
        ("deferred", "job_live_ready"),
        ("due", "job_live_deferred"),
        ("gates", "job_live_gate"),
        ("unpark", "job_live_gate"),
    ] {
        let (_, sql) = statements().into_iter().find(|(other, _)| *other == name).expect("is listed");
        let plan = plan(conn, sql).await;
        assert!(plan.iter().any(|line| line.contains(index)), "{name}: {plan:#?}");
        assert!(!plan.iter().any(|line| line.contains("TEMP B-TREE")), "{name} sorts: {plan:#?}");
    }
}

#[tokio::test]
async fn searches_go_along_an_index_and_stay_within_their_step() {
    let (_dir, mut writer) = database().await;
    let conn = writer.connection().await.expect("connects");
    for (name, sql) in search::STATEMENTS {
        let plan = plan(conn, sql).await;
        let rows = plan.iter().find(|line| line.starts_with("SEARCH")).expect("looks rows up");
        assert!(rows.contains("id>? AND ") && rows.contains("id<?"), "{name}: {plan:#?}");
        // Two states' rows come one state after the other: those of one step are put in order.
        let sorts = plan.iter().any(|line| line.contains("TEMP B-TREE"));
        assert!(!sorts || name.contains("unhappy"), "{name} sorts: {plan:#?}");
    }
}

#[tokio::test]
async fn a_lost_commit_is_settled_before_anything_else_is_written() {
    let (_dir, store) = opened().await;
    let unknown = |seq| UnknownCommit {
        results: Vec::new(),
        witness: Box::new(commit::Witness(seq)),
        cause: "a test".into(),
    };
    let lose = async |seq| store.writer.lock().await.as_mut().expect("open").unsettled = Some(seq);
    store.commit(0, &[birth(1)]).await.expect("commits");
    lose(1).await;
    assert_eq!(store.settle(&unknown(1)).await.expect("settles"), Settled::Committed);
    lose(2).await;
    store.commit(0, &[birth(1)]).await.expect("commits");
    for _ in 0..2 {
        assert_eq!(store.settle(&unknown(2)).await.expect("settles"), Settled::RolledBack);
        store.commit(0, &[birth(1)]).await.expect("commits");
    }
    assert!(matches!(store.settle(&unknown(99)).await, Err(StoreError::Refused(_))));
    let foreign = UnknownCommit { results: Vec::new(), witness: Box::new(()), cause: "a test".into() };
    assert!(matches!(store.settle(&foreign).await, Err(StoreError::Refused(_))));
}

#[tokio::test]
async fn a_full_disk_is_unavailable_and_writes_nothing() {
    let (_dir, store) = opened().await;
    let limit = async |sql: &'static str| {
        let mut writer = store.writer.lock().await;
        let conn = writer.as_mut().expect("open").connection().await.expect("connects");
        sqlx::query(sql).execute(conn).await.expect("sets the limit");
    };
    // SQLite holds it to the pages there are.
    limit("pragma max_page_count = 1").await;
    let large = birth(1 << 20);
    let Op::Submit(submitted) = &large else { unreachable!("a submit") };
    let answer = store.commit(0, std::slice::from_ref(&large)).await;
    assert!(matches!(answer, Err(CommitError::Failed(StoreError::Unavailable(_)))), "{answer:?}");
    assert!(store.job(submitted.jobs[0].id).await.expect("reads").is_none());
    limit("pragma max_page_count = 1000000").await;
    store.commit(0, std::slice::from_ref(&large)).await.expect("commits");
    assert!(store.job(submitted.jobs[0].id).await.expect("reads").is_some());
}

#[tokio::test]
async fn a_batch_whose_caller_went_away_leaves_nothing_behind() {
    let (_dir, store) = opened().await;
    for polls in 1..40 {
        let op = birth(10);
        let Op::Submit(submitted) = &op else { unreachable!("a submit") };
        let abandoned = std::slice::from_ref(&op);
        {
            let mut commit = std::pin::pin!(store.commit(0, abandoned));
            for _ in 0..polls {
                if futures_util::poll!(commit.as_mut()).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        // All of it, or nothing: a repeat makes it whole.
        store.commit(0, abandoned).await.expect("commits");
        assert!(store.job(submitted.jobs[0].id).await.expect("reads").is_some());
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_an_old_one_needs_leave() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(dir.path(), SqliteOptions::default()).await.expect("opens");
    assert!(matches!(store.migrate(false).await, Err(StoreError::Refused(_))));
    store.migrate(true).await.expect("migrates");
    store.migrate(true).await.expect("and again, without a change");
    store.migrate(false).await.expect("is up to date");
    {
        let mut writer = store.writer.lock().await;
        let conn = writer.as_mut().expect("open").connection().await.expect("connects");
        sqlx::query("pragma user_version = 99").execute(conn).await.expect("sets it");
    }
    assert!(matches!(store.migrate(true).await, Err(StoreError::Refused(_))));
}

#[tokio::test]
async fn commits_are_synchronous() {
    let (_dir, store) = opened().await;
    let mut writer = store.writer.lock().await;
    let conn = writer.as_mut().expect("open").connection().await.expect("connects");
    let mode: String = sqlx::query_scalar("pragma journal_mode").fetch_one(&mut *conn).await.expect("reads");
    let synchronous: i64 = sqlx::query_scalar("pragma synchronous").fetch_one(conn).await.expect("reads");
    assert_eq!((mode.as_str(), synchronous), ("wal", 2));
}
