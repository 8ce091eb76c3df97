//! PostgreSQL's disk filled to its last byte under load, and emptied again; `tests/run --nightly disk-postgres` plays
//! the long form. Two forms: with room in the write-ahead log a table cannot grow (53100), without it the server
//! panics, and may end by itself: it is then started again as an operator would.
#![allow(clippy::allow_attributes, clippy::expect_used, reason = "a failed step fails the test")]

mod outage;
mod support;

use std::time::{Duration, Instant};

use outage::{Returned, Rig};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::{Connection, PgConnection};
use support::wait::elapse;
use support::{NodeProcess, PgServer, SmallDisk, nightly, wait_for};

const ROUNDS: u64 = 2;
const DISK_MIB: u32 = 768;
const FULL_MS: std::ops::Range<u64> = 6_000..9_000;
/// What files of the log are kept for, so that a full disk is met by a table first.
const SETTINGS: &[&str] = &["min_wal_size=256MB", "max_wal_size=320MB"];
const FILLING_BYTES: usize = 256 << 10;
const FILLING_JOBS_MAX: usize = 2_000;
/// A panic, and recovery from the log.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_postgres_and_loses_nothing() {
    for round in nightly::rounds(ROUNDS) {
        let disk = match SmallDisk::mount(DISK_MIB) {
            Ok(disk) => disk,
            Err(why) => {
                println!("SKIPPED: 0 rounds ran, a tmpfs cannot be mounted here: {why}");
                return;
            }
        };
        let server = PgServer::start_in(disk.path(), SETTINGS);
        let has_log = round % 2 == 0;
        if has_log {
            keep_log_files(&server).await;
        }
        let database = server.create_database().await;
        let settings = NodeProcess::builder().postgres(&database);
        let mut rig = Rig::start("disk-postgres", settings, round).await;
        let full = Duration::from_millis(StdRng::seed_from_u64(round).random_range(FULL_MS));
        let (world, api) = (rig.world(), rig.node.api());
        let name = if has_log { "disk full" } else { "disk full, and its log" };
        rig.round(name, true, async {
            assert!(disk.fill() > 0, "vacuous: there was no room to take");
            let found_room = world.fill(&api, "filling", FILLING_BYTES, FILLING_JOBS_MAX).await;
            println!("{found_room} large jobs found room on the full disk");
            if !has_log {
                panic_for_want_of_log(&server).await;
            }
            elapse(full).await;
            disk.free();
            returned(&server).await
        })
        .await;
        rig.finish(1, Some(&database)).await;
        drop(server);
    }
}

/// Has the server keep used files of the log, which it takes before it makes new ones.
async fn keep_log_files(server: &PgServer) {
    let mut admin = PgConnection::connect(&server.url("postgres")).await.expect("connect");
    for _ in 0..14 {
        let switch = "create table if not exists filling (id bigint); insert into filling values (1); select pg_switch_wal()";
        sqlx::raw_sql(switch).execute(&mut admin).await.expect("go on in a new file");
    }
    sqlx::raw_sql("checkpoint").execute(&mut admin).await.expect("checkpoint");
    admin.close().await.ok();
}

/// Has the server need a new file of the log, which it cannot make.
async fn panic_for_want_of_log(server: &PgServer) {
    const USE: &str = "select pg_logical_emit_message(true, 'test', 'written')";
    let mut admin = PgConnection::connect(&server.url("postgres")).await.expect("connect");
    let mut failed = None;
    for _ in 0..8 {
        for sql in [USE, "select pg_switch_wal()"] {
            if let Err(error) = sqlx::raw_sql(sql).execute(&mut admin).await {
                failed.get_or_insert(error);
            }
        }
    }
    println!("the server: {}", failed.expect("vacuous: the log found room on the full disk"));
}

/// Starts the server if it has ended, and waits until it serves.
async fn returned(server: &PgServer) -> Returned {
    // One that has panicked may recover by itself now, or have given up.
    let url = server.url("postgres");
    if !server.is_running() {
        println!("the server had ended by itself");
        server.restart();
    }
    wait_for("PostgreSQL serves again", RECOVERY_DEADLINE, || async {
        if !server.is_running() {
            println!("the server ended while it recovered");
            server.restart();
        }
        PgConnection::connect(&url).await.map(drop)
    })
    .await;
    Returned(Instant::now())
}
