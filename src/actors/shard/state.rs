//! How a queue's actors are built.

use std::sync::Arc;

use super::handle::ShardWaker;
use crate::{
    actors::{
        console::{HubHandle, StreamEvent},
        journal::JournalHandle,
        queue::{
            LEASE_SUPERVISORS, QueueActor, QueueArgs,
            core::{CoreConfig, DEFER_LOAD_MAX, DEFERRED_MAX},
            handle::QueueHandle,
            messages::QueueOp,
            window::WINDOW_MAX,
        },
        runtime::{ChildSpec, Exit, GiveUp, SupervisorSpec},
        worker::Sessions,
    },
    domain::{BootId, Clock, RetryPolicy, ShardEpoch},
    store::Store,
};

/// What every queue is built from.
#[derive(Debug, Clone)]
pub struct QueueParts {
    /// What is read.
    pub store: Arc<dyn Store>,
    /// What is written.
    pub journal: JournalHandle,
    /// The store's clock.
    pub clock: Arc<Clock>,
    /// This run of the node.
    pub boot: BootId,
    /// The sessions of the node.
    pub sessions: Arc<Sessions>,
    /// The streams.
    pub hub: HubHandle,
    /// The other shards.
    pub waker: ShardWaker,
    /// The retry policy of jobs that have none.
    pub retry: RetryPolicy,
    /// How long a lease lasts without a renewal.
    pub lease_ttl_ms: u64,
}

/// A queue's supervisor with its actors: the lease supervisors first, since the queue starts leases.
pub(super) fn queue_spec(parts: &QueueParts, queue: &QueueHandle, owner: ShardEpoch) -> ChildSpec {
    let name = queue.name().to_string();
    let mut spec = SupervisorSpec::new(name.as_str(), "queue_supervisor");
    for index in 0..LEASE_SUPERVISORS {
        spec = spec.child(lease_supervisor(index, queue).into_child());
    }
    let args = QueueArgs {
        handle: queue.clone(),
        config: CoreConfig {
            queue: name,
            owner,
            retry: parts.retry,
            lease_ttl_ms: parts.lease_ttl_ms,
            window_max: WINDOW_MAX,
            defer_load_max: DEFER_LOAD_MAX,
            deferred_max: DEFERRED_MAX,
        },
        store: parts.store.clone(),
        journal: parts.journal.clone(),
        clock: parts.clock.clone(),
        boot: parts.boot,
        sessions: parts.sessions.clone(),
        hub: parts.hub.clone(),
        shards: parts.waker.clone(),
    };
    let (hub, clock) = (parts.hub.clone(), parts.clock.clone());
    let child = ChildSpec::new("queue", "queue", move |context| {
        let args = args.clone();
        if let Some(reason) = &context.last_failure {
            let mut event = StreamEvent::new("actor.restarted", clock.now());
            event.queue = Some(args.handle.name().to_string());
            event.message = Some(format!("queue: {reason}"));
            hub.tell(vec![event]);
        }
        async move {
            let started =
                (args, context.probe.clone(), context.directory.clone(), context.supervisor.clone());
            Ok(context.spawn(QueueActor, started).await?.get_cell())
        }
    });
    let set_aside = queue.clone();
    let notify = Arc::new(move |reason: &str| set_aside.set_quarantine(Some(reason.to_owned())));
    let child = child.on_give_up(GiveUp::quarantine(Some(notify)));
    spec.child(child).into_child()
}

/// One of the supervisors that a queue's lease actors are spread over.
fn lease_supervisor(index: usize, queue: &QueueHandle) -> SupervisorSpec {
    let mut spec = SupervisorSpec::new(format!("leases-{index}"), "lease_supervisor");
    let queue = queue.clone();
    spec.on_leaf_exit = Some(Arc::new(move |cell, exit| {
        // One that was asked to stop is out of the map.
        let Some((_, (job, fence))) = queue.lease_actors().remove(&cell.get_id()) else { return };
        let reason = match exit {
            Exit::Normal(reason) => reason.clone().unwrap_or_else(|| "stopped".to_owned()),
            Exit::Failed(reason) => reason.clone(),
        };
        // Unheard, the lease runs on without an actor: its row and the wheel hold it.
        if !queue.tell(QueueOp::LeaseDown { job, fence, reason }) {
            tracing::warn!(job.id = %job, "no room to tell of a lease actor's end");
        }
    }));
    spec.shutdown_order = crate::actors::runtime::ShutdownOrder::Together;
    spec
}
