//! Ganger: a distributed job platform whose queues, active jobs and workers are supervised actors.
//!
//! Layers, in reading order; imports go one way, `tests/tidy.rs` holds it:
//! `bin → system → http → actors → store → domain`; `worker` and `cli` depend on `domain` only.

#[cfg(panic = "abort")]
compile_error!("supervision needs unwinding: build without `panic = \"abort\"`");

pub mod domain;

pub mod store;

pub mod worker;

pub mod actors;

pub mod http;

pub mod metrics;

pub mod config;

pub mod telemetry;

pub mod system;

pub mod cli;

pub mod crash_point;
