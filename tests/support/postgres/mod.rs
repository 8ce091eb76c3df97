//! A private PostgreSQL server: own folder, own port, durable settings, gone with the test process.
//!
//! Starting one takes a copy of a cluster made once by `initdb` and kept under `target/`, so tests that stop and
//! crash a server can each have theirs. Root may not run PostgreSQL: it then runs as the user `postgres`.

mod process;
mod template;

use std::path::Path;
use std::sync::OnceLock;

use sqlx::{Connection, PgConnection};

use super::free_port;
use process::Postmaster;

/// One server. Stopped, and its folder removed, on drop.
#[derive(Debug)]
pub struct PgServer {
    /// Scheme, user, host and port: `postgres://postgres@127.0.0.1:5433`.
    origin: String,
    /// Absent when the server was given by `GANGER_TEST_POSTGRES_URL` and is not ours to stop.
    own: Option<Postmaster>,
}

impl PgServer {
    /// A new server of one's own, which may be stopped and crashed.
    pub fn start() -> Self {
        Self::start_in(&std::env::temp_dir(), &[])
    }

    /// The same, with its folder under `base` and these settings besides the usual ones.
    pub fn start_in(base: &Path, settings: &'static [&'static str]) -> Self {
        let mut failure = String::new();
        // Another process may take the free port first.
        for _ in 0..5 {
            match Postmaster::start(free_port(), base, settings) {
                Ok(own) => {
                    return Self {
                        origin: format!("postgres://postgres@127.0.0.1:{}", own.port()),
                        own: Some(own),
                    };
                }
                Err(reason) => failure = reason,
            }
        }
        panic!("failed to start PostgreSQL: {failure}");
    }

    /// The one server that all tests of this process share: never stop it, ask it for a database. It is the one
    /// named by `GANGER_TEST_POSTGRES_URL` (which `tests/run` starts), or else a private one.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<PgServer> = OnceLock::new();
        SHARED.get_or_init(|| match std::env::var("GANGER_TEST_POSTGRES_URL") {
            Ok(given) if !given.is_empty() => {
                let mut url = url::Url::parse(&given).expect("GANGER_TEST_POSTGRES_URL is a URL");
                url.set_path("");
                Self { origin: url.to_string().trim_end_matches('/').to_owned(), own: None }
            }
            _ => Self::start(),
        })
    }

    /// Where a client reaches the database `db`, over TCP.
    pub fn url(&self, db: &str) -> String {
        format!("{}/{db}", self.origin)
    }

    /// A database that nobody else uses; its URL.
    pub async fn create_database(&self) -> String {
        // `template0` has no other users, so creations in parallel do not get in each other's way.
        self.copy_database("template0").await
    }

    /// A database of one's own that begins as a copy of `template`, to which nobody is connected; its URL.
    pub async fn copy_database(&self, template: &str) -> String {
        let name = format!("t_{}", uuid::Uuid::now_v7().simple());
        let mut admin =
            PgConnection::connect(&self.url("postgres")).await.expect("connect to the server's own database");
        let create = sqlx::AssertSqlSafe(format!("create database {name} template {template}"));
        sqlx::raw_sql(create).execute(&mut admin).await.expect("create a database");
        admin.close().await.ok();
        self.url(&name)
    }

    /// Crashes it: every backend ends at once, and the next start recovers from the log.
    pub fn stop_immediate(&self) {
        self.owned().halt("QUIT");
    }

    /// Stops it in order, disconnecting its clients.
    pub fn stop(&self) {
        self.owned().halt("INT");
    }

    /// Starts it again on the same port and folder, after stopping it if it runs.
    pub fn restart(&self) {
        self.stop();
        self.owned().launch().expect("start PostgreSQL again");
    }

    /// Freezes it with all its backends: nothing answers and nothing is closed, until `resume` (or its end).
    pub fn pause(&self) {
        self.owned().signal_all("STOP");
    }

    /// Ends `pause`.
    pub fn resume(&self) {
        self.owned().signal_all("CONT");
    }

    /// Whether it lives: one whose disk is full may have ended by itself.
    pub fn is_running(&self) -> bool {
        self.owned().is_running()
    }

    /// Ends every backend whose connection calls itself `ganger …`; how many.
    pub async fn terminate_backends(&self) -> i64 {
        const END: &str = "select count(pg_terminate_backend(pid)) from pg_stat_activity
            where application_name like 'ganger%'";
        let mut admin =
            PgConnection::connect(&self.url("postgres")).await.expect("connect to the server's own database");
        let ended = sqlx::query_scalar(END).fetch_one(&mut admin).await.expect("end the backends");
        admin.close().await.ok();
        ended
    }

    fn owned(&self) -> &Postmaster {
        self.own.as_ref().expect("the server was given from outside: start a private one to stop it")
    }
}
