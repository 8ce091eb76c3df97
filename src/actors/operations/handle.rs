//! The face of the operations.

use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[derive(Debug, Default)]
struct Inner {
    wake: Notify,
    running: DashMap<Uuid, CancellationToken>,
}

/// Wakes and stops bulk operations. The rows in the store are the fact; this only makes it quick.
#[derive(Debug, Clone, Default)]
pub struct OperationsHandle(Arc<Inner>);

impl OperationsHandle {
    /// An operation was begun: look for it.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// An operation was ended in the store: its runner stops behind the step that is under way.
    pub fn stop(&self, id: Uuid) {
        if let Some(runner) = self.0.running.get(&id) {
            runner.cancel();
        }
    }

    pub(super) async fn woken(&self) {
        self.0.wake.notified().await;
    }

    /// A runner begins; it is told by the token when it is to stop, and by the guard's end that it has.
    pub(super) fn running(&self, id: Uuid) -> (CancellationToken, Running) {
        let token = CancellationToken::new();
        self.0.running.insert(id, token.clone());
        (token, Running(self.clone(), id))
    }
}

/// A runner that runs.
#[derive(Debug)]
pub(super) struct Running(OperationsHandle, Uuid);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.running.remove(&self.1);
    }
}
