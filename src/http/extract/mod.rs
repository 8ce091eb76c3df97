//! What a request brings, checked: every refusal is a problem.

pub(in crate::http) mod job_id;
mod json;
mod params;
mod reason;

pub use job_id::JobPath;
pub(in crate::http) use job_id::parse as parse_job_id;
pub use json::{ApiJson, OptionalJson};
pub(in crate::http) use json::{media_type, parse, read_up_to};
pub use params::Params;
pub(in crate::http) use reason::reason;
