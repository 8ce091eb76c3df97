//! Jobs: submitted, listed, looked into, waited for, changed, canceled, run again and forgotten.

mod batch;
mod change;
mod control;
pub(in crate::http) mod cursor;
mod explain;
mod list;
pub(in crate::http) mod live;
mod logs;
mod read;
mod submit;
pub(in crate::http) mod view;
mod wait;

pub(in crate::http) use batch::__path_batch;
pub use batch::{BatchLine, BatchLineJob, BatchRequest, batch};
pub(in crate::http) use change::{__path_forget, __path_update};
pub use change::{forget, update};
pub(in crate::http) use control::{__path_cancel, __path_retry};
pub use control::{CancelRequest, cancel, retry};
pub(in crate::http) use explain::__path_explain;
pub use explain::explain;
pub(in crate::http) use list::__path_list;
pub use list::list;
pub(in crate::http) use logs::__path_logs;
pub use logs::logs;
pub(in crate::http) use read::{__path_attempts, __path_events, __path_get, __path_graph, __path_inspection};
pub use read::{InspectionView, attempts, events, get, graph, inspection};
pub(in crate::http) use submit::{__path_submit, check_payload, refused};
pub use submit::{SubmitResponse, submit};
pub(in crate::http) use wait::__path_wait;
pub use wait::wait;
