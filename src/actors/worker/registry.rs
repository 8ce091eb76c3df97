//! The sessions of this node, as queues and the overview see them.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use dashmap::DashMap;

use super::messages::SessionOp;
use crate::{
    actors::{queue::core::SessionInfo, runtime::Door},
    domain::{SessionId, WorkerId},
};

/// What is known of a session.
#[derive(Debug)]
pub struct WorkerFacts {
    /// Its worker.
    pub worker: WorkerId,
    /// The queues it serves; `None`: all.
    pub queues: Option<HashSet<String>>,
    /// The types it handles; `None`: all.
    pub types: Option<HashSet<String>>,
    /// How many jobs it runs at once.
    pub concurrency: usize,
    /// How many run.
    pub running: AtomicUsize,
    /// Its door.
    pub door: Door<SessionOp>,
}

impl WorkerFacts {
    /// Whether it serves this queue.
    #[must_use]
    pub fn serves(&self, queue: &str) -> bool {
        self.queues.as_ref().is_none_or(|queues| queues.contains(queue))
    }

    /// As a queue's core needs it.
    #[must_use]
    pub fn info(&self) -> SessionInfo {
        SessionInfo { worker: self.worker.clone(), types: self.types.clone() }
    }
}

/// The live sessions, and those that ended while queues may still believe in them.
#[derive(Debug, Default)]
pub struct Sessions {
    live: DashMap<SessionId, Arc<WorkerFacts>>,
    current: Mutex<Option<SessionId>>,
}

impl Sessions {
    /// Registers the in-process worker's session; the one before it, if there was one.
    pub fn begin(&self, id: SessionId, facts: Arc<WorkerFacts>) -> Option<SessionId> {
        let before = self.current.lock().unwrap_or_else(PoisonError::into_inner).replace(id);
        if let Some(before) = before {
            self.live.remove(&before);
        }
        self.live.insert(id, facts);
        before
    }

    /// A live session.
    #[must_use]
    pub fn get(&self, id: SessionId) -> Option<Arc<WorkerFacts>> {
        self.live.get(&id).map(|entry| entry.value().clone())
    }

    /// The live sessions that serve a queue.
    #[must_use]
    pub fn serving(&self, queue: &str) -> Vec<(SessionId, Arc<WorkerFacts>)> {
        let serves = |facts: &WorkerFacts| facts.serves(queue);
        self.live.iter().filter(|e| serves(e.value())).map(|e| (*e.key(), e.value().clone())).collect()
    }

    /// The live sessions.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<WorkerFacts>> {
        self.live.iter().map(|entry| entry.value().clone()).collect()
    }

    /// How many live.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether none lives.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// How many jobs they run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.live.iter().map(|entry| entry.running.load(Ordering::Relaxed)).sum()
    }
}
