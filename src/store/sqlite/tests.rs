//! Every statement is prepared, and the plans of those that run often are looked at.

use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::{writer::Writer, *};

fn statements() -> Vec<(&'static str, &'static str)> {
    let files = [
        batch::STATEMENTS,
        cancel::STATEMENTS,
        commit::STATEMENTS,
        end::STATEMENTS,
        gate::STATEMENTS,
        generation::STATEMENTS,
        grant::STATEMENTS,
        graph::STATEMENTS,
        inbox::STATEMENTS,
        jobs::STATEMENTS,
        moves::STATEMENTS,
        ownership::STATEMENTS,
        parts::STATEMENTS,
        queues::STATEMENTS,
        remove::STATEMENTS,
        schema::STATEMENTS,
        submit::STATEMENTS,
        submit_rows::STATEMENTS,
        wake::STATEMENTS,
        &[("ping", PING)],
    ];
    files.concat()
}

/// Lists and reports for people may read all jobs: they have a deadline, and nothing waits for them.
const MAY_SCAN: [&str; 4] = ["list all", "list live", "list ended", "finished"];

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
    for (name, index) in
        [("ready", "job_live_ready"), ("deferred", "job_live_ready"), ("due", "job_live_deferred")]
    {
        let (_, sql) = statements().into_iter().find(|(other, _)| *other == name).expect("is listed");
        let plan = plan(conn, sql).await;
        assert!(plan[0].contains(index), "{name}: {plan:#?}");
        assert!(!plan.iter().any(|line| line.contains("TEMP B-TREE")), "{name} sorts: {plan:#?}");
    }
}
