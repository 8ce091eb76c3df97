//! The whole router in process: what needs no actors.

mod access;
mod changes;
mod description;
mod hostile;
mod reads;
mod searches;
mod streams;
