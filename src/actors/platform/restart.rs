//! An operator starts an actor afresh.

use std::time::Duration;

use super::Platform;
use crate::{
    actors::runtime::OperatorError,
    store::{
        Op,
        ops::{AuditOp, Requester},
    },
};

/// How long the audit row is waited for. A restart may be what brings the store's own actors back: it is
/// done without the row then, and the log has it.
const AUDIT_DEADLINE: Duration = Duration::from_secs(3);

impl Platform {
    /// Starts an actor, and all below it, afresh, on an operator's behalf: with a row in the audit log.
    ///
    /// # Errors
    /// Nothing has that path, it is the root, or its supervisor is down.
    pub async fn restart_for(&self, path: &str, by: Requester) -> Result<(), OperatorError> {
        let place = self.directory().probe(path).ok_or(OperatorError::NotFound)?;
        let actor = by.actor.clone();
        let audit = AuditOp {
            action: "actor.restarted",
            object_type: "actor",
            object_id: path.to_owned(),
            by,
            before: None,
            after: None,
        };
        // Refusals are not worth a row, and the root is the only one that is known beforehand.
        if path.contains('/') {
            let journal = &self.0.journal;
            let written = journal.ask(journal.idlest(), Op::Audit(audit), AUDIT_DEADLINE).await;
            if let Err(error) = written {
                tracing::error!(path, kind = place.kind(), actor, %error, "restarted without a row in the audit log");
            }
        }
        self.restart(path)
    }
}
