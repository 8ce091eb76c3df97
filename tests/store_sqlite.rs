//! The embedded engine against the conformance suite, and what is its own.

#[cfg(test)]
#[macro_use]
mod conformance;

#[cfg(test)]
mod sqlite {
    use std::{
        io::{BufRead, BufReader},
        path::Path,
        process::{Command, Stdio},
        sync::Arc,
    };

    use ganger::{
        domain::{JobId, JobState, fence::RESTORE_STEP},
        store::{
            OpResult, Store, StoreError,
            sqlite::{SqliteOptions, SqliteStore},
        },
    };
    use tempfile::TempDir;

    use super::conformance::{self, kit::Kit};

    async fn fresh() -> (Arc<dyn Store>, TempDir) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = SqliteStore::open(dir.path(), SqliteOptions::default()).await.expect("opens");
        (Arc::new(store), dir)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn missing_fingerprints_are_made_by_upkeep() {
        use sqlx::Connection;
        let dir = tempfile::tempdir().expect("a directory");
        let kit = open(dir.path()).await.expect("opens");
        let file = format!("sqlite://{}", dir.path().join("ganger.db").display());
        let forget = async || {
            let mut plain = sqlx::SqliteConnection::connect(&file).await.expect("connects");
            let done = sqlx::query("update dead_letter set fingerprint = ''").execute(&mut plain).await;
            assert_eq!(done.expect("forgets").rows_affected(), 4);
            plain.close().await.expect("closes");
        };
        conformance::dead_letters::missing_fingerprints_are_made_by_upkeep(kit, forget).await;
    }

    const FIRST: &str = include_str!("../migrations/sqlite/0001_store.sql");

    const ROWS: &str = "
        insert into job (id, kind, queue, tenant, payload, priority, birth_state, run_at, created_at, max_attempts,
                         timeout_seconds, schema_version)
        select column1, 'mail.send', 'mail', 'default', '{\"to\": \"a\"}', 5, column2, $NOW - 3600000000 + column3,
               $NOW - 3600000000, 5, 300, 1
        from (values ($queued, 0, 0), ($scheduled, 1, 7200000000), ($active, 0, 0), ($completed, 0, 0), ($dead, 0, 0));
        insert into job_live (id, run_at, updated_at, shard, priority, state, queue, kind, tenant)
        select id, run_at, created_at, $SHARD, 5, birth_state, queue, kind, tenant from job
        where id not in ($completed, $dead);
        insert into lease (job_id, session, boot, granted_at, fence, ttl_ms, started_seq, event_seq, attempt, shard,
                           queue, worker)
        values ($active, randomblob(16), randomblob(16), $NOW - 1800000000, $FENCE, 30000, 2, 2, 1, $SHARD, 'mail', 'w');
        insert into outcome (job_id, finished_at, started_at, run_at, fence, event_seq, last_seq, started_seq, attempt,
                             shard, priority, state, end_kind, attempt_status, queue, kind, tenant, worker, error_type,
                             error_message)
        select id, $NOW - 600000000, $NOW - 1200000000, run_at, $FENCE, 3, 3, 2, 1, $SHARD, 5,
               case id when $dead then 7 else 6 end, case id when $dead then $FAILED else $COMPLETED end,
               case id when $dead then 3 else 1 end, queue, kind, tenant, 'w',
               case id when $dead then 'smtp' end, case id when $dead then 'mailbox is full' end
        from job where id in ($completed, $dead);
        insert into dead_letter (job_id, shard, queue, worker, error_type, error_message, failed_at, attempt)
        select job_id, shard, queue, worker, error_type, error_message, finished_at, attempt
        from outcome where state = 7;
        insert into counter (shard, queue, lane, queued, scheduled, active, completed, failed)
        values ($SHARD, 'mail', 0, 1, 1, 1, 1, 1);";

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_the_first_schema_held_is_all_there_after_the_second() {
        use sqlx::{AssertSqlSafe, Connection};
        let dir = tempfile::tempdir().expect("a directory");
        let file = format!("sqlite://{}?mode=rwc", dir.path().join("ganger.db").display());
        let mut plain = sqlx::SqliteConnection::connect(&file).await.expect("connects");
        sqlx::raw_sql(FIRST).execute(&mut plain).await.expect("the first schema");
        let old = conformance::upgrade::Old::new();
        let now: i64 = sqlx::query_scalar("select cast(unixepoch('subsec') * 1000000 as integer)")
            .fetch_one(&mut plain)
            .await
            .expect("tells the time");
        let rows = old.sql(&ROWS.replace("$NOW", &now.to_string()), |id| format!("x'{}'", id.0.simple()));
        sqlx::raw_sql(AssertSqlSafe(rows)).execute(&mut plain).await.expect("fills it");
        plain.close().await.expect("closes");
        let kit = open(dir.path()).await.expect("opens");
        conformance::upgrade::what_the_first_schema_held_is_all_there(kit, old).await;
    }

    conformance!(fresh);

    async fn open(dir: &Path) -> Result<Kit, StoreError> {
        let store = SqliteStore::open(dir, SqliteOptions::default()).await?;
        Ok(Kit::new(Arc::new(store)).await)
    }

    fn epoch(kit: &Kit) -> i64 {
        kit.owner("mail").epoch.0
    }

    #[tokio::test]
    async fn a_second_process_is_refused_by_name_and_served_after_the_first() {
        let dir = tempfile::tempdir().expect("a directory");
        let kit = open(dir.path()).await.expect("opens");
        let Err(StoreError::Refused(why)) = open(dir.path()).await else { panic!("two have it open") };
        assert!(why.contains(&dir.path().display().to_string()), "{why}");
        let id = kit.made("mail").await;
        kit.store.close().await;
        assert!(kit.store.ping().await.is_err(), "it is closed");
        let next = open(dir.path()).await.expect("opens");
        assert_eq!(next.state(id).await, JobState::Queued);
        assert_eq!(epoch(&next), epoch(&kit) + 1);
    }

    /// Copies the files of a database, as a backup does.
    fn copy(from: &Path, to: &Path) {
        for name in ["ganger.db", "ganger.db-wal"] {
            let _ = std::fs::remove_file(to.join(name));
            if from.join(name).exists() {
                std::fs::copy(from.join(name), to.join(name)).expect("copies");
            }
        }
    }

    #[tokio::test]
    async fn a_database_put_back_from_a_backup_is_recognised() {
        let (dir, backup) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("another"));
        let kit = open(dir.path()).await.expect("opens");
        kit.made("mail").await;
        copy(dir.path(), backup.path());
        // Lost with the restore, in the same start as the copy.
        kit.made("mail").await;
        kit.store.heartbeat(kit.boot).await.expect("beats");
        kit.store.close().await;
        copy(backup.path(), dir.path());
        let restored = open(dir.path()).await.expect("opens");
        assert_eq!(epoch(&restored), epoch(&kit) + RESTORE_STEP);
        restored.store.close().await;
        // Not restored: a start like any other.
        let next = open(dir.path()).await.expect("opens");
        assert_eq!(epoch(&next), epoch(&restored) + 1);
        next.store.close().await;
        // Copied before the last start.
        copy(backup.path(), dir.path());
        let again = open(dir.path()).await.expect("opens");
        assert_eq!(epoch(&again), epoch(&kit) + RESTORE_STEP);
        again.store.close().await;
        // A start that ended between the database and the file is no restore.
        let file = std::fs::read(dir.path().join("generation")).expect("reads");
        let crashed = open(dir.path()).await.expect("opens");
        crashed.store.close().await;
        std::fs::write(dir.path().join("generation"), file).expect("writes");
        let next = open(dir.path()).await.expect("opens");
        assert_eq!(epoch(&next), epoch(&crashed) + 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn broken_counters_are_healed() {
        use sqlx::{AssertSqlSafe, Connection};
        let dir = tempfile::tempdir().expect("a directory");
        let kit = open(dir.path()).await.expect("opens");
        let file = format!("sqlite://{}", dir.path().join("ganger.db").display());
        let spoil = |shard: ganger::domain::ShardId, queue: &'static str, column: &'static str, by: i64| {
            let file = file.clone();
            async move {
                let mut plain = sqlx::SqliteConnection::connect(&file).await.expect("connects");
                let sql =
                    format!("update counter set {column} = {column} + ?3 where shard = ?1 and queue = ?2");
                let done = sqlx::query(AssertSqlSafe(sql)).bind(shard.0).bind(queue).bind(by);
                assert_eq!(done.execute(&mut plain).await.expect("spoils").rows_affected(), 1);
                plain.close().await.expect("closes");
            }
        };
        conformance::reconcile::broken_counters_are_healed_under_load(kit, spoil).await;
    }

    const CHILD_DIR: &str = "GANGER_TEST_CHILD_DIR";

    /// The process that is killed: tells each job that was answered. Does nothing unless it is told where
    /// to write, as by `what_was_answered_survives_a_kill`.
    #[tokio::test]
    async fn writes_until_it_is_killed() {
        let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
        let kit = open(Path::new(&dir)).await.expect("opens");
        loop {
            let jobs: Vec<_> = (0..20).map(|_| conformance::kit::job("mail")).collect();
            kit.commit(&jobs.iter().map(|job| kit.submit_op(job)).collect::<Vec<_>>()).await;
            kit.run("mail", jobs[0].id, conformance::kit::completed()).await;
            println!("answered {} {}", jobs[0].id, jobs[1].id);
        }
    }

    #[tokio::test]
    async fn what_was_answered_survives_a_kill() {
        let dir = tempfile::tempdir().expect("a directory");
        for answered in [1, 7, 30] {
            let mut child = Command::new(std::env::current_exe().expect("a path"))
                .args(["--exact", "sqlite::writes_until_it_is_killed", "--nocapture"])
                .env(CHILD_DIR, dir.path())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("starts");
            let output = BufReader::new(child.stdout.take().expect("its output"));
            let lines = output.lines().map_while(Result::ok);
            let told: Vec<_> = lines
                .filter_map(|line| line.split_once("answered ").map(|(_, ids)| ids.to_owned()))
                .take(answered)
                .collect();
            child.kill().expect("is killed");
            child.wait().expect("is gone");
            assert_eq!(told.len(), answered, "it wrote until it was killed");
            let kit = open(dir.path()).await.expect("opens");
            for ids in told {
                let ids: Vec<JobId> = ids.split(' ').map(|id| id.parse().expect("an id")).collect();
                assert_eq!(kit.state(ids[0]).await, JobState::Completed);
                assert_eq!(kit.state(ids[1]).await, JobState::Queued);
            }
            kit.check().await;
            kit.store.close().await;
        }
    }

    /// Whole lives per second. Runs only with `GANGER_BENCH=1`, better with `--release`:
    /// `GANGER_BENCH=1 cargo test --release --test store_sqlite lives -- --nocapture`
    #[tokio::test(flavor = "multi_thread")]
    async fn lives_per_second() {
        if std::env::var_os("GANGER_BENCH").is_none() {
            return;
        }
        for batch in [1, 16, 64, 256, 512, 1_024] {
            let (store, _guard) = fresh().await;
            let kit = conformance::kit::Kit::new(store).await;
            let rounds = (40_000 / batch).clamp(20, 600);
            let started = std::time::Instant::now();
            let mut spent = [std::time::Duration::ZERO; 3];
            for _ in 0..rounds {
                let jobs: Vec<_> = (0..batch).map(|_| conformance::kit::job("mail")).collect();
                let at = std::time::Instant::now();
                kit.commit(&jobs.iter().map(|job| kit.submit_op(job)).collect::<Vec<_>>()).await;
                spent[0] += at.elapsed();
                let at = std::time::Instant::now();
                let grants: Vec<_> = jobs.iter().map(|job| kit.grant_op("mail", job.id)).collect();
                let granted = kit.commit(&grants).await;
                spent[1] += at.elapsed();
                let at = std::time::Instant::now();
                let ends: Vec<_> = granted
                    .into_iter()
                    .map(|result| match result {
                        OpResult::Granted(g) => {
                            kit.end_op("mail", g.job, g.fence, conformance::kit::completed())
                        }
                        other => panic!("{other:?}"),
                    })
                    .collect();
                kit.commit(&ends).await;
                spent[2] += at.elapsed();
            }
            let lives = (rounds * batch) as f64;
            println!(
                "batch {batch}: {:.0} lives/s; µs a job: submit {:.1}, grant {:.1}, end {:.1}",
                lives / started.elapsed().as_secs_f64(),
                spent[0].as_secs_f64() * 1e6 / lives,
                spent[1].as_secs_f64() * 1e6 / lives,
                spent[2].as_secs_f64() * 1e6 / lives,
            );
        }
    }
}
