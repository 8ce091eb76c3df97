//! The supervision tree, as one list.

use std::{collections::HashSet, sync::Arc};

use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    actors::{
        console::{HubActor, HubArgs, HubHandle, StreamEvent},
        journal::{Entry, LaneActor, LaneArgs},
        operations::{OperationsActor, OperationsArgs, handle::OperationsHandle},
        platform::Platform,
        runtime::{ChildSpec, Door, DoorReceiver, Strategy, SupervisorSpec},
        shard::{ShardActor, ShardArgs, Shards},
        upkeep::{Round, UpkeepActor, UpkeepArgs},
        worker::{Sessions, WorkerActor, WorkerArgs, messages::SessionOp},
    },
    config::Config,
    domain::{ShardEpoch, WorkerId},
    worker::Registry,
};

/// How long shards take to stop with everything below them.
const SHARDS_SHUTDOWN: std::time::Duration = std::time::Duration::from_secs(10);

/// What the tree is grown from.
pub(super) struct Seeds {
    pub(super) lanes: Vec<(Door<Entry>, DoorReceiver<Entry>)>,
    pub(super) batches: TaskTracker,
    pub(super) round: Round,
    pub(super) hub: HubHandle,
    pub(super) hub_door: DoorReceiver<Vec<StreamEvent>>,
    pub(super) shards: Shards,
    pub(super) sessions: Arc<Sessions>,
    pub(super) handlers: Arc<Registry>,
    pub(super) node: String,
    pub(super) worker: WorkerId,
    pub(super) session_door: (Door<SessionOp>, DoorReceiver<SessionOp>),
    pub(super) stop_handlers: CancellationToken,
    pub(super) platform: Platform,
    pub(super) operations: OperationsHandle,
}

impl Seeds {
    /// The whole tree. What stands on another comes after it.
    pub(super) fn tree(self, config: &Config) -> SupervisorSpec {
        SupervisorSpec::new("node", "node")
            .strategy(Strategy::RestForOne)
            .intensity(5, std::time::Duration::from_secs(60))
            .child(self.store())
            .child(self.shards())
            .child(self.workers(config))
            .child(self.operations())
            // Nothing stands on it: its ring and its door outlive the actor.
            .child(self.console())
    }

    fn store(&self) -> ChildSpec {
        let mut spec = SupervisorSpec::new("store", "store");
        for (lane, (door, receiver)) in self.lanes.iter().enumerate() {
            let (store, door, receiver, tasks) =
                (self.round.store.clone(), door.clone(), receiver.clone(), self.batches.clone());
            let (turn, health) = (Arc::new(Semaphore::new(1)), self.round.journal.health(lane));
            spec = spec.child(ChildSpec::new(format!("lane-{lane}"), "lane", move |context| {
                context.probe.watch_door(&door);
                let args = LaneArgs {
                    health: health.clone(),
                    lane: u16::try_from(lane).unwrap_or(0),
                    store: store.clone(),
                    door: receiver.clone(),
                    tasks: tasks.clone(),
                    turn: turn.clone(),
                    probe: context.probe.clone(),
                };
                async move { Ok(context.spawn(LaneActor, args).await?.get_cell()) }
            }));
        }
        let round = self.round.clone();
        spec.child(ChildSpec::new("upkeep", "upkeep", move |context| {
            let args = UpkeepArgs { round: round.clone(), probe: context.probe.clone() };
            async move { Ok(context.spawn(UpkeepActor, args).await?.get_cell()) }
        }))
        .into_child()
    }

    fn operations(&self) -> ChildSpec {
        let (platform, handle) = (self.platform.clone(), self.operations.clone());
        ChildSpec::new("operations", "operations", move |context| {
            let probe = context.probe.clone();
            let args = OperationsArgs { platform: platform.clone(), handle: handle.clone(), probe };
            async move { Ok(context.spawn(OperationsActor, args).await?.get_cell()) }
        })
    }

    fn console(&self) -> ChildSpec {
        let (hub, door) = (self.hub.clone(), self.hub_door.clone());
        ChildSpec::new("console", "console", move |context| {
            context.probe.watch_door(hub.door());
            let args = HubArgs { handle: hub.clone(), door: door.clone(), probe: context.probe.clone() };
            async move { Ok(context.spawn(HubActor, args).await?.get_cell()) }
        })
    }

    fn shards(&self) -> ChildSpec {
        let mut spec = SupervisorSpec::new("shards", "shards");
        for owner in self.shards.epochs().iter() {
            spec = spec.child(self.shard(*owner));
        }
        spec.into_child().shutdown(SHARDS_SHUTDOWN)
    }

    fn shard(&self, owner: ShardEpoch) -> ChildSpec {
        let (shards, journal, tasks) =
            (self.shards.clone(), self.round.journal.clone(), self.batches.clone());
        let inbox = ChildSpec::new("inbox", "shard", move |context| {
            let args = ShardArgs {
                owner,
                shards: shards.clone(),
                journal: journal.clone(),
                tasks: tasks.clone(),
                probe: context.probe.clone(),
            };
            async move { Ok(context.spawn(ShardActor, args).await?.get_cell()) }
        });
        let spec = SupervisorSpec::new(owner.shard.0.to_string(), "shard_supervisor").child(inbox);
        spec.into_child().shutdown(SHARDS_SHUTDOWN)
    }

    fn workers(&self, config: &Config) -> ChildSpec {
        let mut spec = SupervisorSpec::new("workers", "workers");
        if config.concurrency() > 0 {
            let args = WorkerArgs {
                worker: self.worker.clone(),
                queues_served: config.worker_queue_names().map(HashSet::from_iter),
                concurrency: config.concurrency(),
                handlers: self.handlers.clone(),
                hostname: super::identity::hostname().into(),
                node: self.node.as_str().into(),
                lease_ttl: config.lease_ttl,
                heartbeat: config.heartbeat_interval,
                sessions: self.sessions.clone(),
                queues: self.shards.queues().clone(),
                hub: self.hub.clone(),
                clock: self.round.clock.clone(),
                door: self.session_door.0.clone(),
                receiver: self.session_door.1.clone(),
                stop_handlers: self.stop_handlers.clone(),
                probe: crate::actors::runtime::Probe::new("worker", "local"),
            };
            spec = spec.child(ChildSpec::new("local", "worker", move |context| {
                let args = WorkerArgs { probe: context.probe.clone(), ..args.clone() };
                async move { Ok(context.spawn(WorkerActor, args).await?.get_cell()) }
            }));
        }
        spec.into_child()
    }
}
