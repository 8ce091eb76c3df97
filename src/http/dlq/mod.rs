//! Dead letters: listed, grouped by cause, run again, deleted.

mod act;
mod cursor;
mod list;
mod select;

pub(in crate::http) use act::{__path_delete, __path_replay};
pub use act::{LettersDeleted, ReplayRequest, delete, replay};
pub(in crate::http) use list::{__path_groups, __path_list};
pub use list::{DeadLetterView, groups, list};
pub use select::{LetterFilterRequest, SelectionRequest};
