//! What a request brings, checked: every refusal is a problem.

pub(in crate::http) mod job_id;
mod json;
mod params;

pub use job_id::JobPath;
pub use json::{ApiJson, OptionalJson};
pub use params::Params;
