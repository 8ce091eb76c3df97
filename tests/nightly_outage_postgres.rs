//! PostgreSQL stopped, crashed, paused, cut off, and its backends ended, under load; `tests/run --nightly
//! outage-postgres` plays the long form.

mod outage;
mod support;

use std::time::{Duration, Instant};

use outage::{Returned, Rig};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::wait::elapse;
use support::{NodeProcess, PgProxy, PgServer, nightly};

/// Each fault once.
const ROUNDS: u64 = 5;
/// How long the store is gone: longer than `/readyz` may take to say so, and in the long form past every deadline
/// of a batch, a commit, a read and a change.
const GONE_MS: std::ops::Range<u64> = 6_000..8_000;
const GONE_LONG_MS: std::ops::Range<u64> = 6_000..45_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_outlives_its_postgres_and_goes_on_by_itself() {
    let rounds = nightly::rounds(ROUNDS);
    let server = PgServer::start();
    let database = server.create_database().await;
    let proxy = PgProxy::start(&database).await;
    let settings = NodeProcess::builder().postgres(&proxy.url(&database));
    let mut rig = Rig::start("outage-postgres", settings, rounds.start).await;
    for round in rounds.clone() {
        let mut chance = StdRng::seed_from_u64(round);
        let range = if nightly::is_long() { GONE_LONG_MS } else { GONE_MS };
        let gone = Duration::from_millis(chance.random_range(range));
        match round % ROUNDS {
            0 => rig.round("stopped and started", true, stopped(&server, gone)).await,
            1 => rig.round("backends ended", false, ended(&server, chance.random_range(1..6))).await,
            2 => rig.round("paused", true, paused(&server, gone)).await,
            3 => rig.round("crashed", true, crashed(&server, gone)).await,
            _ => rig.round("cut off", true, cut_off(&proxy, gone)).await,
        }
    }
    rig.finish(rounds.count(), Some(&database)).await;
}

async fn stopped(server: &PgServer, gone: Duration) -> Returned {
    server.stop();
    elapse(gone).await;
    server.restart();
    Returned(Instant::now())
}

async fn crashed(server: &PgServer, gone: Duration) -> Returned {
    server.stop_immediate();
    elapse(gone).await;
    server.restart();
    Returned(Instant::now())
}

/// All the node's connections, again and again.
async fn ended(server: &PgServer, times: u32) -> Returned {
    let mut ended = 0;
    for _ in 0..times {
        ended += server.terminate_backends().await;
        elapse(Duration::from_millis(100)).await;
    }
    assert!(ended > 0, "vacuous: no backend was ended");
    Returned(Instant::now())
}

async fn paused(server: &PgServer, gone: Duration) -> Returned {
    server.pause();
    elapse(gone).await;
    server.resume();
    Returned(Instant::now())
}

/// Nothing passes and nothing is closed.
async fn cut_off(proxy: &PgProxy, gone: Duration) -> Returned {
    let before = proxy.faults().links_held;
    proxy.black_hole();
    elapse(gone).await;
    proxy.heal();
    assert!(proxy.faults().links_held > before, "vacuous: no link was held");
    Returned(Instant::now())
}
