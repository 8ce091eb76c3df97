//! Running jobs over HTTP: what they say, how they are stopped, who runs them, and how one is followed.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed step fails the test"
)]

mod support;

#[cfg(test)]
#[path = "api_running/rig.rs"]
mod rig;
#[cfg(test)]
#[path = "api_running/said.rs"]
mod said;
#[cfg(test)]
#[path = "api_running/stop.rs"]
mod stop;
#[cfg(test)]
#[path = "api_running/workers.rs"]
mod workers;
