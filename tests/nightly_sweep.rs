//! The crash-point sweep: at each step of a job's life the node dies, fails, panics or stands still, once, and the
//! promises must hold afterwards. `tests/run --nightly sweep` plays every point with every action on both engines.

mod support;
mod sweep;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_point_is_passed_by_the_script() {
    sweep::pass_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_at_any_step_breaks_no_promise() {
    sweep::play().await;
}
