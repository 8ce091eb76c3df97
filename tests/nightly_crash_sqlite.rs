//! `kill -9` under load on the embedded store; `tests/run --nightly crash-sqlite` plays the long form.

mod crash;
mod support;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_kill_9() {
    crash::play(crash::Engine::Sqlite).await;
}
