//! The workers, looked at and steered.

use std::{collections::HashMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{ASK_DEADLINE, AskError, Platform};
use crate::{
    actors::{
        console::StreamEvent,
        worker::{Steer, WorkerFacts, WorkerStatus, messages::SessionOp},
    },
    domain::{JobId, RawJson, Timestamp, WorkerId},
    store::{
        Op, OpResult,
        ops::{AuditOp, Requester},
    },
};

/// How long a worker's session is waited for, which looks at what is wanted each 250 ms.
const OBEY_PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A worker as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerView {
    /// Its id, over its reconnects.
    pub worker_id: WorkerId,
    /// The machine it runs on.
    pub hostname: String,
    /// The queues it serves; `*`: all.
    pub queues: Vec<String>,
    /// The types it handles; `*`: all.
    pub types: Vec<String>,
    /// How many jobs it runs at once.
    pub concurrency: usize,
    /// How it is doing.
    pub status: WorkerStatus,
    /// When its session began.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When it was last heard.
    #[schema(value_type = String, format = DateTime)]
    pub last_seen_at: Timestamp,
    /// How long ago that was, in milliseconds.
    pub heartbeat_age_ms: i64,
    /// How many leases it holds.
    pub active_lease_count: usize,
    /// How long it has held the oldest, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_lease_age_ms: Option<i64>,
    /// The job of the oldest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest_lease_job_id: Option<JobId>,
    /// The version of its program.
    pub version: String,
    /// The node it is connected to.
    pub node_id: String,
    /// `in_process`, or how it is connected.
    pub transport: String,
}

/// The leases of one worker.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    count: usize,
    oldest: Option<(Timestamp, JobId)>,
}

impl Platform {
    /// The workers with a live session, the newest first.
    #[must_use]
    pub fn workers(&self) -> Vec<WorkerView> {
        let mut held: HashMap<WorkerId, Held> = HashMap::new();
        self.runs().each(|facts| {
            let held = held.entry(facts.worker.clone()).or_default();
            held.count += 1;
            let this = (facts.granted_at, facts.job);
            held.oldest = Some(held.oldest.map_or(this, |oldest| oldest.min(this)));
        });
        let now = self.0.clock.now();
        let shown =
            |facts: &WorkerFacts| view(facts, held.get(&facts.worker).copied().unwrap_or_default(), now);
        let mut workers: Vec<WorkerView> =
            self.0.sessions.all().iter().map(|(_, facts)| shown(facts)).collect();
        workers.sort_by(|a, b| (b.started_at, &b.worker_id).cmp(&(a.started_at, &a.worker_id)));
        workers
    }

    /// A worker with a live session.
    #[must_use]
    pub fn worker(&self, id: &str) -> Option<WorkerView> {
        self.workers().into_iter().find(|worker| *worker.worker_id.0 == *id)
    }

    /// Steers a worker, and has it in the audit log; `None` for an unknown one. It holds over the worker's
    /// sessions, and until this node ends.
    ///
    /// # Errors
    /// The audit row could not be written, and nothing was done; after `TimedOut` the row may be there.
    pub async fn steer_worker(
        &self,
        id: &str,
        steer: Steer,
        by: Requester,
    ) -> Result<Option<WorkerView>, AskError> {
        let Some(before) = self.worker(id) else { return Ok(None) };
        let control = self.0.sessions.control(&before.worker_id);
        let (action, wanted) = match steer {
            Steer::Resume => ("worker.resumed", "running"),
            Steer::Cordon => ("worker.cordoned", "cordoned"),
            Steer::Drain => ("worker.draining", "draining"),
        };
        if control.wish() == steer {
            // Asked again: a drained worker stays so.
            return Ok(Some(before));
        }
        let state =
            |status: &str| Some(RawJson::trusted(serde_json::json!({ "status": status }).to_string()));
        let was = serde_json::to_value(before.status).ok();
        let audit = AuditOp {
            action,
            object_type: "worker",
            object_id: id.to_owned(),
            by,
            before: state(was.as_ref().and_then(|was| was.as_str()).unwrap_or_default()),
            after: state(wanted),
        };
        match self.0.journal.ask(self.0.journal.idlest(), Op::Audit(audit), ASK_DEADLINE).await? {
            OpResult::Audited => {}
            _ => return Err(AskError::TimedOut),
        }
        control.steer(steer);
        let mut event = StreamEvent::new(action, self.0.clock.now());
        event.worker_id = Some(id.to_owned());
        self.0.hub.tell(vec![event]);
        for (_, facts) in self.0.sessions.all() {
            if facts.worker == before.worker_id {
                // Unheard, its session finds it at its next tick.
                drop(facts.door.try_send(SessionOp::Steered));
            }
        }
        // So that what is submitted behind the answer is not given to it.
        let obeyed = async {
            while !control.is_obeyed() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if tokio::time::timeout(OBEY_PATIENCE, obeyed).await.is_err() {
            tracing::warn!(
                worker.id = id,
                "a worker has not done what was asked yet; its next tick repeats it"
            );
        }
        Ok(self.worker(id).or(Some(before)))
    }
}

fn view(facts: &WorkerFacts, held: Held, now: Timestamp) -> WorkerView {
    let names = |names: &Option<std::collections::HashSet<String>>| match names {
        Some(names) => {
            let mut names: Vec<String> = names.iter().cloned().collect();
            names.sort_unstable();
            names
        }
        None => vec!["*".to_owned()],
    };
    WorkerView {
        worker_id: facts.worker.clone(),
        hostname: facts.hostname.to_string(),
        queues: names(&facts.queues),
        types: names(&facts.types),
        concurrency: facts.concurrency,
        status: facts.control.status(),
        started_at: facts.started_at,
        last_seen_at: facts.last_seen(),
        heartbeat_age_ms: now.millis_since(facts.last_seen()).max(0),
        active_lease_count: held.count,
        oldest_lease_age_ms: held.oldest.map(|(at, _)| now.millis_since(at).max(0)),
        oldest_lease_job_id: held.oldest.map(|(_, job)| job),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node_id: facts.node.to_string(),
        transport: "in_process".to_owned(),
    }
}
