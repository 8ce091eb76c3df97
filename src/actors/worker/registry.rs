//! The sessions of this node, as queues and the overview see them.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
};

use dashmap::DashMap;

use super::{control::WorkerControl, messages::SessionOp};
use crate::{
    actors::{lease::Runs, queue::core::SessionInfo, runtime::Door},
    domain::{SessionId, Timestamp, WorkerId},
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
    /// The machine it runs on.
    pub hostname: Arc<str>,
    /// The node it is connected to.
    pub node: Arc<str>,
    /// When its session began, on the store's clock.
    pub started_at: Timestamp,
    /// When it was last heard, as microseconds of the store's clock.
    pub seen: AtomicI64,
    /// What operators want of it.
    pub control: Arc<WorkerControl>,
}

impl WorkerFacts {
    /// Whether it serves this queue.
    #[must_use]
    pub fn serves(&self, queue: &str) -> bool {
        self.queues.as_ref().is_none_or(|queues| queues.contains(queue))
    }

    /// Whether it handles this type.
    #[must_use]
    pub fn handles(&self, kind: &str) -> bool {
        self.types.as_ref().is_none_or(|types| types.contains(kind))
    }

    /// Whether it takes no more jobs, as an operator wants it.
    #[must_use]
    pub fn is_cordoned(&self) -> bool {
        self.control.is_cordoned()
    }

    /// It was heard.
    pub fn note_seen(&self, at: Timestamp) {
        self.seen.store(at.0, Ordering::Relaxed);
    }

    /// When it was last heard.
    #[must_use]
    pub fn last_seen(&self) -> Timestamp {
        Timestamp(self.seen.load(Ordering::Relaxed))
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
    controls: DashMap<WorkerId, Arc<WorkerControl>>,
    runs: Runs,
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

    /// What operators want of a worker; kept over its sessions.
    #[must_use]
    pub fn control(&self, worker: &WorkerId) -> Arc<WorkerControl> {
        self.controls.entry(worker.clone()).or_default().value().clone()
    }

    /// The live sessions.
    #[must_use]
    pub fn all(&self) -> Vec<(SessionId, Arc<WorkerFacts>)> {
        self.live.iter().map(|entry| (*entry.key(), entry.value().clone())).collect()
    }

    /// The active jobs of this node.
    #[must_use]
    pub fn runs(&self) -> &Runs {
        &self.runs
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
