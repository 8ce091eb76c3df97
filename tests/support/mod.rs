//! What the tests outside `src/` stand on: real servers, real processes, real faults.
//!
//! Nothing here knows the platform from the inside: it starts the binary, speaks the wire contract and reads what
//! comes back. Whatever is started dies with the test process, even when that is killed (`leash`).
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "every test binary compiles the whole module and uses a part of it; a failed step fails the test"
)]

pub mod fault;
pub mod history;
pub mod http;
pub mod leash;
pub mod nightly;
pub mod node;
pub mod postgres;
pub mod wait;

pub use fault::{PgProxy, SmallDisk};
pub use http::{Answer, Api};
pub use node::{NodeBuilder, NodeProcess};
pub use postgres::PgServer;
pub use wait::{block_until, wait_for, wait_until};

/// A loopback port that was free a moment ago; whoever binds it must be ready to lose the race.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("bind a loopback port");
    listener.local_addr().expect("a bound listener has an address").port()
}
