//! `kill -9` under load on PostgreSQL; `tests/run --nightly crash-postgres` plays the long form.

mod crash;
mod support;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_kill_9() {
    crash::play(crash::Engine::Postgres).await;
}
