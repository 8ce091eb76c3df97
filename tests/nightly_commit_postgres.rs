//! Connections cut around COMMIT, under load: before it reaches the server, and on its answer. `tests/run --nightly
//! commit-postgres` plays the long form.

mod outage;
mod support;

use std::time::{Duration, Instant};

use outage::{Returned, Rig};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::wait::elapse;
use support::{NodeProcess, PgProxy, PgServer, nightly, wait_for};

/// Cuts of the ordinary run.
const ROUNDS: u64 = 5;
/// Batches are committed all the time.
const CUT_DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_neither_doubles_nor_loses_a_job() {
    let rounds = nightly::rounds(ROUNDS);
    let database = PgServer::shared().create_database().await;
    let proxy = PgProxy::start(&database).await;
    let settings = NodeProcess::builder().postgres(&proxy.url(&database));
    let mut rig = Rig::start("commit-postgres", settings, rounds.start).await;
    for round in rounds.clone() {
        let mut chance = StdRng::seed_from_u64(round);
        // Several at once hit several lanes.
        let cuts = if chance.random_bool(0.2) { 4 } else { 1 };
        match round % 3 {
            0 => rig.round("answer lost", false, cut(&proxy, 0, cuts)).await,
            1 => rig.round("commit lost", false, cut(&proxy, cuts, 0)).await,
            _ => rig.round("answer lost, then no server", false, cut_and_refused(&proxy)).await,
        }
    }
    let faults = proxy.faults();
    nightly::figure("commit-postgres", "commits_lost_before_the_server", faults.commits_swallowed);
    nightly::figure("commit-postgres", "commit_answers_lost", faults.answers_lost);
    rig.finish(rounds.count(), Some(&database)).await;
}

/// Cuts links before some COMMITs and behind others, and waits until it has happened.
async fn cut(proxy: &PgProxy, before: u64, behind: u64) -> Returned {
    let cuts = || proxy.faults().commits_swallowed + proxy.faults().answers_lost;
    let due = cuts() + before + behind;
    proxy.swallow_commits(before);
    proxy.lose_commits(behind);
    wait_for("the links are cut", CUT_DEADLINE, || async {
        if cuts() >= due { Ok(()) } else { Err(proxy.faults()) }
    })
    .await;
    Returned(Instant::now())
}

/// What became of the commit cannot be asked at once either.
async fn cut_and_refused(proxy: &PgProxy) -> Returned {
    cut(proxy, 0, 1).await;
    proxy.refuse();
    elapse(Duration::from_millis(1_500)).await;
    proxy.heal();
    Returned(Instant::now())
}
