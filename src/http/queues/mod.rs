//! Queues: looked at, set, paused, resumed, drained and purged.

mod control;
mod name;
mod purge;
mod read;

pub(in crate::http) use control::{__path_configure, __path_drain, __path_pause, __path_resume};
pub use control::{OrderRequest, configure, drain, pause, resume};
pub(in crate::http) use purge::__path_purge;
pub use purge::{PurgeRequest, purge};
pub(in crate::http) use read::{__path_get, __path_list};
pub use read::{get, list};
