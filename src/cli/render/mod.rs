//! Answers as text for people. Pure: data and a view in, text out. Every text of the server goes through
//! `clean`, either here or in the table's cells.

mod actors;
mod events;
mod graph;
mod job;
mod jobs;
mod overview;
mod paint;
mod table;

#[cfg(test)]
mod samples;

pub(super) use actors::actors;
pub(super) use events::event;
pub(super) use graph::{graph, is_settled};
pub(super) use job::{attempts, brief, inspection, timeline};
pub(super) use jobs::jobs;
pub(super) use overview::overview;
pub(super) use paint::state_word;
