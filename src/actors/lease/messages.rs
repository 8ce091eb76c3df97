//! What a lease's actor is told. Controls come once in a job's life, so they go through the mailbox.

/// A message to a lease's actor.
#[derive(Debug, Clone)]
pub enum LeaseMessage {
    /// Ask the worker to stop the job.
    Cancel,
}
