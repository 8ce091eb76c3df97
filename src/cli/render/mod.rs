//! Answers as text for people. Pure: data and a view in, text out. Every text of the server goes through
//! `clean`, either here or in the table's cells.

mod actors;
mod dashboard;
mod events;
mod graph;
mod job;
mod jobs;
mod lists;
mod overview;
mod paint;
mod table;
mod things;
mod top;
mod values;

#[cfg(test)]
mod samples;

pub(super) use actors::actors;
pub(super) use dashboard::dashboard;
pub(super) use events::event;
pub(super) use graph::{graph, is_settled};
pub(super) use job::{attempts, brief, inspection, job, timeline};
pub(super) use jobs::jobs;
pub(super) use lists::{audit, dead_letters, error_groups, operations, queues, workers};
pub(super) use overview::overview;
pub(super) use paint::state_word;
pub(super) use things::{changed, explanation, health, job_line, log_line, page};
pub(super) use top::{Order, QueueLine, TopView, top};
